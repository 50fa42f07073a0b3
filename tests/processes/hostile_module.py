"""Leaves a mark when it is imported: what a run directory names must not be."""

from pathlib import Path

Path("something-was-executed").touch()


def network(*, num_classes: int) -> None:
    """Never called."""
