"""Tables as text for the terminal, pipes, markdown, LaTeX, CSV, JSON and HTML, written to a stream or a file."""

import csv
import io
import json
import re
import shutil
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Generic, TextIO, TypeVar

from distill.runs.escapes import escaped, escaped_json
from distill.runs.files import finite, write_text
from distill.tables.values import is_number

SUFFIXES = {".md": "markdown", ".tex": "latex", ".csv": "csv", ".json": "json", ".html": "html"}
GAP = "  "
T = TypeVar("T")


@dataclass(frozen=True)
class TextTable:
    """A table of text cells: `numeric` columns are aligned right, and the columns before them name the row.

    A `divisible` table that is wider than the terminal continues below itself, after its first `naming` columns (None:
    those before the first numeric one).
    """

    title: str
    headers: tuple[str, ...]
    numeric: tuple[bool, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]
    divisible: bool = True
    naming: int | None = None

    def __post_init__(self) -> None:
        """Escapes control characters in names, which others may have chosen."""
        object.__setattr__(self, "title", escaped(self.title))
        for name in ("headers", "notes"):
            object.__setattr__(self, name, tuple(map(escaped, getattr(self, name))))
        object.__setattr__(self, "rows", tuple(tuple(map(escaped, row)) for row in self.rows))

    @property
    def name_columns(self) -> int:
        """The number of columns that name a row."""
        return (*self.numeric, True).index(True) if self.naming is None else self.naming


@dataclass(frozen=True)
class Column(Generic[T]):
    """A column of a table: its header, and the text of an item's cell; `numeric` ones are aligned right."""

    header: str
    text: Callable[[T], str]
    numeric: bool = True


def text_table(
    title: str,
    columns: Sequence[Column[T]],
    items: Sequence[T],
    notes: Sequence[str],
    *,
    divisible: bool = True,
    naming: int | None = None,
) -> TextTable:
    """The table with a row for each item."""
    return TextTable(
        title=title,
        headers=tuple(column.header for column in columns),
        numeric=tuple(column.numeric for column in columns),
        rows=tuple(tuple(column.text(item) for column in columns) for item in items),
        notes=tuple(notes),
        divisible=divisible,
        naming=naming,
    )


@dataclass(frozen=True)
class Content:
    """What a verb shows, in every form a format may need; each form is made only when that format is written.

    table     text cells; called with True, values that the title would state have columns of their own
    records   one flat mapping a row, for CSV
    document  the nested mapping for JSON
    notes     lines below the table
    pages     the tables of a format that is read as a page (markdown, latex, html), where `table` alone is not enough
    """

    table: Callable[[bool], TextTable]
    records: Callable[[], Sequence[Mapping[str, Any]]]
    document: Callable[[], Mapping[str, Any]]
    notes: Callable[[], Sequence[str]]
    pages: Callable[[str], Sequence[TextTable]] | None = None


def render(content: Content, *, form: str, width: int | None = None) -> str:
    """The content in a format of the command line, or as `plain` lines; `width` is that of a terminal."""
    if form == "json":
        return as_json(content.document())
    if form == "csv":
        return comma_separated(content.records())
    if form == "plain":
        return plain(content.table(True))
    if form == "terminal":
        return terminal(content.table(False), width=width)
    tables = content.pages(form) if content.pages else [content.table(False)]
    if form == "html":
        return html_page(tables)
    return "\n".join({"markdown": markdown, "latex": latex}[form](each) for each in tables)


def deliver(content: Content, *, form: str | None, out: Path | None, stream: TextIO, aside: TextIO) -> None:
    """Write to the file `out` and name it on `stream`, or write to `stream`: aligned on a terminal, else plain lines.

    A file's format follows its suffix unless `form` is given. The notes of a CSV go to `aside`, since they would break
    the format. Raises StorageError and leaves an existing file as it was.
    """
    tty = out is None and stream.isatty()
    if form is None:
        form = SUFFIXES.get(out.suffix.lower(), "terminal") if out else "terminal" if tty else "plain"
    text = render(content, form=form, width=shutil.get_terminal_size().columns if tty else None)
    if out is None:
        stream.write(text)
    else:
        write_text(out, text)
        print(f"wrote {out}", file=stream)
    if form == "csv":
        aside.writelines(f"{note}\n" for note in content.notes())


