"""A published table with our runs in every shape that `distill table` writes."""

from collections.abc import Sequence

from distill.tables.published import data, long, wide
from distill.tables.published.remarks import notes
from distill.tables.published.view import View
from distill.tables.rendering import Content, TextTable


def layouts(view: View) -> Content:
    """A terminal and a pipe get one cell a row; a page gets the paper's layout first, then details and commands."""
    return Content(
        table=lambda everything: long.sheet(view, everything=everything),
        records=lambda: data.flat(view),
        document=lambda: data.document(view),
        notes=lambda: notes(view),
        pages=lambda form: _pages(view, form),
    )


def _pages(view: View, form: str) -> Sequence[TextTable]:
    below = [long.details(view)]
    below += [long.commands(view)] if form != "latex" else []  # no part of a paper, and wider than one
    return [wide.sheet(view), *(sheet for sheet in below if sheet is not None)]
