"""Where a table goes: in which format, to the terminal, a pipe or a file."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from distill.runs.files import write_text
from distill.tables import writers
from distill.tables.html import page
from distill.tables.sheet import Sheet

SUFFIXES = {".md": "markdown", ".tex": "latex", ".csv": "csv", ".json": "json", ".html": "html"}


@dataclass(frozen=True)
class Views:
    """One content in every shape a writer may ask for, made only when asked.

    `sheet(everything)` gives text cells; where `everything`, what a title would say has columns of its own. `pages`
    are the sheets of a format that is read as a page (markdown, latex, html), one below the other, if not that sheet.
    """

    sheet: Callable[[bool], Sheet]
    records: Callable[[], Sequence[Mapping[str, Any]]]
    document: Callable[[], Mapping[str, Any]]
    notes: Callable[[], Sequence[str]]
    pages: Callable[[str], Sequence[Sheet]] | None = None


def render(views: Views, *, form: str, width: int | None = None) -> str:
    """The content in a format of the command line, or as `plain` lines; `width` is a terminal's."""
    if form == "json":
        return writers.as_json(views.document())
    if form == "csv":
        return writers.comma_separated(views.records())
    if form == "plain":
        return writers.plain(views.sheet(True))
    if form == "terminal":
        return writers.terminal(views.sheet(False), width=width)
    sheets = views.pages(form) if views.pages else [views.sheet(False)]
    if form == "html":
        return page(sheets)
    return "\n".join({"markdown": writers.markdown, "latex": writers.latex}[form](each) for each in sheets)


def deliver(views: Views, *, form: str | None, out: Path | None, stream: TextIO, aside: TextIO) -> None:
    """Write to the file `out`, saying where, or to `stream`: aligned on a terminal, plain lines elsewhere.

    A file's format follows its suffix unless `form` is given. Notes go `aside` where they would break the
    format. Raises StorageError, leaving the file as it was.
    """
    tty = out is None and stream.isatty()
    if form is None:
        form = SUFFIXES.get(out.suffix.lower(), "terminal") if out else "terminal" if tty else "plain"
    text = render(views, form=form, width=shutil.get_terminal_size().columns if tty else None)
    if out is None:
        stream.write(text)
    else:
        write_text(out, text)
        print(f"wrote {out}", file=stream)
    if form == "csv":
        aside.writelines(f"{note}\n" for note in views.notes())
