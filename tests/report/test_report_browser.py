"""The page in a real browser: no error on its console; sorting, links and themes work; screenshots are taken.

A copy of the page gets a script that acts as a reader would and writes the results into the page, which the browser
prints. `DISTILL_TEST_SCREENSHOTS=DIR` keeps the screenshots.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from distill.report.page import PAGE, write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium: apt-get install chromium"),
]
DARK, LIGHT = "--blink-settings=preferredColorScheme=0", "--blink-settings=preferredColorScheme=1"
Browse = Callable[..., str]

READER = """<script>
window.addEventListener("load", () => {
  const result = {};
  const table = document.querySelector("table.sortable");
  const column = (n) => [...table.tBodies[0].rows].map((row) => row.cells[n].textContent);
  const heads = [...table.tHead.rows[0].cells];
  const place = heads.findIndex((head) => head.textContent.startsWith("measured"));
  const sort_state = () => [column(0), heads[place].getAttribute("aria-sort")];
  result.before = column(0);
  result.buttons = heads.map((head) => head.querySelector("button") !== null);
  heads[place].querySelector("button").click();
  result.up = [...sort_state(), column(place)];
  heads[place].querySelector("button").click();
  result.down = [...sort_state(), column(place)];
  heads[0].querySelector("button").click();
  result.words = [column(0), heads[0].getAttribute("aria-sort"), heads[place].getAttribute("aria-sort")];
  const theme = document.getElementById("theme");
  const look = () => [theme.textContent, getComputedStyle(document.body).backgroundColor,
    getComputedStyle(document.querySelector("#figure-curves text")).fill];
  result.themes = [look()];
  for (let n = 0; n < 3; n += 1) { theme.click(); result.themes.push(look()); }
  const links = [...document.querySelectorAll('a[href^="#"]')];
  result.dead = links.filter((link) => document.querySelector(link.getAttribute("href")) === null).length;
  document.documentElement.style.scrollBehavior = "auto";
  document.querySelector('nav a[href="#calibration"]').click();
  result.hash = location.hash;
  result.wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  const captions = [...document.querySelectorAll("caption")];
  result.cut = captions.filter((each) => each.getBoundingClientRect().width > window.innerWidth).length;
  result.drawings = [...document.querySelectorAll("svg.drawing")].filter((each) => {
    const box = each.getBoundingClientRect();
    return box.width > 200 && box.height > 100;
  }).length;
  const focusable = [...document.querySelectorAll("a, button, [tabindex='0']")];
  result.unreachable = focusable.filter((each) => { each.focus(); return document.activeElement !== each; }).length;
  const out = document.createElement("pre");
  out.id = "result";
  out.textContent = JSON.stringify(result);
  document.body.append(out);
});
</script>"""


@pytest.fixture(scope="module")
def site(files: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report in a folder, with a copy of its page that a script reads."""
    folder = tmp_path_factory.mktemp("site")
    write_report(folder, files, record={"subject": "aaaa"})
    (folder / "read.html").write_text(files[PAGE].replace("</body>", f"{READER}</body>"))
    return folder


@pytest.fixture
def browse(site: Path, tmp_path: Path) -> Browse:
    """Open a page of the site and return what the browser prints; any message on its console is an error."""

    def run(page: str, *words: str) -> str:
        assert CHROMIUM is not None
        command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        command += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=5000", "--timeout=60000"]
        command += ["--enable-logging=stderr", "--v=0", *words, (site / page).as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)
        assert done.returncode == 0, done.stderr
        assert [line for line in done.stderr.splitlines() if "CONSOLE" in line or "Uncaught" in line] == []
        return done.stdout

    return run


def test_a_message_on_the_console_is_an_error(site: Path, browse: Browse) -> None:
    (site / "loud.html").write_text("<script>undefinedFunction()</script>")
    with pytest.raises(AssertionError, match="undefinedFunction is not defined"):
        browse("loud.html", "--dump-dom")


def result(page: str) -> dict[str, Any]:
    """What the script wrote into the page."""
    found = re.search(r'<pre id="result">(.*?)</pre>', page, re.DOTALL)
    assert found is not None
    values: dict[str, Any] = json.loads(unescape(found[1]))
    return values


def test_a_reader_sorts_follows_links_and_changes_the_theme(browse: Browse) -> None:
    found = result(browse("read.html", "--dump-dom", "--window-size=1200,900", LIGHT))
    names = ["teacher resnet8", "ce", "kd temperature=4", "zscore_kd"]
    assert found["before"] == names
    assert all(found["buttons"])
    up, state, values = found["up"]
    assert state == "ascending"
    assert [float(value) for value in values] == sorted(map(float, values))
    assert sorted(up) == sorted(names)
    down, state, values = found["down"]
    assert state == "descending"
    assert [float(value) for value in values] == sorted(map(float, values), reverse=True)
    assert up != down
    assert found["words"] == [sorted(names), "ascending", None]
    system, light, dark, again = found["themes"]
    assert [each[0] for each in found["themes"]] == [f"Theme: {name}" for name in ("system", "light", "dark", "system")]
    assert system[1:] == light[1:] == again[1:]
    assert all(a != b for a, b in zip(light[1:], dark[1:], strict=True))
    assert (found["dead"], found["hash"], found["unreachable"]) == (0, "#calibration", 0)
    assert found["drawings"] == 14
    assert found["wide"] == 0


def test_the_system_decides_the_theme_until_a_reader_does(browse: Browse) -> None:
    system, light, dark, _ = result(browse("read.html", "--dump-dom", DARK))["themes"]
    assert system[1:] == dark[1:] != light[1:]


def test_a_narrow_window_does_not_scroll_sideways(browse: Browse) -> None:
    found = result(browse("read.html", "--dump-dom", "--window-size=500,900"))
    assert (found["wide"], found["cut"]) == (0, 0)


@pytest.mark.parametrize(("name", "words"), [("light", (LIGHT,)), ("dark", (DARK,)), ("narrow", (LIGHT,))])
def test_screenshots(browse: Browse, tmp_path: Path, name: str, words: tuple[str, ...]) -> None:
    folder = Path(os.environ.get("DISTILL_TEST_SCREENSHOTS") or tmp_path)
    path = folder / f"{name}.png"
    width = 500 if name == "narrow" else 1200
    browse(PAGE, f"--screenshot={path}", f"--window-size={width},9000", *words)
    with Image.open(path) as picture:
        assert picture.size == (width, 9000)
        corner = picture.convert("L").getpixel((1, 1))
        colours = picture.convert("RGB").resize((width // 4, 2250)).getcolors(maxcolors=10**7)
    assert isinstance(corner, int)
    assert (corner < 60) is (name == "dark")
    assert colours is not None
    assert len(colours) > 500  # something is drawn


def test_it_prints(browse: Browse, tmp_path: Path) -> None:
    path = tmp_path / "page.pdf"
    browse(PAGE, f"--print-to-pdf={path}", DARK)
    assert path.read_bytes().startswith(b"%PDF")
    assert path.stat().st_size > 50_000
