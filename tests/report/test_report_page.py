"""The page: sound HTML that needs nothing else, figures with words, numbers that are the figures'."""

import json
import re
import xml.etree.ElementTree
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distill.report.drawing import style_of
from distill.report.measuring import files_of
from distill.report.page import (
    FAINT,
    GRID,
    INK,
    PAGE,
    PAPER,
    Figure,
    PageTable,
    Section,
    Text,
    check_folder,
    number_columns,
    render,
    text_columns,
    write_report,
)
from distill.report.runs import Images, Report, ReportedRun, make_report
from distill.report.sections import calibration, section

VOID = {"meta", "br", "img", "link", "input", "hr"}
EMPTY_SVG = {"path", "use", "image", "rect", "circle", "line"}
FIGURES = {
    "class_errors",
    "class_means",
    "confusion",
    "curves",
    "entropy",
    "fidelity",
    "gradient_norms",
    "logits",
    "mean_deviation",
    "reliability",
    "temperature",
    "toy",
    "training",
    "tsne",
}


class Page(HTMLParser):
    """Tags with their attributes in order; fails on a tag that is not closed where it was opened."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[tuple[str, str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        assert len(attrs) == len(dict(attrs)), f"an attribute of {tag} is given twice"
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.words.append((self.open[-1] if self.open else "", data.strip()))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of every such tag."""
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def page(files: dict[str, str]) -> Page:
    """The page of the report."""
    return Page(files[PAGE])


def test_every_figure_is_there_with_drawing_and_numbers(files: dict[str, str], page: Page) -> None:
    assert {name for name in files if name != PAGE} == {
        f"figures/{n}.{kind}" for n in FIGURES for kind in ("svg", "json")
    }
    assert {each["id"] for each in page.all("figure")} == {f"figure-{name}" for name in FIGURES}
    assert len(page.all("figcaption")) == len(FIGURES)
    drawings = [each for each in page.all("svg") if "drawing" in str(each.get("class"))]
    assert len(drawings) == len(FIGURES)
    assert all(each["role"] == "img" and len(str(each["aria-label"])) > 30 for each in drawings)


def test_nothing_is_fetched_from_anywhere(page: Page, files: dict[str, str]) -> None:
    for tag, attributes in page.tags:
        for key in ("src", "href", "xlink:href", "srcset", "action", "poster"):
            value = attributes.get(key)
            if value is None:
                continue
            local = value.startswith("#") or (value in files and tag == "a")
            assert local or (tag == "image" and value.startswith("data:image/png;base64,")), (tag, key, value[:80])
    assert not page.all("link")
    assert not page.all("iframe")
    assert "http" not in re.sub(r'"data:[^"]*"', "", files[PAGE])
    assert not re.search(r"@import|url\((?!#)", files[PAGE])


def test_names_are_unique_and_every_link_has_its_end(page: Page) -> None:
    names = Counter(attributes["id"] for _, attributes in page.tags if "id" in attributes)
    assert names.most_common(1)[0][1] == 1
    for _, attributes in page.tags:
        for key in ("href", "xlink:href"):
            if str(attributes.get(key, "")).startswith("#"):
                assert str(attributes[key])[1:] in names
        for key in ("aria-labelledby", "clip-path"):
            if key in attributes:
                assert re.sub(r"url\(#|\)", "", str(attributes[key])) in names


def test_headings_tables_and_ways_for_everybody(page: Page) -> None:
    headings = [tag for tag, _ in page.tags if re.fullmatch(r"h\d", tag)]
    assert headings == ["h1", *["h2"] * (len(headings) - 1)]
    assert len(headings) == 13
    assert page.all("html")[0]["lang"] == "en"
    assert next(tag for tag, attributes in page.tags if "href" in attributes) == "a"
    assert page.all("a")[0]["class"] == "skip"
    assert all(each.get("scope") in ("col", "row") for each in page.all("th"))
    assert len(page.all("table")) == len(page.all("caption")) >= 10
    assert {"main", "nav", "header", "footer"} <= {tag for tag, _ in page.tags}
    assert [each for each in page.all("button") if "hidden" not in each] == []  # nothing that needs the script
    scrolling = [each for each in page.all("div") if each.get("class") == "scroll"]
    assert all(each["tabindex"] == "0" and ("aria-label" in each or "aria-labelledby" in each) for each in scrolling)


