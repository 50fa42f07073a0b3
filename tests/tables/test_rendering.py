"""The exact text of one small table in every format."""

import csv
import io
import json
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest

from distill.runs.store import scan
from distill.tables import listing, published_data, rendering
from distill.tables.cells import measure_table
from distill.tables.published import load
from distill.tables.rendering import Content, TextTable, render
from distill.tables.table import Table, build

FILES = runpy.run_path(str(Path(__file__).with_name("store_files.py")))
add_run, add_seeds = FILES["add_run"], FILES["add_seeds"]

LEGEND = (
    "± is the standard deviation over seeds; [ ] is the 95 % interval of the difference in percentage points: Welch's,"
    " and paired by seed with the correlation r"
)
TERMINAL = f"""\
dataset digits, student resnet8, recipe demo, fp32, accuracy in percent on the test set

method     teacher   n    last epoch  best epoch (chosen on the test set)    difference from ce          paired by seed  parameters  seconds
---------  --------  -  ------------  -----------------------------------  --------------------  ----------------------  ----------  -------
ce         none      3  91.00 ± 1.00                         92.50 ± 0.00              baseline                       -       78042     12.5
kd_w9_t2   resnet20  3  93.00 ± 0.87                         93.00 ± 0.87  +2.00 [-0.14, +4.14]  [+0.76, +3.24] r=+0.87       78042     12.5
zscore_kd  resnet20  1   94.25 (n=1)                          94.25 (n=1)                 +3.25                       -       78042    100.0

{LEGEND}
1 failed, 1 unfinished not shown
"""  # noqa: E501
NARROW = f"""\
dataset digits, student resnet8, recipe demo, fp32, accuracy in percent on the test set

method     teacher   n    last epoch  best epoch (chosen on the test set)
---------  --------  -  ------------  -----------------------------------
ce         none      3  91.00 ± 1.00                         92.50 ± 0.00
kd_w9_t2   resnet20  3  93.00 ± 0.87                         93.00 ± 0.87
zscore_kd  resnet20  1   94.25 (n=1)                          94.25 (n=1)

method     teacher     difference from ce          paired by seed  parameters
---------  --------  --------------------  ----------------------  ----------
ce         none                  baseline                       -       78042
kd_w9_t2   resnet20  +2.00 [-0.14, +4.14]  [+0.76, +3.24] r=+0.87       78042
zscore_kd  resnet20                 +3.25                       -       78042

method     teacher   seconds
---------  --------  -------
ce         none         12.5
kd_w9_t2   resnet20     12.5
zscore_kd  resnet20    100.0

{LEGEND}
1 failed, 1 unfinished not shown
"""
MARKDOWN = f"""\
dataset digits, student resnet8, recipe demo, fp32, accuracy in percent on the test set

| method | teacher | n | last epoch | best epoch (chosen on the test set) | difference from ce | paired by seed | parameters | seconds |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| ce | none | 3 | 91.00 ± 1.00 | 92.50 ± 0.00 | baseline | - | 78042 | 12.5 |
| kd_w9_t2 | resnet20 | 3 | 93.00 ± 0.87 | 93.00 ± 0.87 | +2.00 [-0.14, +4.14] | [+0.76, +3.24] r=+0.87 | 78042 | 12.5 |
| zscore_kd | resnet20 | 1 | 94.25 (n=1) | 94.25 (n=1) | +3.25 | - | 78042 | 100.0 |

{LEGEND}

1 failed, 1 unfinished not shown
"""  # noqa: E501
LATEX = r"""% \usepackage{booktabs,graphicx}
{\parindent=0pt\raggedright
dataset digits, student resnet8, recipe demo, fp32, accuracy in percent on the test set\par\smallskip
\leavevmode\setbox2=\hbox{%
\begin{tabular}{@{}llrrrrrr@{}}
\toprule
method & teacher & n & last epoch & \shortstack[r]{best epoch\\(chosen on\\the test\\set)} & difference from ce & paired by seed & parameters \\
\midrule
ce & none & 3 & 91.00 $\pm$ 1.00 & 92.50 $\pm$ 0.00 & baseline & - & 78042 \\
kd\_w9\_t2 & resnet20 & 3 & 93.00 $\pm$ 0.87 & 93.00 $\pm$ 0.87 & +2.00 [$-$0.14, +4.14] & [+0.76, +3.24] r=+0.87 & 78042 \\
zscore\_kd & resnet20 & 1 & 94.25 (n=1) & 94.25 (n=1) & +3.25 & - & 78042 \\
\bottomrule
\end{tabular}}%
\ifdim\wd2>\linewidth\resizebox{\linewidth}{!}{\box2}\else\box2\fi
\par\smallskip\footnotesize
$\pm$ is the standard deviation over seeds; [ ] is the 95 \% interval of the difference in percentage points: Welch's, and paired by seed with the correlation r\par
1 failed, 1 unfinished not shown\par
}
"""  # noqa: E501
PLAIN = f"""\
method	dataset	teacher	student	recipe	precision	measured on	n	last epoch	best epoch (chosen on the test set)	difference from ce	paired by seed	parameters	seconds
ce	digits	none	resnet8	demo	fp32	test	3	91.00 ± 1.00	92.50 ± 0.00	baseline	-	78042	12.5
kd_w9_t2	digits	resnet20	resnet8	demo	fp32	test	3	93.00 ± 0.87	93.00 ± 0.87	+2.00 [-0.14, +4.14]	[+0.76, +3.24] r=+0.87	78042	12.5
zscore_kd	digits	resnet20	resnet8	demo	fp32	test	1	94.25 (n=1)	94.25 (n=1)	+3.25	-	78042	100.0
{LEGEND}
1 failed, 1 unfinished not shown
"""  # noqa: E501


