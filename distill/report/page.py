"""The page of a report: what it is made of, its HTML by templates, and the folder it is written to.

Imports neither torch nor matplotlib, so that a command that is refused does not wait for them.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from distill.runs.escapes import escaped, escaped_json
from distill.runs.files import StorageError, finite, read_json, storage_errors, write_text

PAGE, RECORD = "index.html", "report.json"
# Figures are drawn in these placeholder colours. The page replaces them by variables of its theme (light or dark),
# the SVG file by the colours of the light theme.
INK, FAINT, GRID, PAPER = "#010101", "#020202", "#030303", "#FDFDFD"
_THEME = {INK: "var(--ink)", FAINT: "var(--faint)", GRID: "var(--grid)", PAPER: "var(--paper)"}
_LIGHT = {INK: "#1a1c20", FAINT: "#5d636d", GRID: "#e3e5e9", PAPER: "#ffffff"}


@dataclass(frozen=True, eq=False)
class Figure:
    """A drawing and the numbers it shows.

    `name` is the name of its files, `alt` describes it to readers who cannot see it, `svg` is a whole document.
    """

    name: str
    caption: str
    alt: str
    numbers: Mapping[str, Any]
    svg: str

    @property
    def inline_svg(self) -> Markup:
        """The `svg` element for the page: unique ids, the theme's colours, no namespaces."""
        element = self.svg[self.svg.index("<svg") :]
        element = re.sub(r"<!--.*?-->\s*", "", element, flags=re.DOTALL)
        element = re.sub(r'\sxmlns(:xlink)?="[^"]*"', "", element)
        element = element.replace("xlink:href=", "href=")
        element = re.sub(r'\bid="([^"]+)"', rf'id="{self.name}-\1"', element)
        element = re.sub(r'href="#([^"]+)"', rf'href="#{self.name}-\1"', element)
        element = re.sub(r"url\(#([^)]+)\)", rf"url(#{self.name}-\1)", element)
        # matplotlib's style sheet selects `*`, which would apply to the whole page
        element = re.sub(r"<style[^>]*>\s*\*\s*\{", f"<style>.drawing-{self.name} * {{", element)
        head, rest = element.split(">", 1)
        pixels = float(re.search(r'width="([\d.]+)pt"', head)[1]) * 4 / 3  # type: ignore[index]  # always there
        head = re.sub(r'\s(width|height)="[\d.]+pt"', "", head)
        head = head.replace("<svg ", f'<svg class="drawing drawing-{self.name}" ', 1)
        # as wide as the page allows, but readable on a narrow one: the page scrolls it sideways
        style = f"width:100%;max-width:{pixels:.0f}px;min-width:{0.55 * pixels:.0f}px"
        head += f' role="img" aria-label="{escape(escaped(self.alt))}" style="{style}"'
        return Markup(_coloured(f"{head}>{rest}", _THEME).strip())  # matplotlib escapes its text

    @property
    def file_svg(self) -> str:
        """The document for a file of its own, in the colours of the light theme."""
        return _coloured(self.svg, _LIGHT)


class PageColumn(NamedTuple):
    """A column of a page's table: its header, and whether its cells are numbers."""

    header: str
    is_number: bool


def text_columns(*headers: str) -> list[PageColumn]:
    """Columns of text."""
    return [PageColumn(header, False) for header in headers]


def number_columns(*headers: str) -> list[PageColumn]:
    """Columns of numbers."""
    return [PageColumn(header, True) for header in headers]


@dataclass(frozen=True)
class PageTable:
    """Rows of text; the first cell names the row. Headers may be equal: users choose some of them."""

    caption: str
    columns: Sequence[PageColumn]
    rows: Sequence[Sequence[str]]
    sortable: bool = False


@dataclass(frozen=True)
class Text:
    """A paragraph: why something is `missing`, a `warning`, or neither."""

    text: str
    missing: bool = False
    warning: bool = False


Block = Figure | PageTable | Text


@dataclass(frozen=True, eq=False)
class Section:
    """A heading and what stands under it; `key` is its anchor in the page."""

    key: str
    title: str
    blocks: Sequence[Block]


def render(title: str, about: str, sections: Sequence[Section]) -> str:
    """The HTML of the page, with styles, script and drawings inside it."""
    environment = Environment(
        loader=PackageLoader("distill.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=False,
    )
    environment.tests |= {
        "figure": lambda block: isinstance(block, Figure),
        "table": lambda block: isinstance(block, PageTable),
    }
    environment.filters["unbroken"] = _unbroken
    environment.finalize = _shown
    page = environment.get_template("page.html").render(title=title, about=about, sections=sections)
    return page.lstrip() + "\n"


def _shown(value: object) -> object:
    return escaped(value, keep="\n") if isinstance(value, str) and not isinstance(value, Markup) else value


def report_files(title: str, about: str, sections: Sequence[Section]) -> dict[str, str]:
    """The page, and the drawing and the numbers of every figure, by their paths below the report's folder."""
    files = {}
    for figure in (block for section in sections for block in section.blocks if isinstance(block, Figure)):
        files[f"figures/{figure.name}.svg"] = figure.file_svg
        text = escaped_json(json.dumps(finite(figure.numbers), ensure_ascii=False, allow_nan=False))
        files[f"figures/{figure.name}.json"] = f"{text}\n"
    return {**files, PAGE: render(title, about, sections)}


def check_folder(folder: Path, subject: str) -> None:
    """Raise ValueError, with the reason, unless `folder` is absent, empty, or holds a report of `subject`."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ValueError(f"--out must be a folder, {folder} is a file: choose another --out DIR")
    if not any(folder.iterdir()):
        return
    if (folder / "figures").is_symlink():
        raise ValueError(f"--out {folder} has figures elsewhere, by a link: choose another --out DIR")
    about = _record(folder).get("subject")
    if about is None:
        raise ValueError(f"--out {folder} is not empty and holds no report: choose another --out DIR")
    if about != subject:
        raise ValueError(f"--out {folder} holds the report of {about}: choose another --out DIR")


def write_report(folder: Path, files: Mapping[str, str], *, record: Mapping[str, object]) -> None:
    """Write `files` below `folder`, and report.json: `record` and the names of the files. Raises StorageError.

    Files of an older report that the new one does not have are removed. The page is written last, after its figures.
    """
    old = _record(folder).get("files")
    with storage_errors(folder):
        for name in files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**record, "files": sorted(files)}, indent=2, ensure_ascii=False)
    write_text(folder / RECORD, f"{escaped_json(text)}\n")
    for name in sorted(files, key=lambda each: each == PAGE):
        write_text(folder / name, files[name])
    with storage_errors(folder):
        for name in set(map(str, old if isinstance(old, list) else [])) - set(files):
            path = folder / name
            if path.parent in (folder, folder / "figures") and path.is_file():  # the record may have been edited
                path.unlink(missing_ok=True)


def _record(folder: Path) -> Mapping[str, Any]:
    try:
        return read_json(folder / RECORD) or {}
    except StorageError:
        return {}


def _coloured(svg: str, colours: Mapping[str, str]) -> str:
    for placeholder, colour in colours.items():
        svg = re.sub(re.escape(placeholder), colour, svg, flags=re.IGNORECASE)
    return svg


def _unbroken(cell: str) -> str:
    """A cell that breaks into lines only before an interval or a correlation."""
    return re.sub(r" (?!\[|r=)", "\N{NO-BREAK SPACE}", cell)