def terminal(table: TextTable, *, width: int | None = None) -> str:
    """Aligned columns; those beyond `width` continue below, with the columns that name the row repeated."""
    widths = [max(map(len, cells)) for cells in zip(table.headers, *table.rows, strict=True)]
    lines = [table.title] if table.title else []
    for part in _parts(widths, table.name_columns, width if table.divisible else None):
        lines += [""] if lines else []
        lines.append(_aligned(table.headers, part, widths, table.numeric))
        lines.append(GAP.join("-" * widths[column] for column in part))
        lines += [_aligned(row, part, widths, table.numeric) for row in table.rows]
    if table.notes:
        lines += ["", *table.notes]
    return "\n".join(lines) + "\n"


def _parts(widths: Sequence[int], names: int, width: int | None) -> list[list[int]]:
    """The columns of each part; the first `names` columns name the row and are in every part."""
    parts = [list(range(names))]
    for column in range(names, len(widths)):
        used = sum(widths[other] + len(GAP) for other in parts[-1])
        if width is not None and used + widths[column] > width and len(parts[-1]) > names:
            parts.append(list(range(names)))
        parts[-1].append(column)
    return parts


def _aligned(cells: Sequence[str], part: Iterable[int], widths: Sequence[int], numeric: Sequence[bool]) -> str:
    padded = (cells[i].rjust(widths[i]) if numeric[i] else cells[i].ljust(widths[i]) for i in part)
    return GAP.join(padded).rstrip()


def plain(table: TextTable) -> str:
    """One row a line, cells separated by tabs, the headers first: for pipes."""
    lines = ["\t".join(cells) for cells in (table.headers, *table.rows)]
    return "".join(f"{line}\n" for line in [*lines, *table.notes])


def markdown(table: TextTable) -> str:
    """A table of GitHub's markdown, numbers aligned right."""
    rules = ["---:" if numeric else "---" for numeric in table.numeric]
    lines = [f"| {' | '.join(cells)} |" for cells in ([*map(_md, table.headers)], rules)]
    lines += [f"| {' | '.join(map(_md, row))} |" for row in table.rows]
    paragraphs = [*([_md(table.title)] if table.title else []), "\n".join(lines), *map(_md, table.notes)]
    return "\n\n".join(paragraphs) + "\n"


def _md(text: str) -> str:
    # | ends a cell; the others are markup anywhere
    return re.sub(r"([\\|*<`])", r"\\\1", text)


_LATEX = {
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$"},
    **{"<": "$<$", ">": "$>$", "|": "$|$", "\u2212": "$-$"},
    **{"\u2192": r"$\to$", "\u00d7": r"$\times$", "\u2264": r"$\le$", "\u2265": r"$\ge$"},
}


def _latex(text: str) -> str:
    escaped = "".join(_LATEX.get(letter, letter) for letter in text.replace("->", "\u2192"))
    return re.sub(r"(?<![\w.])-(?=\d)", "$-$", escaped)  # a minus, not a hyphen


def latex(table: TextTable) -> str:
    """A tabular for the packages booktabs and graphicx, shrunk where it is wider than the text.

    Long headers are stacked; title and notes are paragraphs, which wrap and may go on on the next page.
    """
    alignment = "".join("r" if numeric else "l" for numeric in table.numeric)
    headers = [
        _latex_header(header, [row[n] for row in table.rows], "r" if numeric else "l")
        for n, (header, numeric) in enumerate(zip(table.headers, table.numeric, strict=True))
    ]
    lines = ["% \\usepackage{booktabs,graphicx}", "{\\parindent=0pt\\raggedright"]
    lines += [f"{_latex(table.title)}\\par\\smallskip"] if table.title else []
    lines += ["\\leavevmode\\setbox2=\\hbox{%", f"\\begin{{tabular}}{{@{{}}{alignment}@{{}}}}", "\\toprule"]
    lines += [f"{' & '.join(headers)} \\\\", "\\midrule", *map(_latex_row, table.rows), "\\bottomrule"]
    lines += ["\\end{tabular}}%", "\\ifdim\\wd2>\\linewidth\\resizebox{\\linewidth}{!}{\\box2}\\else\\box2\\fi"]
    lines += ["\\par\\smallskip\\footnotesize"]
    lines += [f"{_latex(note)}\\par" for note in table.notes]
    return "\n".join([*lines, "}"]) + "\n"


def _latex_header(header: str, cells: Sequence[str], side: str) -> str:
    """The header in lines that are no wider than its cells or its longest word."""
    widest = max(map(len, [*cells, *header.split()]), default=1)
    lines = textwrap.wrap(header, widest, break_long_words=False, break_on_hyphens=False)
    text = "\\\\".join(map(_latex, lines))
    return text if len(lines) < 2 else f"\\shortstack[{side}]{{{text}}}"