@pytest.fixture
def table(runs_dir: Path) -> Table:
    """Three rows; the intervals of the second are checked against scipy.stats in test_statistics."""
    add_seeds(runs_dir, [90.0, 91.0, 92.0], loss="ce", best=92.5)
    add_seeds(runs_dir, [92.0, 93.5, 93.5], loss="kd_w9_t2")
    add_seeds(runs_dir, [94.25], loss="zscore_kd", seconds=100.0)
    add_run(runs_dir, loss="zscore_kd", seed=9, accuracy=None)
    add_run(runs_dir, loss="zscore_kd", seed=8, failure={"epoch": 3, "step": 17, "term": "kd", "message": "nan"})
    records = scan(runs_dir)
    return build(records, candidates=records)


@pytest.mark.parametrize(
    ("form", "expected"),
    [("terminal", TERMINAL), ("markdown", MARKDOWN), ("latex", LATEX), ("plain", PLAIN)],
)
def test_the_text_is_this(table: Table, form: str, expected: str) -> None:
    assert render(table.content(), form=form) == expected


def test_a_narrow_terminal_continues_below(table: Table) -> None:
    assert render(table.content(), form="terminal", width=80) == NARROW
    assert all(len(line) <= 80 for line in NARROW.splitlines() if line.startswith(("method", "-", "kd")))


def test_json_has_full_precision_runs_and_seeds(table: Table) -> None:
    document = json.loads(render(table.content(), form="json"))
    row = document["rows"][1]
    assert (row["method"], row["n"], row["seeds"], len(row["runs"])) == ("kd_w9_t2", 3, [1, 2, 3], 3)
    assert row["last"] == {"mean": 93.0, "deviation": pytest.approx(0.75**0.5), "values": [92.0, 93.5, 93.5]}
    assert row["difference"]["welch_low"] == pytest.approx(-0.13772186491, abs=1e-10)
    assert row["difference"]["paired_high"] == pytest.approx(3.24206885587, abs=1e-10)
    assert row["difference"]["correlation"] == pytest.approx(0.75**0.5)
    assert row["teacher"]["weights_sha256"].startswith("a1b2")
    assert document["rows"][2]["last"]["deviation"] is None
    assert (document["baseline"], document["not_shown"]) == ("ce", {"failed": 1, "unfinished": 1})


