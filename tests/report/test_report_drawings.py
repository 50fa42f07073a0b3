"""Drawings in which no words run into lines or other words, and that show what there is."""

import re
from typing import Any

import pytest
from matplotlib.axes import Axes

from distill.report.figures.drawing import drawing, line
from distill.report.figures.errors import draw_errors
from distill.report.looks import look_of
from distill.report.published.drawings import draw_cells
from distill.report.sweeps.drawings import draw_methods


def places(svg: str, *words: str) -> list[float]:
    """How far below the top each of the words stands, in points."""
    return [float(re.search(rf'y="([\d.]+)"[^>]*>{re.escape(each)}</text>', svg)[1]) for each in words]


def drawn_cell(mean: float) -> dict[str, Any]:
    return {"values": [], "n": 1, "mean": mean, "deviation": None, "by_seed": {"1": mean}, "chosen": False}


def test_a_legend_above_leaves_the_lines_alone() -> None:
    with drawing(1, 1, height=4.0) as sketch:
        (axes,) = sketch.flat
        for place in range(7):
            line(axes, [0, 1], [place, 1 - place], look_of("kd", occurrence=place), f"a long name of a method, {place}")
        sketch.legend_above(axes, "the title")
        sketch.svg()
        legend, box = axes.get_legend(), axes.get_window_extent()
        assert legend is not None
        assert legend.get_window_extent().y0 > box.y1
        assert legend.get_window_extent().y1 < sketch.figure.bbox.y1
        assert legend.get_title().get_text() == "the title"


def test_names_of_neighbouring_classes_stand_on_lines_of_their_own() -> None:
    errors = {
        "classes": ["ant", "bee", "cow", "dog"],
        "error": {"a": [40.0, 36.0, 60.0, 80.0], "b": [50.0, 46.0, 52.0, 71.0]},
    }
    svg = draw_errors(errors, {"a": look_of("kd")}, of="a", against=["b"])
    ant, bee = places(svg, "ant", "bee")
    assert bee - ant >= 10.5
    errors["error"]["a"][1] = 40.0  # as high as the other
    ant, bee = places(draw_errors(errors, {"a": look_of("kd")}, of="a", against=["b"]), "ant", "bee")
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