def _latex_row(cells: Sequence[str]) -> str:
    first, *rest = map(_latex, cells)
    # LaTeX would read a leading [ as the optional argument of the line break before it
    return " & ".join([f"{{{first}}}" if first.startswith("[") else first, *rest]) + " \\\\"


def comma_separated(records: Sequence[Mapping[str, Any]]) -> str:
    """CSV with full precision; items of a list are separated by spaces, missing values are empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=[*map(escaped, records[0] if records else ())], lineterminator="\n")
    writer.writeheader()
    for record in records:
        writer.writerow({escaped(key): _flat(value) for key, value in record.items()})
    return text.getvalue()


_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def _flat(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    text = " ".join(map(str, value)) if isinstance(value, list) else value
    if not isinstance(text, str):
        return text
    # a spreadsheet would read a formula; the minus sign of a list of numbers begins none
    is_formula = text.startswith(_FORMULA) and not (isinstance(value, list) and all(map(is_number, value)))
    return f"'{escaped(text)}" if is_formula else escaped(text)


def as_json(document: Mapping[str, Any]) -> str:
    """JSON with full precision."""
    return escaped_json(json.dumps(finite(document), indent=2, ensure_ascii=False, allow_nan=False)) + "\n"


STYLE = """\
:root { color-scheme: light dark; --ink: #1b1b1b; --paper: #fff; --rule: #767676; --faint: #e4e4e4; --stripe: #f6f6f6 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8e8; --paper: #161616; --rule: #8c8c8c; --faint: #3a3a3a; --stripe: #1f1f1f }
}
body { margin: 2rem auto; padding: 0 1rem; max-width: 100rem; color: var(--ink); background: var(--paper);
  font: 16px/1.45 system-ui, sans-serif }
.wide { overflow-x: auto; margin: 1.5rem 0 }
table { border-collapse: collapse; border-block: 2px solid var(--ink); font-size: .875rem;
  font-variant-numeric: tabular-nums }
caption { text-align: left; font-size: 1.125rem; font-weight: 600; padding-bottom: .5rem }
th, td { padding: .25rem .75rem; text-align: left; vertical-align: top; white-space: nowrap; font-weight: 400 }
thead th { border-bottom: 1px solid var(--rule); vertical-align: bottom; font-weight: 600 }
tbody tr:nth-child(even) { background: var(--stripe) }
tbody tr.opens th { border-top: 1px solid var(--faint) } tbody tr.opens td { border-top: 1px solid var(--faint) }
.number { text-align: right }
ul { padding-left: 1.25rem; max-width: 75rem; font-size: .875rem }
@media print { body { margin: 0; max-width: none } .wide { overflow: visible } th, td { white-space: normal } }
"""


def html_page(tables: Sequence[TextTable]) -> str:
    """One page with the tables below each other; it needs no script and no network, and it prints.

    The first title is the page's, and the columns that name a row are its headers.
    """
    title = escape(next((table.title for table in tables if table.title), "distill"))
    body = "\n".join(_html_table(table) for table in tables)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{STYLE}</style>
</head>
<body>
{body}
</body>
</html>
"""


def _html_table(table: TextTable) -> str:
    caption = f"<caption>{escape(table.title)}</caption>\n" if table.title else ""
    label = escape(table.title or "table", quote=True)
    head = "".join(_html_cell("th", text, table.numeric[i], scope="col") for i, text in enumerate(table.headers))
    rows = "\n".join(_html_row(row, table.numeric, table.name_columns) for row in table.rows)
    notes = "".join(f"<li>{escape(note)}</li>\n" for note in table.notes)
    return (
        f'<div class="wide" role="region" aria-label="{label}" tabindex="0">\n<table>\n{caption}'
        f"<thead>\n<tr>{head}</tr>\n</thead>\n<tbody>\n{rows}\n</tbody>\n</table>\n</div>"
        + (f"\n<ul>\n{notes}</ul>" if notes else "")
    )


def _html_row(row: Sequence[str], numeric: Sequence[bool], names: int) -> str:
    cells = [
        _html_cell("th", text, numeric[i], scope="row") if i < names and text else _html_cell("td", text, numeric[i])
        for i, text in enumerate(row)
    ]
    opens = ' class="opens"' if row[0] else ""
    return f"<tr{opens}>{''.join(cells)}</tr>"


def _html_cell(tag: str, text: str, numeric: bool, *, scope: str = "") -> str:
    attributes = (f' scope="{scope}"' if scope else "") + (' class="number"' if numeric else "")
    return f"<{tag}{attributes}>{escape(text)}</{tag}>"
