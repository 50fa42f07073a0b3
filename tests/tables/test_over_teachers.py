"""Rows of one configuration under several teachers, taken together in the plain table."""

import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from distill.runs.store import scan
from distill.tables.rendering import render
from distill.tables.table import Table, build

FILES = runpy.run_path(str(Path(__file__).with_name("store_files.py")))
add_seeds, TEACHER = FILES["add_seeds"], FILES["TEACHER"]


def taught_by(number: int, **facts: Any) -> dict[str, Any]:
    """A teacher of its own weights."""
    return TEACHER | {"run_id": f"{number}" * 12, "weights_sha256": f"{number}" * 64} | facts


def table_of(runs_dir: Path) -> Table:
    """The table of a whole store."""
    records = scan(runs_dir)
    return build(records, candidates=records)


def test_the_teacher_is_the_unit_however_many_students_it_has(runs_dir: Path) -> None:
    values = [[90.0, 91.0], [92.0, 92.5, 93.0], [89.0]]
    for number, accuracies in enumerate(values):
        add_seeds(runs_dir, accuracies, loss="kd", teacher=taught_by(number))
    add_seeds(runs_dir, [80.0, 81.0], loss="ce")
    (found,) = json.loads(render(table_of(runs_dir).content(), form="json"))["over_teachers"]
    means = [float(np.mean(each)) for each in values]
    interval = stats.t.interval(0.95, 2, loc=np.mean(means), scale=stats.sem(means))
    assert sorted(found["teachers"].values()) == pytest.approx(sorted(means))
    assert (found["mean"], found["between"]) == pytest.approx((np.mean(means), np.std(means, ddof=1)))
    assert found["within"] == pytest.approx(((1 * 0.5 + 2 * 0.25) / 3) ** 0.5)  # variances weighted by n - 1
    assert (found["low"], found["high"]) == pytest.approx(interval)


def test_it_is_said_below_the_table(runs_dir: Path) -> None:
    for number, accuracies in enumerate(([90.0, 91.0], [92.0, 93.0])):
        add_seeds(runs_dir, accuracies, loss="kd", teacher=taught_by(number))
    text = render(table_of(runs_dir).content(), form="terminal")
    assert "\nkd on resnet8 over 2 teachers: 91.50 [78.79, 104.21], between ± 1.41, within ± 0.71\n" in text
    assert text.count("over m teachers: the mean of the teachers' means") == 1


@pytest.mark.parametrize(
    "second",
    [
        {"teacher": taught_by(2, source="table")},
        {"teacher": taught_by(2), "precision": "bf16"},
        {"teacher": taught_by(2), "recipe": "cifar_short"},
        {"teacher": taught_by(2), "teacher_name": "resnet18"},
        {"teacher": taught_by(1), "overrides": {"temperature": 8.0}},
    ],
)
def test_what_differs_in_more_than_the_teachers_weights_stays_apart(runs_dir: Path, second: dict[str, Any]) -> None:
    add_seeds(runs_dir, [90.0, 91.0], loss="kd", teacher=taught_by(1))
    add_seeds(runs_dir, [92.0, 93.0], loss="kd", **second)
    assert table_of(runs_dir).over == []


def test_the_plain_table_is_a_page_too(runs_dir: Path) -> None:
    add_seeds(runs_dir, [90.0, 91.0], loss="kd")
    found = render(table_of(runs_dir).content(), form="html")
    assert '<th scope="row">kd</th>' in found
    assert '<td class="number">90.50 ± 0.71</td>' in found
    assert found.startswith("<!doctype html>")
