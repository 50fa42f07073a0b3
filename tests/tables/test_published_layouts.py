"""A published table beside a store of synthetic runs: its exact text, and its figures computed a second way."""

import csv
import io
import json
import math
import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from distill.cli import main
from distill.runs.store import scan
from distill.tables.cells import MeasuredTable, measure_table
from distill.tables.published import load
from distill.tables.published_data import content
from distill.tables.rendering import render
from distill.tables.statistics import blocks

STORE = runpy.run_path(str(Path(__file__).with_name("published_store.py")))
add, add_all = STORE["add"], STORE["add_all"]
PAIR = "resnet56_resnet20"
CE, KD, ZSCORE = [69.0, 69.4, 69.2], [70.62, 70.48, 70.71, 70.55], [71.3, 71.6, 71.4]
BEST = [0.1, 0.2, 0.15]

TERMINAL = """\
CIFAR-100, teacher and student of the same family (Table 2)

pair                  method        published  published rule        ours, last epoch
--------------------  ------------  ---------  --------------------  ----------------
resnet56 -> resnet20  Student           69.06  last, runs unknown        69.20 ± 0.20
resnet56 -> resnet20  KD                70.66  last, 5 runs              70.59 ± 0.10
resnet56 -> resnet20  KD + Z-score      71.43  best on test, 4 runs      71.43 ± 0.15
resnet56 -> resnet20  DKD               71.97  best on test, 5 runs                 -

pair                  method        best epoch (chosen on the test set)  n                           teacher (published)
--------------------  ------------  -----------------------------------  --------------------------  -------------------
resnet56 -> resnet20  Student                              69.20 ± 0.20  3 student seeds                               -
resnet56 -> resnet20  KD                                   70.59 ± 0.10  4 student seeds, 1 teacher        72.10 (72.34)
resnet56 -> resnet20  KD + Z-score                         71.58 ± 0.20  3 student seeds, 1 teacher        72.10 (72.34)
resnet56 -> resnet20  DKD                                             -  -                                             -

pair                  method            ours - published  verdict
--------------------  ------------  --------------------  --------------------------------------------------------------
resnet56 -> resnet20  Student       +0.14 [-0.85, +1.13]  undecided: no number of runs decides, published noise is ±0.39
resnet56 -> resnet20  KD            -0.07 [-0.28, +0.14]  reproduced
resnet56 -> resnet20  KD + Z-score  +0.15 [-0.51, +0.82]  undecided, 6 runs needed
resnet56 -> resnet20  DKD                              -  -

pair                  method          difference from KD                                paired  p (Holm)
--------------------  ------------  --------------------  ------------------------------------  --------
resnet56 -> resnet20  Student       -1.39 [-1.81, -0.97]  -1.40 [-2.11, -0.69] 3 seeds r=-0.60     0.005
resnet56 -> resnet20  KD                        baseline                                     -         -
resnet56 -> resnet20  KD + Z-score  +0.84 [+0.53, +1.15]  +0.83 [+0.21, +1.45] 3 seeds r=-0.74     0.005
resnet56 -> resnet20  DKD                              -                                     -         -

pair                  method        to fill
--------------------  ------------  -----------------------------------------------------------------------------------------------------
resnet56 -> resnet20  Student       -
resnet56 -> resnet20  KD            -
resnet56 -> resnet20  KD + Z-score  -
resnet56 -> resnet20  DKD           distill train -m experiment=cifar100/resnet56_resnet20 loss=dkd_paper seed=1,2,3  # about 60 min each
"""  # noqa: E501


@pytest.fixture
def store(runs_dir: Path) -> Path:
    """One pair with one teacher: a baseline, KD and Z-score KD."""
    for loss, accuracies, gains in (("ce", CE, None), ("kd", KD, None), ("zscore_kd", ZSCORE, BEST)):
        add_all(runs_dir, accuracies, loss=loss, gains=gains, teacher_accuracy=72.1)
    return runs_dir


