"""What `distill fill` is to train."""

from dataclasses import dataclass
from pathlib import Path

from distill.tables.published import PublishedTable


@dataclass(frozen=True)
class FillRequest:
    """The cells, the seeds of students and teachers, overrides for every run, and the time limit in seconds."""

    table: PublishedTable
    seeds: tuple[int, ...]
    teacher_seeds: tuple[int, ...]
    overrides: tuple[str, ...]
    budget: float | None
    config_dir: Path | None