def test_csv_is_one_line_a_row_with_equal_columns(table: Table) -> None:
    text = render(table.content(), form="csv")
    ce, kd, zscore = csv.DictReader(io.StringIO(text))
    assert text.count("\n") == 4
    assert float(kd["last.deviation"]) == 0.75**0.5
    assert (kd["seeds"], kd["difference.baseline"]) == ("1 2 3", "ce")
    assert (zscore["last.deviation"], zscore["difference.welch_low"]) == ("", "")
    assert (ce["is_baseline"], kd["is_baseline"]) == ("true", "false")


def test_names_cannot_break_a_format() -> None:
    odd = TextTable("50% & #1", ("a|b", "n"), (False, True), (("x_{y}~^\\", "-1.5"),), ("$5 <b>",))
    assert rendering.latex(odd).splitlines() == [
        r"% \usepackage{booktabs,graphicx}",
        r"{\parindent=0pt\raggedright",
        r"50\% \& \#1\par\smallskip",
        r"\leavevmode\setbox2=\hbox{%",
        r"\begin{tabular}{@{}lr@{}}",
        r"\toprule",
        r"a$|$b & n \\",
        r"\midrule",
        r"x\_\{y\}\textasciitilde{}\textasciicircum{}\textbackslash{} & $-$1.5 \\",
        r"\bottomrule",
        r"\end{tabular}}%",
        r"\ifdim\wd2>\linewidth\resizebox{\linewidth}{!}{\box2}\else\box2\fi",
        r"\par\smallskip\footnotesize",
        r"\$5 $<$b$>$\par",
        r"}",
    ]
    assert "| a\\|b | n |" in rendering.markdown(odd)
    assert "\\<b>" in rendering.markdown(odd)


def test_a_common_holdout_is_said_above_and_in_the_header(runs_dir: Path) -> None:
    add_seeds(runs_dir, [90.0, 91.0], holdout=100)
    records = scan(runs_dir)
    on_holdout = build(records, candidates=records)
    terminal = render(on_holdout.content(), form="terminal")
    assert "accuracy in percent on 100 held-out training images" in terminal
    assert "best epoch (chosen on held-out images)" in terminal
    assert "best epoch (chosen on the test set)" not in terminal
    assert "\tholdout 100\t" in render(on_holdout.content(), form="plain")


def test_students_and_data_sets_have_columns_where_they_differ(runs_dir: Path) -> None:
    add_run(runs_dir, student="resnet8")
    add_run(runs_dir, student="resnet20", dataset="cifar100")
    records = scan(runs_dir)
    lines = render(build(records, candidates=records).content(), form="terminal").splitlines()
    assert lines[0] == "recipe demo, fp32, accuracy in percent on the test set"
    assert lines[2].split()[:4] == ["method", "dataset", "teacher", "student"]
    assert [line.split()[:4] for line in lines[4:6]] == [
        ["kd", "cifar100", "resnet20", "resnet20"],
        ["kd", "digits", "resnet20", "resnet8"],
    ]


def test_cost_adds_seconds_of_an_epoch_and_the_most_memory_of_any_seed(runs_dir: Path) -> None:
    add_run(runs_dir, loss="kd", seed=1, accuracy=90.0, seconds=60.0, memory=300 * 2**20)
    add_run(runs_dir, loss="kd", seed=2, accuracy=90.0, seconds=30.0, memory=500 * 2**20)
    add_run(runs_dir, loss="ce", seed=1, accuracy=90.0, seconds=12.0)
    records = scan(runs_dir)
    table = build(records, candidates=records)
    epochs = records[0].result["epochs"]
    header, *lines = render(table.content(cost=True), form="plain").splitlines()
    rows = {line.split("\t")[0]: line.split("\t") for line in lines}
    assert header.split("\t")[-2:] == ["s/epoch", "peak MiB"]
    assert rows["kd"][-2:] == [f"{45 / epochs:.2f}", "500"]
    assert rows["ce"][-2:] == [f"{12 / epochs:.2f}", "-"]
    assert "s/epoch" not in render(table.content(), form="plain")