@pytest.fixture
def teachers(runs_dir: Path) -> Path:
    """Three teachers of two students each."""
    for seed, (weights, shift) in enumerate({"a1b2": 0.0, "c3d4": 0.3, "e5f6": -0.2}.items()):
        of = {"weights": weights, "teacher_seed": seed}
        add_all(runs_dir, [70.6 + shift, 70.7 + shift], loss="kd", **of)
        add_all(runs_dir, [71.3 + shift, 71.6 + shift / 2], loss="zscore_kd", **of)
    add_all(runs_dir, [69.0, 69.3], loss="ce")
    return runs_dir


def measured(
    runs_dir: Path, *, rows: tuple[str, ...] = (), columns: tuple[str, ...] = (PAIR,), seeds: int = 3
) -> MeasuredTable:
    """A part of Table 2 beside a store."""
    table = load("cifar100_same")
    shown = table.only(rows=rows, columns=columns)
    return measure_table(table, scan(runs_dir), shown=shown, seeds=range(1, seeds + 1))


def document(runs_dir: Path, **options: Any) -> dict[tuple[str, str], Any]:
    """The cells of the JSON document by row and column."""
    text = render(content(measured(runs_dir, **options)), form="json")
    return {(cell["row"], cell["column"]): cell for cell in json.loads(text)["cells"]}


def test_the_text_of_a_terminal(store: Path) -> None:
    found = render(content(measured(store, rows=("ce", "kd", "zscore_kd", "dkd"))), form="terminal", width=120)
    table, source, below = found.partition("\nsource: Sun et al.")
    assert table == TERMINAL
    assert source
    assert "1 of 4 cells lack some of the 3 seeds: `distill fill table=cifar100_same` trains them" in below
    assert "adjusted for all 2 differences of the table" in below


def test_the_difference_that_the_seeds_do_not_resolve(store: Path) -> None:
    found = blocks([dict(enumerate(values[:3])) for values in (CE, KD, ZSCORE)])
    assert found is not None
    words = (
        f"not resolved (95 %, paired by seed) below about {found.least:.2f} points for resnet56 -> resnet20 "
        f"(standard deviation {found.deviation:.2f}, pooled over 3 rows of 3 seeds, 4 degrees of freedom)"
    )
    assert words in render(content(measured(store)), form="terminal", width=120)
    pair = {"student": "resnet8x4", "teacher": "resnet32x4"}
    for loss, weight, values in (("kd_w9_t2", 9.0, KD), ("zscore_kd", 9.0, ZSCORE), ("zscore_kd", 3.0, CE)):
        add_all(store, values[:3], loss=loss, kd_weight=weight, **pair)
    table = load("ablation")
    found_there = measure_table(table, scan(store), shown=table, seeds=(1, 2, 3))
    ablation = render(content(found_there), form="terminal", width=120)
    assert f"below about {found.least:.2f} points for all cells" in ablation  # its columns are compared with each other
    add_all(store, KD, loss="kd", weights="c3d4", teacher_seed=1)  # then methods are compared over teachers
    assert "not resolved" not in render(content(measured(store)), form="terminal", width=120)


def test_a_table_of_one_difference(runs_dir: Path) -> None:
    for loss, accuracies in (("kd", KD[:2]), ("zscore_kd", ZSCORE[:2])):
        add_all(runs_dir, accuracies, loss=loss)
    found = render(content(measured(runs_dir, rows=("kd", "zscore_kd"), seeds=2)), form="terminal", width=120)
    assert "adjusted for the only difference of the table" in found
    assert "pooled over 2 rows of 2 seeds, 1 degree of freedom)" in found


