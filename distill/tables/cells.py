"""Finished runs in the cells of a published table, and the commands that train what is missing.

A run fills a cell when its recorded configuration (`config` of its config.yaml, not the names it was given) equals the
cell's, value by value: data set, student, loss, recipe; for a loss with a teacher also the teacher's network, and
either its loss and recipe or the name of its published weights. So the preset may have another name (`zscore_kd_paper`
at 2 and 9 is `zscore_kd`), but a run of 10 epochs, on held-out images, on part of the data or with another weight fills
no cell of 240 epochs. Seeds, data location, device, engine, live or table teacher, and precision may differ. Runs that
differ in the last two are shown in separate rows (`rows.group`), as are runs with different teacher weights. A teacher
given as a finished run (`teacher.run=ID`, imported ones included) must be the cell's network; its training may differ,
and since its weights differ, so does its row.
"""

import json
import shlex
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

from distill.config.compose.remembered import declared
from distill.runs.store import RunRecord
from distill.runs.target_names import with_current_names
from distill.tables.comparison import compare_cells
from distill.tables.naming import qualifiers, teacher_names
from distill.tables.presets import Values, comparable
from distill.tables.published import Cell, Key, PublishedTable
from distill.tables.rows import FinishedRun, Row, distinct, group, over_teachers, read_finished
from distill.tables.values import PLACES, to_text

# dataset.resize over dataset.size where resize is not set, as in distill/data/image_folder.py, which imports torch
RESIZE = {"distill.data.image_folder": 8 / 7, "distill.data.imagenet": 8 / 7, "distill.data.imagenette": 9 / 8}
# keys of `teacher` that choose published weights, and how they see the images; older runs have none of these keys
PUBLISHED_WEIGHTS = ("pretrained", "weights", "input", "classes", "mean", "std")


@dataclass(frozen=True, eq=False)
class Facts:
    """The configuration values of a run, or those that a cell requires, ready to be compared."""

    data: Values
    student: Values
    loss: Values
    recipe: Values
    teacher: Values
    teacher_training: Values
    needs_no_teacher: bool  # of a cell: its loss is the one that its teacher is trained with

    @staticmethod
    def of(config: Mapping[str, Any]) -> "Facts":
        """The facts of a resolved configuration; the place of the data is left out."""
        config = with_current_names(config)  # a preset of the user's may hold former names
        dataset = {key: value for key, value in (config.get("dataset") or {}).items() if key not in PLACES}
        if dataset.get("_target_") in RESIZE and dataset.get("resize") is None and "size" in dataset:
            dataset["resize"] = round(dataset["size"] * RESIZE[dataset["_target_"]])
        teacher = config.get("teacher") or {}
        training = {key: teacher[key] for key in PUBLISHED_WEIGHTS if teacher.get(key) not in (None, False, "stream")}
        if not {"pretrained", "weights"} & training.keys():  # nothing is trained where weights are published
            training |= {key: teacher.get(key) for key in ("loss", "recipe")}
        start = {"student.weights": config["start"]["weights"]} if config.get("start") else {}
        return Facts(
            data=comparable(dataset, prefix="dataset"),
            student={**comparable(config.get("student"), prefix="student"), **start},
            loss=comparable(config.get("loss"), prefix="loss"),
            recipe=comparable(config.get("recipe"), prefix="recipe"),
            teacher=comparable(teacher.get("network"), prefix="teacher.network"),
            teacher_training=comparable(training, prefix="teacher"),
            needs_no_teacher=config.get("loss") == teacher.get("loss"),
        )

    @cached_property
    def method(self) -> str:
        """Data set, student and loss as one comparable text, whatever else differs."""
        return json.dumps([self.data.get("dataset._target_"), self.student, self.loss], sort_keys=True, default=str)

    @cached_property
    def cost(self) -> str:
        """Data, student and recipe as one comparable text: runs that are equal in them take about the same time."""
        return json.dumps([self.data, self.student, self.recipe], sort_keys=True, default=str)


