"""Chapters as the files of a report. Imports no torch."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from distill.report.blocks import Chapter, Figure
from distill.report.page.document import page
from distill.report.page.inline import standalone
from distill.report.place import PAGE
from distill.runs.files import finite


def assembled(title: str, about: str, chapters: Sequence[Chapter]) -> dict[str, str]:
    """The page, and of every figure its drawing and its numbers, by their names below the report's folder."""
    files = {}
    for figure in (block for each in chapters for block in each.blocks if isinstance(block, Figure)):
        files[f"figures/{figure.name}.svg"] = standalone(figure.svg)
        files[f"figures/{figure.name}.json"] = _json(figure.numbers)
    files[PAGE] = page(title, about, chapters)
    return files


def _json(numbers: Mapping[str, Any]) -> str:
    return json.dumps(finite(numbers), ensure_ascii=False, allow_nan=False) + "\n"