def test_filters_choose_what_is_shown_and_not_what_is_missing(
    runs_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The teacher is a run of its own, which the filter leaves out."""
    monkeypatch.chdir(runs_dir.parent)
    (teacher,) = add_all(runs_dir, [72.0], loss="ce", student="resnet56")
    add_all(runs_dir, KD, loss="kd", given_as=teacher)
    add_all(runs_dir, ZSCORE, loss="zscore_kd", given_as=teacher)
    words = ["table", "table=cifar100_same", "rows=kd,zscore_kd", f"columns={PAIR}", "seeds=3", f"runs_dir={runs_dir}"]
    assert main([*words, "loss=kd"]) == 0
    printed = capsys.readouterr()
    assert "70.59 ± 0.10" in printed.out
    assert "71.43 ± 0.15" not in printed.out
    assert "distill train" not in printed.out
    assert "cells lack" not in printed.err


def test_the_verdicts_computed_a_second_way(store: Path) -> None:
    cells = document(store)

    def expected(values: list[float], published: float, runs: int) -> list[float]:
        half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) * math.sqrt(1 / len(values) + 1 / runs)
        return [float(np.mean(values) - published - half), float(np.mean(values) - published + half)]

    best = [value + gain for value, gain in zip(ZSCORE, BEST, strict=True)]
    for row, values, published, runs, word in (
        ("ce", CE, 69.06, 1, "undecided"),  # the number of runs is not published
        ("kd", KD, 70.66, 5, "reproduced"),
        ("zscore_kd", best, 71.43, 4, "undecided"),  # of the best epoch, as the published one
    ):
        (line,) = cells[row, PAIR]["lines"]
        assert [line["verdict"]["low"], line["verdict"]["high"]] == pytest.approx(expected(values, published, runs))
        assert line["verdict"]["word"] == word
    (line,) = cells["zscore_kd", PAIR]["lines"]
    assert (line["last"]["mean"], line["last"]["deviation"]) == pytest.approx((np.mean(ZSCORE), np.std(ZSCORE, ddof=1)))
    assert line["best"]["values"] == pytest.approx(best)


def test_differences_and_holm_computed_a_second_way(store: Path) -> None:
    cells = document(store)
    p = {
        row: stats.ttest_ind(values, KD, equal_var=False).pvalue for row, values in (("ce", CE), ("zscore_kd", ZSCORE))
    }
    small, large = sorted(p, key=p.__getitem__)
    adjusted = {small: 2 * p[small], large: max(2 * p[small], p[large])}
    for row, values in (("ce", CE), ("zscore_kd", ZSCORE)):
        found = cells[row, PAIR]["lines"][0]["difference"]
        welch = stats.ttest_ind(values, KD, equal_var=False).confidence_interval(0.95)
        paired = stats.ttest_rel(values, KD[:3]).confidence_interval(0.95)
        assert (found["welch_low"], found["welch_high"]) == pytest.approx((welch.low, welch.high))
        assert (found["paired_low"], found["paired_high"]) == pytest.approx((paired.low, paired.high))
        assert found["correlation"] == pytest.approx(np.corrcoef(values, KD[:3])[0, 1])
        assert (found["welch_p"], found["holm_p"]) == pytest.approx((p[row], adjusted[row]))
        assert found["baseline"] == f"kd, {PAIR}"
    assert cells["kd", PAIR]["lines"][0]["difference"]["points"] is None


def test_teachers_with_equal_means_have_no_interval(runs_dir: Path) -> None:
    for seed, weights in enumerate(("a1b2", "c3d4")):
        add_all(runs_dir, [71.0, 71.4], loss="kd", teacher_seed=seed, weights=weights)
    assert document(runs_dir)["kd", PAIR]["lines"][-1]["half_interval"] is None
    assert "71.20 [" not in render(content(measured(runs_dir)), form="terminal", width=120)


def test_over_several_teachers_computed_a_second_way(teachers: Path) -> None:
    *single, over = document(teachers)["zscore_kd", PAIR]["lines"]
    values = np.array([[71.3 + shift, 71.6 + shift / 2] for shift in (0.0, 0.3, -0.2)])
    means = values.mean(axis=1)
    assert [line["unit"] for line in single] == ["seed"] * 3
    assert (over["unit"], over["teachers"], over["student_seeds"]) == ("teacher", 3, 6)
    assert (over["last"]["mean"], over["last"]["deviation"]) == pytest.approx((means.mean(), means.std(ddof=1)))
    assert over["within_deviation"] == pytest.approx(math.sqrt(values.var(axis=1, ddof=1).mean()))
    half = stats.t.ppf(0.975, 2) * means.std(ddof=1) / math.sqrt(3)
    assert over["half_interval"] == pytest.approx(half)
    # the published cell is of one teacher, so its noise is that between teachers
    noise = stats.t.ppf(0.975, 2) * means.std(ddof=1) * math.sqrt(1 / 3 + 1)
    assert over["verdict"]["high"] == pytest.approx(means.mean() - 71.43 + noise)
    of_kd = np.array([70.65, 70.95, 70.45])
    welch = stats.ttest_ind(means, of_kd, equal_var=False)
    assert over["difference"]["welch_p"] == pytest.approx(welch.pvalue)
    paired = stats.ttest_rel(means, of_kd).confidence_interval(0.95)
    assert over["difference"]["paired_low"] == pytest.approx(paired.low)
    # the family holds the row over teachers and the student alone, not the single teachers
    assert [line["difference"]["holm_p"] for line in single] == [None] * 3
    ce = document(teachers)["ce", PAIR]["lines"][0]["difference"]
    alone = stats.ttest_ind([69.0, 69.3], of_kd, equal_var=False).pvalue
    assert sorted([over["difference"]["holm_p"], ce["holm_p"]]) == pytest.approx(
        sorted([min(1, 2 * min(alone, welch.pvalue)), max(2 * min(alone, welch.pvalue), alone, welch.pvalue)])
    )


def test_a_line_is_compared_with_the_baseline_of_its_own_teacher(teachers: Path) -> None:
    first, second, third, _ = document(teachers)["zscore_kd", PAIR]["lines"]
    gains = [line["difference"]["points"] for line in (first, second, third)]
    assert gains == pytest.approx([71.45 - 70.65, 71.675 - 70.95, 71.3 - 70.45])
    assert [line["teacher"] for line in (first, second, third)] == [f"resnet56 {w}" for w in ("a1b2", "c3d4", "e5f6")]


def test_runs_of_unlike_precision_are_neither_averaged_nor_compared(store: Path) -> None:
    add_all(store, [72.0, 72.4], loss="zscore_kd", precision="bf16", gains=[0.0, 0.0])
    bf16, fp32 = document(store)["zscore_kd", PAIR]["lines"]
    assert (bf16["qualifiers"], bf16["last"]["mean"], fp32["last"]["mean"]) == (
        "bf16",
        72.2,
        pytest.approx(np.mean(ZSCORE)),
    )
    assert bf16["difference"]["points"] is None
    text = render(content(measured(store, rows=("zscore_kd",))), form="plain")
    assert "zscore_kd (resnet56, bf16)\t" in text


def test_the_family_and_the_figures_do_not_depend_on_what_is_shown(store: Path) -> None:
    whole, part = document(store), document(store, rows=("zscore_kd",))
    assert list(part) == [("zscore_kd", PAIR)]
    assert part["zscore_kd", PAIR] == whole["zscore_kd", PAIR]


def test_markdown_has_the_papers_layout_first(store: Path) -> None:
    found = render(content(measured(store, rows=("kd", "zscore_kd"))), form="markdown").splitlines()
    table = [line for line in found if line.startswith("|")]
    assert table[:10] == [
        "| method |  | resnet56 -> resnet20 |",
        "| --- | --- | ---: |",
        "| Teacher | published | 72.34 |",
        "|  | ours | 72.10 |",
        "| KD | published, last, 5 runs | 70.66 |",
        "|  | ours, last epoch (n) | 70.59 ± 0.10 (4) |",
        "|  | ours, best epoch (chosen on the test set) | 70.59 ± 0.10 |",
        "|  | verdict | reproduced |",
        "| KD + Z-score | published, best on test, 4 runs | 71.43 |",
        "|  | ours, last epoch (n) | 71.43 ± 0.15 (3) |",
    ]
    details = found[found.index("Our cells") :]
    assert next(line for line in details if line.startswith("|")).startswith("| method | published |")
    assert "Missing cells" not in found


def test_a_teacher_of_whom_nothing_is_published_is_named(store: Path) -> None:
    shown = measured(store, rows=("kd",))
    columns = [replace(column, teacher_accuracy=None) for column in shown.shown.columns]
    shown = replace(shown, shown=replace(shown.shown, columns=tuple(columns)))
    assert "| Teacher | ours | 72.10 |" in render(content(shown), form="markdown").splitlines()


def test_latex_is_two_tables_and_no_commands(store: Path) -> None:
    found = render(content(measured(store)), form="latex")
    assert found.count("\\begin{tabular}") == found.count("\\end{tabular}") == found.count("\\bottomrule") == 2
    assert "distill train" not in found
    assert "KD & published, last, 5 runs & 70.66 \\\\" in found


def test_html_is_one_page_that_needs_nothing(store: Path) -> None:
    found = render(content(measured(store)), form="html")
    assert found.count("<table>") == 3
    assert "prefers-color-scheme: dark" in found
    assert not any(word in found for word in ("http", "<script", "<link", "url("))
    assert '<th scope="row">KD</th>' in found
    assert '<td class="number">70.59 ± 0.10 (4)</td>' in found
    assert "resnet56 -&gt; resnet20" in found


def test_csv_has_one_line_a_line_of_a_cell_and_equal_columns(teachers: Path) -> None:
    text = render(content(measured(teachers, rows=("ce", "kd", "dkd"))), form="csv")
    lines = list(csv.DictReader(io.StringIO(text)))
    assert [(line["row"], line["ours.unit"]) for line in lines] == [
        ("ce", "seed"),
        *[("kd", "seed")] * 3,
        ("kd", "teacher"),
        ("dkd", ""),
    ]
    assert lines[5]["published.accuracy"] == "71.97"
    assert lines[5]["published.weights"] == "ce_weight=1 target_weight=1 nontarget_weight=2"
    assert lines[5]["command"].startswith("distill train -m experiment=")


def test_what_is_missing_joins_the_fullest_line(runs_dir: Path) -> None:
    add(runs_dir, 70.0, loss="kd")
    add_all(runs_dir, [70.0, 70.2], loss="kd", precision="bf16", teacher_seed=2, weights="c3d4")
    (cell,) = document(runs_dir, rows=("kd",), seeds=4).values()
    assert cell["missing_seeds"] == [3, 4]
    assert cell["command"] == (
        f"distill train -m experiment=cifar100/{PAIR} loss=kd precision=bf16 teacher.seed=2 seed=3,4"
    )


def test_a_table_without_a_run_shows_what_is_published_and_how_to_fill_it(runs_dir: Path) -> None:
    table = load("ablation")
    shown = measure_table(table, scan(runs_dir), seeds=(1,))
    header, *lines = render(content(shown), form="terminal").splitlines()[2:]
    assert header.split() == ["pair", "method", "published", "published", "rule", "to", "fill"]
    assert sum("distill train experiment=" in line for line in lines) == 28
    assert any("loss=zscore_kd loss.kd_weight=18.0 seed=1  # time unknown" in line for line in lines)


def test_the_ablation_compares_along_its_rows(runs_dir: Path) -> None:
    pair = {"student": "resnet8x4", "teacher": "resnet32x4"}
    add_all(runs_dir, [73.0, 73.4], loss="kd_w9_t2", **pair)
    add_all(runs_dir, [76.0, 76.5], loss="zscore_kd", **pair)
    table = load("ablation")
    (row,) = measure_table(table, scan(runs_dir)).rows["weight_9", "zscore"]
    assert row.difference is not None
    assert row.difference.points == pytest.approx(76.25 - 73.2)
    assert row.difference.baseline.cell is not None
    assert row.difference.baseline.cell.column == "plain"


def test_what_cannot_be_trained_says_why(runs_dir: Path) -> None:
    table = load("imagenet")
    found = render(content(measure_table(table, [], seeds=(1, 2))), form="terminal")
    assert "71.42/90.29" in found
    assert "independent reruns: 71.23 (" in found
    assert "13 cells not trainable: the settings of this number on ImageNet were not published" in found
    assert "2 cells not trainable: these weights are published, nothing is trained" in found
    assert "17 of 36 cells lack some of the 2 seeds: `distill fill table=imagenet` trains them" in found