@dataclass(frozen=True)
class MeasuredTable:
    """A published table with our rows in its cells, compared with its baseline.

    table      all of it: differences, and the family of tests that they belong to, are those of the whole table
    shown      the rows and columns to be shown
    rows       of each cell: one for every teacher and precision, then those over several teachers
    existing   the same of all runs, where `rows` are those of chosen ones: what is missing depends on these
    wanted     what a run must have to fill the cell
    runs       all finished runs of the store
    elsewhere  how many runs of the table's methods and students fill no cell, by what differs
    tests      the number of differences whose p-values are adjusted together
    seeds      that every cell should have
    runs_dir, config_dir  as given by hand, so that every command about the table needs them too
    """

    table: PublishedTable
    shown: PublishedTable
    rows: Mapping[Key, tuple[Row, ...]]
    existing: Mapping[Key, tuple[Row, ...]]
    wanted: Mapping[Key, Facts]
    runs: tuple[tuple[FinishedRun, Facts], ...]
    elsewhere: Mapping[str, int]
    tests: int
    seeds: tuple[int, ...]
    runs_dir: str | None
    config_dir: Path | None

    def of(self, cell: Cell) -> tuple[Row, ...]:
        """The rows of a cell, none where it is missing."""
        return self.rows.get((cell.row, cell.column), ())

    def fullest(self, cell: Cell) -> Row | None:
        """The row of one teacher with the most runs, the first of several; None where the cell is missing."""
        rows = self.existing.get((cell.row, cell.column), ())
        return max((row for row in rows if not row.members), key=lambda row: len(row.runs), default=None)

    def missing(self, cell: Cell) -> list[int]:
        """The seeds that the fullest row of a cell lacks; none where the cell cannot be trained."""
        row = self.fullest(cell)
        existing = {run.seed for run in row.runs} if row else set()
        return [seed for seed in self.seeds if seed not in existing] if cell.overrides else []

    def is_baseline(self, cell: Cell) -> bool:
        """Whether other cells are compared with this one."""
        return bool(self.baseline) and self.table.baseline_of(cell) is None

    @property
    def baseline(self) -> str:
        """The label of the row or column that the others are compared with, empty where there is none."""
        if self.table.baseline_row:
            return self.table.row(self.table.baseline_row).label
        return self.table.column(self.table.baseline_column).label if self.table.baseline_column else ""

    @property
    def fill_command(self) -> str:
        """The command that trains everything the table lacks."""
        return shlex.join(["distill", "fill", f"table={self.shown.name}", *self._places])

    def command(self, cell: Cell) -> str:
        """The command that trains the missing seeds of a cell, with the teacher and precision of its fullest row."""
        seeds, row = self.missing(cell), self.fullest(cell)
        if not seeds:
            return ""
        words = ["distill", "train", *(["-m"] if len(seeds) > 1 else []), *cell.overrides]
        words += [*(_joining(row) if row else []), f"seed={','.join(map(str, seeds))}", *self._places]
        return shlex.join(words)

    def seconds(self, cell: Cell) -> float | None:
        """The mean seconds of finished runs of the cell's student, data and recipe, None where there are none.

        Of the cell's own loss where there are such runs, else of any loss with the same teacher's network, whose
        forward pass is the main difference in time. A loss without a teacher has only its own.
        """
        wanted = self.wanted.get((cell.row, cell.column))
        if wanted is None:
            return None
        alike = [(run, facts) for run, facts in self.runs if run.seconds and facts.cost == wanted.cost]
        chosen = [run for run, facts in alike if facts.method == wanted.method]
        if not chosen and not wanted.needs_no_teacher:
            chosen = [run for run, facts in alike if run.teacher and facts.teacher == wanted.teacher]
        return fmean(run.seconds for run in chosen if run.seconds) if chosen else None

    @property
    def _places(self) -> list[str]:
        words = [f"runs_dir={self.runs_dir}"] if self.runs_dir else []
        return words + (["--config-dir", str(self.config_dir)] if self.config_dir else [])