def test_a_first_stage_is_no_row_and_no_damage(runs_dir: Path) -> None:
    add_run(runs_dir, loss="kd", seed=1, accuracy=90.0)
    path = next(path for path in runs_dir.iterdir() if "kd" in path.name) / "config.yaml"
    path.write_text(path.read_text().replace("loss: kd", "loss: kd first_stage"))
    records = scan(runs_dir)
    table = build(records, candidates=records)
    assert table.rows == ()
    assert table.hidden == {}


def test_a_table_without_rows_is_its_header() -> None:
    empty = TextTable("", ("method", "last epoch"), (False, True), (), ())
    content = Content(table=lambda _: empty, records=list, document=dict, notes=tuple)
    body = render(content, form="latex").partition("\\toprule\n")[2].partition("\\bottomrule")[0]
    assert body == "method & \\shortstack[r]{last\\\\epoch} \\\\\n\\midrule\n"
    for form in ("terminal", "markdown", "plain", "html"):
        assert "method" in render(content, form=form)


def test_seconds_are_in_a_latex_table_only_if_asked_for(table: Table) -> None:
    assert "seconds" not in render(table.content(), form="latex")
    assert all(f" & {name}" in render(table.content(cost=True), form="latex") for name in ("seconds", "s/epoch"))


@pytest.mark.parametrize("shape", ["notes", "ours", "published", "listing"])
def test_tex_sets_the_table_on_a_page_of_an_article(table: Table, runs_dir: Path, tmp_path: Path, shape: str) -> None:
    engine = next(filter(None, map(shutil.which, ("tectonic", "pdflatex", "lualatex", "xelatex"))), None)
    if engine is None:
        pytest.skip("needs a TeX engine: tectonic, pdflatex, lualatex or xelatex")
    long = "a note that is much longer than a line: " + ", ".join(["kd (temperature=2) 65.50"] * 40)
    body = {
        "notes": lambda: rendering.latex(
            TextTable("A title_with 50 % & more", ("m", "n") * 2, (False, True) * 2, (("a", "-1.5") * 2,), (long,))
        ),
        "ours": lambda: render(table.content(cost=True), form="latex"),
        "published": lambda: render(published_data.content(measure_table(load("cifar100_same"), ())), form="latex"),
        "listing": lambda: render(listing.content(scan(runs_dir), size=True), form="latex"),
    }[shape]()
    head = "\\documentclass{article}\\usepackage{booktabs,graphicx}"
    (tmp_path / "t.tex").write_text(f"{head}\\begin{{document}}\n{body}\\end{{document}}\n")
    options = ["--keep-logs"] if Path(engine).name == "tectonic" else ["-interaction=nonstopmode", "-halt-on-error"]
    done = subprocess.run([engine, *options, "t.tex"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    log = done.stdout + (tmp_path / "t.log").read_text(errors="replace")
    assert "Overfull" not in log
    assert "Output written" in log


def test_what_a_terminal_would_obey_is_an_escape_in_every_format() -> None:
    name, safe = "a\x1b[31m\nb\u202ec\x9b", r"a\x1b[31m\nb\u202ec\x9b"
    table = TextTable(name, (name,), (False,), ((name,),), (name,))
    records = [{name: name, "list": [name]}]
    content = Content(lambda _: table, lambda: records, lambda: {name: records}, lambda: [name])
    for form in ("plain", "terminal", "markdown", "html", "latex", "csv", "json"):
        shown = render(content, form=form)
        assert shown.replace("\n", "").replace("\t", "").isprintable(), form
        if form == "json":
            assert json.loads(shown) == {name: records}
        elif form != "latex":
            assert safe in shown.replace("\\\\", "\\"), form
