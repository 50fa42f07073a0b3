"""What of a compared table is shown, and for which seeds its cells are wanted."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from distill.tables.published.commands import command, seconds_of_run, spell
from distill.tables.published.comparison import Compared, Entry
from distill.tables.published.content import Cell, PublishedTable


@dataclass(frozen=True)
class View:
    """`shown` is the table with the rows and columns asked for; figures come from all of it.

    `runs_dir` and `config_dir` are those given by hand, which every command about the table needs too.
    """

    compared: Compared
    shown: PublishedTable
    seeds: tuple[int, ...]
    runs_dir: str | None = None
    config_dir: Path | None = None

    def entries(self, cell: Cell) -> tuple[Entry, ...]:
        """The lines of a cell with their differences."""
        return self.compared.of(cell)

    def missing(self, cell: Cell) -> list[int]:
        """The seeds that the cell still lacks; none where it cannot be trained."""
        return self.compared.measured.missing(cell, self.seeds) if cell.overrides else []

    def command(self, cell: Cell) -> str:
        """The command that trains what is missing; empty where nothing is."""
        seeds = self.missing(cell)
        beside = self.compared.measured.fullest(cell)
        return command(cell, seeds, beside=beside, told=self._given) if seeds else ""

    @property
    def fill(self) -> str:
        """The command that trains whatever the table lacks."""
        return shlex.join(["distill", "fill", f"table={self.shown.name}", *self._given])

    @property
    def _given(self) -> list[str]:
        words = [f"runs_dir={self.runs_dir}"] if self.runs_dir else []
        return words + (["--config-dir", str(self.config_dir)] if self.config_dir else [])

    def seconds(self, cell: Cell) -> float | None:
        """The seconds that one missing run is likely to take."""
        return seconds_of_run(self.compared.measured, cell)

    def to_fill(self, cell: Cell) -> str:
        """The command with its time, or why there is none."""
        if cell.untrainable:
            return f"not trainable: {cell.untrainable}"
        missing = self.missing(cell)
        if not missing:
            return "-"
        seconds, each = self.seconds(cell), " each" * (len(missing) > 1)
        time = "time unknown" if seconds is None else f"about {spell(seconds)}{each}"
        return f"{self.command(cell)}  # {time}"

    def is_baseline(self, cell: Cell) -> bool:
        """Whether others are compared with this cell."""
        table = self.compared.measured.table
        return bool(table.baseline_row or table.baseline_column) and table.baseline_of(cell) is None

    @property
    def baseline(self) -> str:
        """What the rows or columns are compared with, by its label."""
        table = self.compared.measured.table
        if table.baseline_row:
            return table.row(table.baseline_row).label
        return table.column(table.baseline_column).label if table.baseline_column else ""