def test_colours_follow_the_theme_in_the_page_and_are_plain_in_files(files: dict[str, str]) -> None:
    for place in (INK, FAINT, GRID, PAPER):
        assert not any(place.lower() in text.lower() for text in files.values())
    assert "var(--ink)" in files[PAGE]
    assert not any("var(" in text for name, text in files.items() if name.endswith(".svg"))
    style = files[PAGE].partition("<style>")[2].partition("</style>")[0]
    assert "prefers-color-scheme: dark" in style
    assert '[data-theme="dark"]' in style
    assert "@media print" in style
    assert ":focus-visible" in style


def test_text_is_text_and_escaped(files: dict[str, str], page: Page) -> None:
    assert ("text", "test accuracy (%)") in page.words
    words = {word for _, word in page.words}
    assert "<dog>" in words
    assert "cat & dog" in words
    assert "/home/somebody" not in "".join(files.values())


HOSTILE = "a\x1b[2J\x07\x9b\u202e <b>&$\\frac$ {} %d"


def unprintable(text: str) -> set[str]:
    return {letter for letter in text if not letter.isprintable() and letter not in "\n\u00a0"}


def test_names_that_a_terminal_would_obey_are_escapes_in_figures_and_pages(whole: Report) -> None:
    """Of runs, methods, terms of a loss, classes and data sets; none of them ends a drawing or a page either."""

    def hostile(run: ReportedRun) -> ReportedRun:
        names = {key: f"{HOSTILE}{name}" for key, name in run.record.names.items()}
        norms = {"gradient_norms": {HOSTILE: 1.0}}
        lines = tuple({**line, "train": {**line["train"], HOSTILE: 1.0}, **norms} for line in run.history)
        return replace(run, record=replace(run.record, names=names), history=lines, missing=(HOSTILE,))

    assert whole.images
    assert whole.teacher
    images = replace(whole.images, class_names=tuple(f"{HOSTILE}{n}" for n in range(len(whole.images.class_names))))
    baselines = [hostile(each) for each in whole.baselines]
    made = files_of(make_report(hostile(whole.run), baselines, hostile(whole.teacher), images=images))
    for name, text in made.items():
        assert not unprintable(text), name
        if name.endswith(".svg"):
            xml.etree.ElementTree.fromstring(text)
    Page(made[PAGE])
    assert "a\\x1b[2J" in made[PAGE]
    drawn = [name for name, text in made.items() if name.endswith(".svg") and "a\\x1b[2J" in text]
    assert len(drawn) > 5, drawn


def test_the_page_says_what_must_be_known(files: dict[str, str]) -> None:
    text = files[PAGE]
    assert calibration.WARNING.replace("'", "&#39;") in text
    assert "15 bins of equal width" in text
    assert "two-fold cross-fitting on the test set" in text
    assert "one seed, no standard deviation" in text
    assert "as training recorded it after these epochs" in text


def test_numbers_are_those_of_the_figures_and_tables(files: dict[str, str], page: Page) -> None:
    fidelity = json.loads(files["figures/fidelity.json"])["students"]
    texts = [word for place, word in page.words if place == "text"]
    cells = [word for place, word in page.words if place == "td"]
    for each in fidelity.values():
        assert f"{each['agreement']:.1f}" in texts
        assert f"{each['kl']['4']:.3f}" in texts
        assert f"{each['agreement']:.2f}" in cells
    for each in json.loads(files["figures/class_means.json"])["students"].values():
        assert f"mean {each['raw']['mean']:.3f}, max {each['raw']['max']:.2f}" in texts
    for each in json.loads(files["figures/reliability.json"])["networks"].values():
        assert f"{each['scaled']['ece']:.2f}" in cells
        assert f"{each['raw']['nll']:.4f}" in cells
    toy = json.loads(files["figures/toy.json"])["networks"]
    assert f"{toy['student 1']['kd']:.3f}" in texts
    assert json.loads(files["figures/curves.json"])["runs"].keys() == {
        "teacher resnet8",
        "ce",
        "kd temperature=4",
        "zscore_kd",
    }


def test_equal_runs_give_equal_bytes(whole: Report, files: dict[str, str]) -> None:
    for key in ("curves", "embedding", "fidelity", "toy"):
        figures = [block for block in section(key, whole).blocks if isinstance(block, Figure)]
        assert figures
        for each in figures:
            assert each.inline_svg in files[PAGE]
            assert each.file_svg == files[f"figures/{each.name}.svg"]


