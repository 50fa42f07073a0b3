"""A published table with our finished runs in its cells."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from distill.runs.store import RunRecord
from distill.tables.grouping import Row, group
from distill.tables.naming import teacher_names, unlike
from distill.tables.published.content import Cell, PublishedTable
from distill.tables.published.declared import Presets
from distill.tables.published.matching import Wanted, networks_of
from distill.tables.published.verdict import Sample, Verdict, judge
from distill.tables.reading import Finished, once, read
from distill.tables.teachers import OverTeachers, over_teachers

Key = tuple[str, str]  # row, column


@dataclass(frozen=True)
class Line:
    """Runs of ours in a cell: those of one teacher, or (`over`) the means of several.

    `words` tell it from the cell's other lines; `teacher` names the teacher, with its digest where there are several.
    """

    cell: Cell
    rows: tuple[Row, ...]
    over: OverTeachers | None
    teacher: str
    words: tuple[str, ...]

    @property
    def row(self) -> Row:
        """Any one row stands for what all rows of the line share."""
        return self.rows[0]

    @property
    def runs(self) -> list[Finished]:
        """The runs of the line."""
        return [run for row in self.rows for run in row.runs]

    @property
    def sample(self) -> Sample:
        """Our values, by seed, or by teacher over several."""
        if self.over is not None:
            return Sample(self.over.last, self.over.best)
        best = {run.seed: run.best for run in self.row.runs if run.best is not None}
        return Sample(self.row.by_seed, best if len(best) == len(self.row.runs) else None)

    @property
    def verdict(self) -> Verdict | None:
        """How it stands to the published number, None where there is none."""
        return judge(self.sample, self.cell, published_runs=1 if self.over else self.cell.runs)


@dataclass(frozen=True)
class Measured:
    """The table and the lines of each cell; `elsewhere` counts runs of its methods that fill no cell, by difference."""

    table: PublishedTable
    lines: Mapping[Key, tuple[Line, ...]]
    wanted: Mapping[Key, Wanted]
    runs: tuple[Finished, ...]
    elsewhere: Mapping[str, int]

    def cells(self) -> list[Cell]:
        """The cells, column by column."""
        return list(self.table.cells.values())

    def of(self, cell: Cell) -> tuple[Line, ...]:
        """The lines of a cell, none where it is missing."""
        return self.lines.get((cell.row, cell.column), ())

    def fullest(self, cell: Cell) -> Line | None:
        """The line of one teacher with the most runs, the first of several; None where the cell is missing."""
        single = [line for line in self.of(cell) if line.over is None]
        return max(single, key=lambda line: len(line.runs), default=None)

    def missing(self, cell: Cell, seeds: Sequence[int]) -> list[int]:
        """Which of the seeds the fullest line of the cell lacks."""
        line = self.fullest(cell)
        had = {run.seed for run in line.runs} if line else set()
        return [seed for seed in seeds if seed not in had]


def measure(table: PublishedTable, records: Iterable[RunRecord], *, config_dir: Path | None = None) -> Measured:
    """Find the finished runs of every cell. Raises ValueError where a cell's overrides name no presets."""
    presets = Presets(config_dir)
    finished = once(map(read, records))
    networks = networks_of(finished)
    wanted = {key: Wanted(presets.declared(cell.overrides)) for key, cell in table.cells.items() if cell.overrides}
    lines, placed = {}, set()
    near: dict[str, list[str]] = defaultdict(list)
    for key, want in wanted.items():
        alike = [run for run in finished if want.is_method(run)]
        differing = [(run, want.differences(run, networks)) for run in alike]
        chosen = [run for run, differences in differing if not differences]
        lines[key] = _lines(table.cells[key], chosen)
        placed |= {run.run_id for run in chosen}
        for run, differences in differing:
            near[run.run_id] += [", ".join(differences)] if differences else []
    elsewhere = Counter(min(found, key=len) for run, found in near.items() if found and run not in placed)
    return Measured(table, lines, wanted, tuple(finished), dict(sorted(elsewhere.items())))


def _lines(cell: Cell, runs: Sequence[Finished]) -> tuple[Line, ...]:
    rows = sorted(group(runs), key=_position)
    named = list(zip(rows, teacher_names(rows), unlike(rows), strict=True))
    single = [Line(cell, (row,), None, teacher, tuple(words)) for row, teacher, words in named]
    return (*single, *(_over(cell, each, single) for each in over_teachers(rows)))


def _over(cell: Cell, over: OverTeachers, single: Sequence[Line]) -> Line:
    members = [line for line in single if line.row in over.rows]
    words = tuple(word for word in members[0].words if all(word in line.words for line in members))
    return Line(cell, over.rows, over, f"over {len(over.rows)} teachers", words)


def _position(row: Row) -> tuple[str, str]:
    return row.first.precision, str(row.teacher.weights) if row.teacher else ""
