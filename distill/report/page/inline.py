"""An SVG document made part of a page: names unique there, colours that follow its theme, no foreign address."""

import re
from html import escape

from distill.report.looks import FAINT, GRID, INK, PAPER

THEME = {INK: "var(--ink)", FAINT: "var(--faint)", GRID: "var(--grid)", PAPER: "var(--paper)"}
_LIGHT = {INK: "#1a1c20", FAINT: "#5d636d", GRID: "#e3e5e9", PAPER: "#ffffff"}


def standalone(svg: str) -> str:
    """The document for a file of its own: the light theme's colours."""
    return _coloured(svg, _LIGHT)


def inlined(svg: str, *, name: str, alt: str) -> str:
    """The `svg` element for a page, an image called `alt` to those who hear the page."""
    element = svg[svg.index("<svg") :]
    element = re.sub(r"<!--.*?-->\s*", "", element, flags=re.DOTALL)
    element = re.sub(r'\sxmlns(:xlink)?="[^"]*"', "", element)
    element = element.replace("xlink:href=", "href=")
    element = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', element)
    element = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', element)
    element = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", element)
    element = _widened(_scoped(element, name), alt)
    return _coloured(element, THEME).strip()


def _scoped(element: str, name: str) -> str:
    # matplotlib's own style sheet says `*`, which would reach the whole page
    return re.sub(r"<style[^>]*>\s*\*\s*\{", f"<style>.drawing-{name} * {{", element).replace(
        "<svg ", f'<svg class="drawing drawing-{name}" ', 1
    )


def _widened(element: str, alt: str) -> str:
    """As wide as the page allows, at most as wide as it was drawn; never narrower than can be read."""
    head, rest = element.split(">", 1)
    width = float(re.search(r'width="([\d.]+)pt"', head)[1])  # type: ignore[index]  # matplotlib always writes it
    pixels = width * 4 / 3
    head = re.sub(r'\s(width|height)="[\d.]+pt"', "", head)
    style = f"width:100%;max-width:{pixels:.0f}px;min-width:{0.55 * pixels:.0f}px"
    return f'{head} role="img" aria-label="{escape(alt)}" style="{style}">{rest}'


def _coloured(svg: str, colours: dict[str, str]) -> str:
    for place, colour in colours.items():
        svg = re.sub(re.escape(place), colour, svg, flags=re.IGNORECASE)
    return svg
