"""The whole page."""

from collections.abc import Sequence
from html import escape
from importlib.resources import files

from distill.report.blocks import Chapter
from distill.report.page.markup import chapter, contents

_HERE = files("distill.report.page")


def page(title: str, about: str, chapters: Sequence[Chapter]) -> str:
    """The page called `title`, with `about` under it."""
    style = _HERE.joinpath("style.css").read_text(encoding="utf-8").strip()
    script = _HERE.joinpath("page.js").read_text(encoding="utf-8").strip()
    body = "\n".join(chapter(each) for each in chapters)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(title)}</title>
<style>
{style}
</style>
</head>
<body>
<a class="skip" href="#main">Skip to the content</a>
<header>
<h1>{escape(title)}</h1>
<p>{escape(about)}</p>
<button id="theme" type="button" hidden>Theme: as the system</button>
{contents({each.key: each.title for each in chapters})}
</header>
<main id="main" tabindex="-1">
{body}
</main>
<footer><p>Made by distill report. Beside this page lie figures/*.svg, figures/*.json and report.json.</p></footer>
<script>
{script}
</script>
</body>
</html>
"""