def test_runs_alone_still_make_a_page(make_run) -> None:
    run, other = make_run("aaaa", loss="kd"), make_run("bbbb", loss="ce")
    found = make_report(run, [other], None, images=None, missing=["the data are not here"])
    files = files_of(found)
    page = Page(files[PAGE])
    assert {name for name in files if name.endswith(".svg")} == {
        f"figures/{n}.svg" for n in ("curves", "training", "toy")
    }
    assert "the data are not here." in {word for _, word in page.words}
    assert sum(each.get("class") == "missing" for each in page.all("p")) >= 7
    assert [word for _, word in page.words if word == "abc"] == ["abc", "abc"]


def test_a_run_without_teacher_and_curves(images: Images, whole: Report) -> None:
    run = whole.run
    alone = make_report(ReportedRun(run.record, (), {}, run.outputs), [], None, images=images)
    for key, shown in (("calibration", True), ("errors", True), ("fidelity", False), ("curves", False)):
        made = section(key, alone)
        assert any(isinstance(block, Figure) for block in made.blocks) is shown
        assert any(isinstance(block, Text) and block.missing for block in made.blocks) is not shown
        Page(render("title", "about", [made]))
    reason = section("fidelity", alone).blocks[0]
    assert isinstance(reason, Text)
    assert "There is no teacher to compare with" in reason.text
    assert section("temperature", alone).blocks


def test_a_network_with_one_output_for_all_images_is_named_and_not_drawn(whole: Report) -> None:
    """scikit-learn divides by the spread of the first direction, and fails."""
    outputs = whole.run.outputs
    assert outputs is not None
    assert outputs.embeddings is not None
    dead = replace(whole.run, outputs=replace(outputs, embeddings=np.zeros_like(outputs.embeddings)))
    (figure,) = section("embedding", make_report(dead, [whole.baselines[0]], None, images=whole.images)).blocks
    assert isinstance(figure, Figure)
    assert set(figure.numbers["networks"]) == {"ce"}
    assert "With the same embedding for all images: zscore_kd." in figure.caption
    (reason,) = section("embedding", make_report(dead, [], None, images=whole.images)).blocks
    assert isinstance(reason, Text)
    assert reason.missing


def test_a_drawing_in_a_page() -> None:
    svg = (
        '<?xml version="1.0"?><svg xmlns="http://x" xmlns:xlink="http://y" width="72pt" height="36pt" '
        'viewBox="0 0 72 36"><!-- a --><defs><style type="text/css">*{a: b}</style><path id="m"/></defs>'
        f'<use xlink:href="#m" style="fill: {INK}" clip-path="url(#c)"/></svg>'
    )
    figure = Figure("n", "caption", 'a "b"', {}, svg)
    assert figure.inline_svg == (
        '<svg class="drawing drawing-n" viewBox="0 0 72 36" role="img" aria-label="a &#34;b&#34;" '
        'style="width:100%;max-width:96px;min-width:53px"><defs><style>.drawing-n * {a: b}</style>'
        '<path id="n-m"/></defs><use href="#n-m" style="fill: var(--ink)" clip-path="url(#n-c)"/></svg>'
    )
    assert INK not in figure.file_svg


