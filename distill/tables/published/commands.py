"""What fills a cell: the command, and how long it took runs like it."""

import shlex
from collections.abc import Sequence
from statistics import fmean

from distill.tables.published.content import Cell
from distill.tables.published.measured import Line, Measured


def command(cell: Cell, seeds: Sequence[int], *, beside: Line | None = None, told: Sequence[str] = ()) -> str:
    """`distill train ...` for these seeds of a cell that can be trained.

    `beside` is the line they are to join, so with its teacher and precision; `told` are words that go with every
    command about the table.
    """
    words = ["distill", "train", *(["-m"] if len(seeds) > 1 else []), *cell.overrides]
    words += [*(_joining(beside) if beside else []), f"seed={','.join(map(str, seeds))}", *told]
    return shlex.join(words)


def _joining(line: Line) -> list[str]:
    """What the line's runs have otherwise than a run of the cell's overrides alone."""
    run = line.row.first
    teacher = run.config.get("teacher") or {}
    words = [f"precision={run.precision}"] if run.precision != "fp32" else []
    if teacher.get("run"):
        return [*words, f"teacher.run={teacher['run']}"]
    return [*words, *([f"teacher.seed={teacher['seed']}"] if teacher.get("seed") else [])]


def seconds_of_run(measured: Measured, cell: Cell) -> float | None:
    """The mean seconds of finished runs of the same student, data and recipe, None where there is none.

    Of the cell's own loss where there are such, else of any loss with the same teacher's network: its forward is what
    tells losses apart in time. A loss without a teacher has only its own.
    """
    wanted = measured.wanted.get((cell.row, cell.column))
    if wanted is None:
        return None
    alike = [run for run in measured.runs if run.seconds and not wanted.differs_in_cost(run)]
    own = [run for run in alike if wanted.is_method(run)]
    taught = [run for run in alike if run.teacher is not None and wanted.has_teacher(run)]
    chosen = own or ([] if wanted.is_alone else taught)
    return fmean(run.seconds for run in chosen if run.seconds) if chosen else None


def spell(seconds: float) -> str:
    """`40 s`, `12 min`, `3.4 h` or `2.1 d`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} d"
