"""What a page is made of. Text is plain: the page escapes it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, eq=False)
class Figure:
    """A drawing with its numbers; `name` is that of its files, `alt` tells what it shows to who cannot see it.

    `svg` is a document of its own, in whose places for colours stand those of `looks`.
    """

    name: str
    caption: str
    alt: str
    numbers: Mapping[str, Any]
    svg: str


@dataclass(frozen=True)
class Table:
    """Text cells under headers; the first column names the row, `numeric` ones stand flush right."""

    caption: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[bool, ...]
    sortable: bool = False


@dataclass(frozen=True)
class Text:
    """A paragraph; `missing` marks one that says what cannot be shown, `warning` one that must not be overlooked."""

    words: str
    missing: bool = False
    warning: bool = False


Block = Figure | Table | Text


@dataclass(frozen=True, eq=False)
class Chapter:
    """A heading with what stands under it; `key` is its place in the page."""

    key: str
    title: str
    blocks: tuple[Block, ...]


def columns(headers: Mapping[str, bool]) -> tuple[tuple[str, ...], tuple[bool, ...]]:
    """Headers with whether each is numeric, apart."""
    return tuple(headers), tuple(headers.values())


def number(value: float | None, digits: int = 2) -> str:
    """`12.34`, or `-` where there is none; never `-0.00`."""
    return "-" if value is None else f"{round(value, digits) + 0.0:.{digits}f}"