def measure_table(
    table: PublishedTable,
    records: Iterable[RunRecord],
    *,
    chosen: Container[str] | None = None,
    shown: PublishedTable | None = None,
    seeds: Sequence[int] = (),
    runs_dir: str | None = None,
    config_dir: Path | None = None,
) -> MeasuredTable:
    """Find the finished runs of every cell and compare them.

    `records` are all runs of a folder; `chosen` are the ids of those that may be shown, None for all. Raises ValueError
    where a cell's overrides are wrong.
    """
    trainable = {key: cell.overrides for key, cell in table.cells.items() if cell.overrides}
    configs = declared(list(trainable.values()), config_dir)
    wanted = {key: Facts.of(config) for key, config in zip(trainable, configs, strict=True)}
    runs = tuple((run, Facts.of(run.config)) for run in distinct(map(read_finished, records)))
    networks = {run.run_id: comparable(run.config.get("student"), prefix="teacher.network") for run, _ in runs}
    by_method: dict[str, list[tuple[FinishedRun, Facts]]] = defaultdict(list)
    for run, facts in runs:
        by_method[facts.method].append((run, facts))
    rows: dict[Key, tuple[Row, ...]] = {}
    existing: dict[Key, tuple[Row, ...]] = {}
    closest: dict[str, list[str]] = defaultdict(list)
    placed: set[str] = set()
    for key, required in wanted.items():
        fitting = []
        for run, facts in by_method[required.method]:
            if differences := _differences(run, facts, required, networks):
                closest[run.run_id].append(", ".join(differences))
            else:
                fitting.append(run)
        existing[key] = _rows_of(table.cells[key], fitting)
        shown_runs = fitting if chosen is None else [run for run in fitting if run.run_id in chosen]
        rows[key] = existing[key] if len(shown_runs) == len(fitting) else _rows_of(table.cells[key], shown_runs)
        placed |= {run.run_id for run in fitting}
    left = {run: found for run, found in closest.items() if run not in placed and (chosen is None or run in chosen)}
    elsewhere = Counter(min(found, key=len) for found in left.values())
    compared, tests = compare_cells(table, rows)
    return MeasuredTable(
        table=table,
        shown=shown or table,
        rows=compared,
        existing=existing,
        wanted=wanted,
        runs=runs,
        elsewhere=dict(sorted(elsewhere.items())),
        tests=tests,
        seeds=tuple(seeds),
        runs_dir=runs_dir,
        config_dir=config_dir,
    )


def _rows_of(cell: Cell, runs: Sequence[FinishedRun]) -> tuple[Row, ...]:
    rows = sorted(group(runs), key=lambda row: (row.precision, str(row.teacher.weights) if row.teacher else ""))
    single = [
        replace(row, teacher_name=teacher, qualifiers=words, cell=cell)
        for row, teacher, words in zip(rows, teacher_names(rows), qualifiers(rows), strict=True)
    ]
    pooled = [
        replace(row, cell=cell, qualifiers=tuple(word for word in row.members[0].qualifiers if _shared(word, row)))
        for row in over_teachers(single)
    ]
    return (*single, *pooled)


def _shared(word: str, row: Row) -> bool:
    return all(word in member.qualifiers for member in row.members)


def _differences(run: FinishedRun, facts: Facts, required: Facts, networks: Mapping[str, Values]) -> list[str]:
    """What of a run differs from the required facts, as `recipe.epochs=10`.

    `networks` are the values of the networks of all finished runs by run id, for teachers given as runs.
    """
    found = _unlike(facts.data, required.data) + _unlike(facts.student, required.student)
    found += _unlike(facts.loss, required.loss) + _unlike(facts.recipe, required.recipe)
    if run.teacher is None:
        return found
    if (run.config.get("teacher") or {}).get("run"):
        network = networks.get(run.teacher.run_id or "")
        return found + (["teacher.run"] if network is None else _unlike(network, required.teacher))
    return found + _unlike(facts.teacher, required.teacher) + _unlike(facts.teacher_training, required.teacher_training)


def _unlike(values: Values, required: Values) -> list[str]:
    paths = [*values, *(path for path in required if path not in values)]
    return [f"{path}={to_text(values.get(path))}" for path in paths if values.get(path) != required.get(path)]


def _joining(row: Row) -> list[str]:
    """The overrides by which new runs get the teacher and the precision of the row."""
    teacher = row.first.config.get("teacher") or {}
    words = [f"precision={row.precision}"] if row.precision != "fp32" else []
    if (row.first.identity.get("teacher") or {}).get("precision"):
        words.append(f"teacher.precision={teacher['precision']}")
    if teacher.get("run"):
        return [*words, f"teacher.run={teacher['run']}"]
    return [*words, *([f"teacher.seed={teacher['seed']}"] if teacher.get("seed") else [])]
