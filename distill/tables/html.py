"""Sheets as one HTML page that needs nothing else: no script, no network, light and dark, and it prints."""

from collections.abc import Sequence
from html import escape

from distill.tables.sheet import Sheet

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


def page(sheets: Sequence[Sheet]) -> str:
    """The sheets below each other; the first one's title is the page's. The columns that name a row are its headers."""
    title = escape(next((sheet.title for sheet in sheets if sheet.title), "distill"))
    body = "\n".join(_section(sheet) for sheet in sheets)
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


def _section(sheet: Sheet) -> str:
    names = (*sheet.numeric, True).index(True) if sheet.naming is None else sheet.naming
    caption = f"<caption>{escape(sheet.title)}</caption>\n" if sheet.title else ""
    label = escape(sheet.title or "table", quote=True)
    head = "".join(_cell("th", text, sheet.numeric[i], scope="col") for i, text in enumerate(sheet.headers))
    rows = "\n".join(_row(row, sheet.numeric, names) for row in sheet.rows)
    notes = "".join(f"<li>{escape(note)}</li>\n" for note in sheet.notes)
    return (
        f'<div class="wide" role="region" aria-label="{label}" tabindex="0">\n<table>\n{caption}'
        f"<thead>\n<tr>{head}</tr>\n</thead>\n<tbody>\n{rows}\n</tbody>\n</table>\n</div>"
        + (f"\n<ul>\n{notes}</ul>" if notes else "")
    )


def _row(row: Sequence[str], numeric: Sequence[bool], names: int) -> str:
    cells = [
        _cell("th", text, numeric[i], scope="row") if i < names and text else _cell("td", text, numeric[i])
        for i, text in enumerate(row)
    ]
    opens = ' class="opens"' if row[0] else ""
    return f"<tr{opens}>{''.join(cells)}</tr>"


def _cell(tag: str, text: str, numeric: bool, *, scope: str = "") -> str:
    attributes = (f' scope="{scope}"' if scope else "") + (' class="number"' if numeric else "")
    return f"<{tag}{attributes}>{escape(text)}</{tag}>"