def test_a_report_takes_the_place_of_an_older_one_and_of_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "report"
    check_folder(folder, "aaaa")
    write_report(folder, {PAGE: "one", "figures/old.svg": "x"}, record={"subject": "aaaa"})
    check_folder(folder, "aaaa")
    write_report(folder, {PAGE: "two", "figures/new.svg": "y"}, record={"subject": "aaaa"})
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert names == {PAGE, "report.json", "figures/new.svg"}
    assert json.loads((folder / "report.json").read_text())["files"] == ["figures/new.svg", PAGE]
    with pytest.raises(ValueError, match="holds the report of aaaa: choose another --out DIR"):
        check_folder(folder, "bbbb")
    other = tmp_path / "other"
    other.mkdir()
    check_folder(other, "aaaa")
    (other / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not empty and holds no report"):
        check_folder(other, "aaaa")
    with pytest.raises(ValueError, match="must be a folder"):
        check_folder(other / "mine.txt", "aaaa")


def test_an_edited_record_removes_nothing_elsewhere(tmp_path: Path) -> None:
    folder = tmp_path / "report"
    (tmp_path / "precious").write_text("x")
    write_report(folder, {PAGE: "one"}, record={"subject": "aaaa"})
    (folder / "report.json").write_text(json.dumps({"subject": "aaaa", "files": ["../precious", "/etc/passwd", 3]}))
    write_report(folder, {PAGE: "two"}, record={"subject": "aaaa"})
    assert (tmp_path / "precious").read_text() == "x"


def test_gradients_are_those_that_training_recorded(make_run: Callable[..., ReportedRun]) -> None:
    norms = [(None, 12.0), (0.4, None), (0.25, 3.0)]  # the first epoch's by an older version
    run = make_run("eeee", loss="zscore_kd", terms=("ce", "kd"))
    lines = [
        {**line, "gradient_norms": {"ce": ce, "kd": kd}} for line, (ce, kd) in zip(run.history, norms, strict=True)
    ]
    other = make_run("ffff", loss="ce")  # without a record of its gradients
    report = make_report(replace(run, history=tuple(lines)), [other], None, images=None)
    by_epoch, table = section("gradients", report).blocks
    assert isinstance(by_epoch, Figure)
    assert isinstance(table, PageTable)
    assert by_epoch.name == "gradient_norms"
    assert by_epoch.numbers == {
        "runs": {"zscore_kd": {"epoch": [1, 2, 3], "terms": {"ce": [None, 0.4, 0.25], "kd": [12.0, None, 3.0]}}}
    }
    assert "zscore_kd kd from 12 to 3" in by_epoch.alt
    assert table.rows == [("zscore_kd", "ce", "2 to 3", "0.4", "0.25"), ("zscore_kd", "kd", "1 to 3", "12", "3")]
    assert style_of("zscore_kd").colour.lower() in by_epoch.svg.lower()
    assert "norm of the gradient" in by_epoch.svg
    (reason,) = section("gradients", make_report(other, [], None, images=None)).blocks
    assert reason == Text("No gradients: these runs have no record of their norms.", missing=True)


def test_epochs_without_gradients_are_left_out(make_run: Callable[..., ReportedRun]) -> None:
    run = make_run("eeee", loss="zscore_kd", terms=("ce", "kd"))
    first, second, last = run.history
    lines = (first, {**second, "gradient_norms": {"ce": 0.5}}, {**last, "gradient_norms": {"ce": 0.25}})
    made = section("gradients", make_report(replace(run, history=lines), [], None, images=None))
    (by_epoch, *_) = [each for each in made.blocks if isinstance(each, Figure)]
    assert by_epoch.numbers == {"runs": {"zscore_kd": {"epoch": [2, 3], "terms": {"ce": [0.5, 0.25]}}}}


def test_a_narrow_column_of_figures_breaks_before_an_interval_alone() -> None:
    row = ("KD 4", "-2.50 [-4.72, -0.27]", "[-4.38, -0.61] r=+0.89", "45.84 ± 0.34", "3 student seeds")
    columns = [*text_columns("a"), *number_columns("b", "c", "d"), *text_columns("e")]
    text = render("title", "about", [Section("t", "t", [PageTable("c", columns, [row])])])
    breaks = [cell.split(" ") for cell in re.findall(r"<td[^>]*>(.*?)</td>", text)]
    assert [len(parts) for parts in breaks] == [2, 2, 1, 3]
    assert breaks[0][0] == "-2.50"
    assert breaks[1][1] == "r=+0.89"


def test_equal_headers_are_columns_of_their_own(make_run: Callable[..., ReportedRun]) -> None:
    """Losses of the user's own may have the name of a column."""
    runs = [make_run("aaaa", loss="key", weight=1.0), make_run("bbbb", loss="what", weight=2.0)]
    report = make_report(runs[0], [runs[1]], None, images=None)
    for key, headers in (("configuration", ["key", "what", "key"]), ("provenance", ["what", "what", "key"])):
        made = section(key, report)
        (table,) = made.blocks
        assert isinstance(table, PageTable)
        assert [column.header for column in table.columns] == headers
        text = render("title", "about", [made])
        assert re.findall(r'<th scope="col">(.*?)</th>', text) == headers
        assert text.count("<td") == 2 * len(table.rows) > 0
