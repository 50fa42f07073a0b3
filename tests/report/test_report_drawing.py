"""Drawings: text overlaps neither lines nor other text, and every method has one style in all figures."""

import re
from pathlib import Path
from typing import Any

import pytest
from matplotlib.axes import Axes

from distill.report.drawing import COLOURS, Style, band, drawing, line, run_styles, style_of
from distill.report.runs import make_report
from distill.report.sections.errors import draw_errors
from distill.report.sweep_page import draw_methods
from distill.report.table_page import draw_cells

ROOT = Path(__file__).resolve().parents[2]


def places(svg: str, *words: str) -> list[float]:
    """How far below the top each of the words stands, in points."""
    return [float(re.search(rf'y="([\d.]+)"[^>]*>{re.escape(each)}</text>', svg)[1]) for each in words]


def drawn_cell(mean: float) -> dict[str, Any]:
    return {"values": [], "n": 1, "mean": mean, "deviation": None, "by_seed": {"1": mean}, "chosen": False}


def test_a_legend_above_leaves_the_lines_alone() -> None:
    with drawing(1, 1, height=4.0) as drawn:
        (axes,) = drawn.panels
        for place in range(7):
            line(
                axes, [0, 1], [place, 1 - place], style_of("kd", occurrence=place), f"a long name of a method, {place}"
            )
        drawn.legend_above(axes, "the title")
        drawn.svg()
        legend, box = axes.get_legend(), axes.get_window_extent()
        assert legend is not None
        assert legend.get_window_extent().y0 > box.y1
        assert legend.get_window_extent().y1 < drawn.figure.bbox.y1
        assert legend.get_title().get_text() == "the title"


def test_names_of_neighbouring_classes_stand_on_lines_of_their_own() -> None:
    errors = {
        "classes": ["ant", "bee", "cow", "dog"],
        "error": {"a": [40.0, 36.0, 60.0, 80.0], "b": [50.0, 46.0, 52.0, 71.0]},
    }
    svg = draw_errors(errors, {"a": style_of("kd")}, of="a", against=["b"])
    ant, bee = places(svg, "ant", "bee")
    assert bee - ant >= 10.5
    errors["error"]["a"][1] = 40.0  # as high as the other
    ant, bee = places(draw_errors(errors, {"a": style_of("kd")}, of="a", against=["b"]), "ant", "bee")
    assert abs(bee - ant) >= 10.5


def test_panels_of_methods_are_as_high_as_their_rows_need(monkeypatch: pytest.MonkeyPatch) -> None:
    heights: dict[str, float] = {}
    set_title = Axes.set_title

    def noted(axes: Axes, label: str, **words: Any) -> Any:
        heights[label] = axes.get_position().height
        return set_title(axes, label, **words)

    monkeypatch.setattr(Axes, "set_title", noted)
    curves = [
        {"label": name, "preset": name, "cells": [drawn_cell(60.0)]} for name in ("ce", "kd", "zscore_kd", "dkd", "crd")
    ]
    shared = {"dataset": "digits", "holdout": 0, "measured_on": "the test set"}
    panels = [{"student": "one", "curves": curves[:1], **shared}, {"student": "five", "curves": curves, **shared}]
    draw_methods({"keys": [], "panels": panels})
    assert heights["five, digits"] == pytest.approx(3 * heights["one, digits"])


@pytest.mark.parametrize("published", [None, 70.66])
def test_what_was_published_is_in_the_key_where_something_was(published: float | None) -> None:
    cell = {
        "label": "KD",
        "preset": "kd",
        "values": {"1": 71.0},
        "mean": 71.0,
        "deviation": None,
        "published": published,
    }
    assert ("published" in draw_cells({"columns": {"a pair": [cell]}})) is (published is not None)


def shipped() -> list[str]:
    """The names of all loss presets."""
    folder = ROOT / "configs" / "loss"
    return sorted(str(path.relative_to(folder).with_suffix("")) for path in folder.rglob("*.yaml"))


def test_no_two_presets_have_one_style() -> None:
    styles = {name: style_of(name) for name in shipped()}
    assert len(styles) >= 50
    assert len(set(styles.values())) == len(styles)


def test_the_headline_methods_have_colours_of_their_own() -> None:
    names = ("ce", "kd", "zscore_kd", "kd_w9_t2", "zscore_kd_w09", "kd_w09_t2", "dkd")
    assert {style_of(name).colour for name in names} == set(COLOURS)
    assert {style_of(name).dash for name in names} == {"-"}
    assert style_of("zscore_kd").colour == style_of("zscore_kd_paper").colour == "#D55E00"
    assert style_of("kd").colour == style_of("imagenet/kd_paper").colour == "#0072B2"


def test_runs_of_one_method_have_its_colour_and_different_styles(make_run) -> None:
    runs = [make_run(f"id{seed}", loss="kd", seed=seed) for seed in (1, 2, 3)]
    found = make_report(runs[0], runs[1:], None, images=None)
    assert [each.label for each in found.students] == ["kd, seed 2", "kd, seed 3", "kd, seed 1"]
    styles = run_styles(found)
    assert {each.colour for each in styles.values()} == {style_of("kd").colour}
    assert len(set(styles.values())) == 3


def test_a_band_has_a_gap_where_its_width_is_unknown() -> None:
    with drawing(1, 1, height=2.0, width=4.0) as drawn:
        axes = drawn.panels[0]
        band(axes, [1, 2, 3, 4, 5], [70.0] * 5, [0.3, 0.3, None, 0.3, 0.3], "#000000")
        (parts,) = axes.collections
        assert [sorted({x for x, _ in path.vertices}) for path in parts.get_paths()] == [[1, 2], [4, 5]]


def test_a_preset_of_ones_own_keeps_its_style() -> None:
    assert style_of("mine") == style_of("mine") == Style(*vars(style_of("mine")).values())
    assert style_of("mine").colour in COLOURS


def test_labels_are_unique_and_no_longer_than_needed(make_run) -> None:
    one, two, three = make_run("a", loss="kd"), make_run("b", loss="zscore_kd"), make_run("c", loss="kd")
    assert [each.label for each in make_report(one, [two], None, images=None).students] == ["zscore_kd", "kd"]
    same = make_report(one, [two, three], None, images=None)
    assert [each.label for each in same.students] == ["zscore_kd, b", "kd, c", "kd, a"]
