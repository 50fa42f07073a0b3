"""Sheets and records as text: terminal, plain lines, markdown, LaTeX, CSV, JSON."""

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from distill.tables.sheet import Sheet

GAP = "  "
SHORT_NOTE = 150  # characters: longer ones would push a LaTeX table off its page


def terminal(sheet: Sheet, *, width: int | None = None) -> str:
    """Aligned columns; those beyond `width` continue below, after the columns that name the row."""
    widths = [max(map(len, cells)) for cells in zip(sheet.headers, *sheet.rows, strict=True)]
    lines = [sheet.title] if sheet.title else []
    names = (*sheet.numeric, True).index(True) if sheet.naming is None else sheet.naming
    for part in _parts(widths, names, width if sheet.divisible else None):
        lines += [""] if lines else []
        lines.append(_aligned(sheet.headers, part, widths, sheet.numeric))
        lines.append(GAP.join("-" * widths[column] for column in part))
        lines += [_aligned(row, part, widths, sheet.numeric) for row in sheet.rows]
    if sheet.notes:
        lines += ["", *sheet.notes]
    return "\n".join(lines) + "\n"


def _parts(widths: Sequence[int], names: int, width: int | None) -> list[list[int]]:
    """The columns of each part; the first `names` say which row it is and stand in every part."""
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


def plain(sheet: Sheet) -> str:
    """One item a line, cells parted by tabs, the headers first: for pipes."""
    lines = ["\t".join(cells) for cells in (sheet.headers, *sheet.rows)]
    return "".join(f"{line}\n" for line in [*lines, *sheet.notes])


def markdown(sheet: Sheet) -> str:
    """A table of GitHub's markdown, numbers flush right."""
    rules = ["---:" if numeric else "---" for numeric in sheet.numeric]
    table = [f"| {' | '.join(cells)} |" for cells in ([*map(_md, sheet.headers)], rules)]
    table += [f"| {' | '.join(map(_md, row))} |" for row in sheet.rows]
    paragraphs = [[_md(sheet.title)] if sheet.title else [], table, *([_md(note)] for note in sheet.notes)]
    return "\n\n".join("\n".join(lines) for lines in paragraphs if lines) + "\n"


def _md(text: str) -> str:
    # | ends a cell; the others are markup wherever they stand
    return re.sub(r"([\\|*<`])", r"\\\1", text)


_LATEX = {
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$"},
    **{"<": "$<$", ">": "$>$", "|": "$|$"},
}


def _latex(text: str) -> str:
    escaped = "".join(_LATEX.get(letter, letter) for letter in text)
    return re.sub(r"(?<![\w.])-(?=\d)", "$-$", escaped)  # a minus, not a hyphen


def latex(sheet: Sheet) -> str:
    """A tabular for the booktabs package; title and notes are lines of the table, so that none gets lost."""
    columns = len(sheet.headers)
    spanning, wrapped = "\\multicolumn{%d}{@{}l}{%s} \\\\", "\\multicolumn{%d}{@{}p{\\linewidth}@{}}{%s} \\\\"
    alignment = "".join("r" if numeric else "l" for numeric in sheet.numeric)
    lines = [f"\\begin{{tabular}}{{@{{}}{alignment}@{{}}}}"]
    lines += [spanning % (columns, _latex(sheet.title))] if sheet.title else []
    lines += ["\\toprule", _latex_row(sheet.headers), "\\midrule"]
    lines += [*map(_latex_row, sheet.rows), "\\bottomrule"]
    below = [(wrapped if len(note) > SHORT_NOTE else spanning, note) for note in sheet.notes]
    lines += [form % (columns, f"\\footnotesize {_latex(note)}") for form, note in below]
    return "\n".join([*lines, "\\end{tabular}"]) + "\n"


def _latex_row(cells: Sequence[str]) -> str:
    first, *rest = map(_latex, cells)
    # a row that opens with [ would be read as the optional argument of the line break before it
    return " & ".join([f"{{{first}}}" if first.startswith("[") else first, *rest]) + " \\\\"


def comma_separated(records: Sequence[Mapping[str, Any]]) -> str:
    """CSV with full precision; lists are parted by spaces, what is missing is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(records[0]), lineterminator="\n")
    writer.writeheader()
    for record in records:
        writer.writerow({key: _flat(value) for key, value in record.items()})
    return text.getvalue()


def _flat(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    return " ".join(str(item) for item in value) if isinstance(value, list) else value


def as_json(document: Mapping[str, Any]) -> str:
    """JSON with full precision."""
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
