"""Blocks as HTML."""

import re
from collections.abc import Mapping
from html import escape
from typing import Any

from distill.report.blocks import Block, Chapter, Figure, Table, Text
from distill.report.page.inline import inlined


def chapter(found: Chapter) -> str:
    """A section under its heading."""
    inside = "\n".join(_block(each, f"{found.key}-{place}") for place, each in enumerate(found.blocks))
    key = escape(found.key)
    head = f'<h2 id="{key}-title">{escape(found.title)}</h2>'
    return f'<section id="{key}" aria-labelledby="{key}-title">\n{head}\n{inside}\n</section>'


def _block(block: Block, key: str) -> str:
    match block:
        case Figure():
            return _figure(block)
        case Table():
            return _table(block, key)
        case Text():
            return _text(block)


def _text(text: Text) -> str:
    if text.warning:
        return f'<p class="warning"><strong>Read with care.</strong> {escape(text.words)}</p>'
    if text.missing:
        return f'<p class="missing"><strong>Not shown.</strong> {escape(text.words)}</p>'
    return f"<p>{escape(text.words)}</p>"


def _figure(figure: Figure) -> str:
    name = escape(figure.name)
    files = f'<a href="figures/{name}.svg">drawing</a>, <a href="figures/{name}.json">numbers</a>'
    return (
        f'<figure id="figure-{name}">\n'
        f'<div class="scroll" tabindex="0" role="group" aria-label="{escape(figure.name)}, drawing">'
        f"{inlined(figure.svg, name=figure.name, alt=figure.alt)}</div>\n"
        f'<figcaption>{escape(figure.caption)} <span class="files">Files: {files}.</span></figcaption>\n</figure>'
    )


def _table(table: Table, key: str) -> str:
    heads = "".join(
        f'<th scope="col"{_numeric(numeric)}>{escape(header) or "&nbsp;"}</th>'
        for header, numeric in zip(table.headers, table.numeric, strict=True)
    )
    rows = "\n".join(f"<tr>{_cells(row, table.numeric)}</tr>" for row in table.rows)
    kind = ' class="sortable"' if table.sortable else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-labelledby="{key}-caption">\n<table{kind}>\n'
        f'<caption id="{key}-caption">{escape(table.caption)}</caption>\n'
        f"<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>\n</div>"
    )


def _cells(row: tuple[str, ...], numeric: tuple[bool, ...]) -> str:
    first, *others = row
    # a row that goes on with the one above has no name, and an empty heading would be read out as one
    cells = [f'<th scope="row"{_numeric(numeric[0])}>{escape(first)}</th>' if first else "<td></td>"]
    cells += [
        f"<td{_numeric(n)}>{escape(_together(cell) if n else cell)}</td>"
        for cell, n in zip(others, numeric[1:], strict=True)
    ]
    return "".join(cells)


def _together(figures: str) -> str:
    """A narrow column breaks before an interval or a correlation, and nowhere else."""
    return re.sub(r" (?!\[|r=)", "\N{NO-BREAK SPACE}", figures)


def _numeric(numeric: bool) -> str:
    return ' class="number"' if numeric else ""


def contents(chapters: Mapping[str, str]) -> str:
    """The way to every chapter."""
    items: Any = (f'<li><a href="#{escape(key)}">{escape(title)}</a></li>' for key, title in chapters.items())
    return f'<nav aria-label="Contents"><ol>{"".join(items)}</ol></nav>'
