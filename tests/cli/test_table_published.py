"""`distill table table=NAME` from its command line to its output and exit code."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from distill.cli import main as command
from distill.cli.arguments import FINISHED, REFUSED
from distill.tables.published import table_names

ROOT = Path(__file__).resolve().parents[2]
STORE = runpy.run_path(str(ROOT / "tests" / "tables" / "published_store.py"))
add_all = STORE["add_all"]
SAME = "table=cifar100_same"
PAIR = "resnet56_resnet20"
Capture = pytest.CaptureFixture[str]


def main(words: list[str]) -> int:
    """Run `distill table` with these words; return the exit code."""
    return command(["table", *words])


@pytest.fixture
def store(runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One pair of Table 2, in `runs` of the current folder."""
    add_all(runs_dir, [70.6, 70.5, 70.7], loss="kd")
    add_all(runs_dir, [71.3, 71.6, 71.4], loss="zscore_kd")
    monkeypatch.chdir(runs_dir.parent)  # a folder named by the environment would have the cells composed anew
    return runs_dir


def cells(capsys: Capture) -> list[tuple[str, str]]:
    """The cells of the document just printed."""
    return [(cell["row"], cell["column"]) for cell in json.loads(capsys.readouterr().out)["cells"]]


def test_rows_and_columns_choose_what_is_shown(store: Path, capsys: Capture) -> None:
    assert main([SAME, "rows=kd,zscore_kd", f"columns={PAIR},vgg13_vgg8", "--format", "json"]) == FINISHED
    # in the order of the table, not of the command
    assert cells(capsys) == [(row, column) for column in ("vgg13_vgg8", PAIR) for row in ("kd", "zscore_kd")]
    assert main([SAME, "--format", "json"]) == FINISHED
    assert len(cells(capsys)) == 17 * 7


def test_seeds_say_when_a_cell_is_full(store: Path, capsys: Capture) -> None:
    asked = [SAME, "rows=kd", f"columns={PAIR}"]
    main([*asked, "seeds=3"])
    assert "distill train" not in capsys.readouterr().out
    main([*asked, "seeds=5"])
    assert (
        f"distill train -m experiment=cifar100/{PAIR} loss=kd seed=4,5  # about 60 min each" in capsys.readouterr().out
    )
    main([*asked, "seeds=2,7,9"])
    assert "loss=kd seed=7,9  # about 60 min each" in capsys.readouterr().out
    main([*asked, f"runs_dir={store}"])
    assert f"seed=4 runs_dir={store}  # about 60 min" in capsys.readouterr().out


def test_filters_on_runs_and_another_baseline(store: Path, capsys: Capture) -> None:
    asked = [SAME, f"columns={PAIR}", "rows=kd", "--format", "json"]
    main([*asked, "seed=1,2", "--baseline", "zscore_kd"])
    (cell,) = json.loads(capsys.readouterr().out)["cells"]
    (line,) = cell["lines"]
    assert line["seeds"] == [1, 2]
    assert line["difference"]["baseline"] == f"zscore_kd, {PAIR}"
    assert line["difference"]["points"] == pytest.approx(70.55 - 71.45)


@pytest.mark.parametrize("form", ["terminal", "markdown", "latex", "csv", "json", "html"])
def test_every_format_of_every_table(store: Path, capsys: Capture, form: str) -> None:
    for name in table_names():
        assert main([f"table={name}", "--format", form]) == FINISHED
        assert capsys.readouterr().out.strip()


def test_a_page_follows_its_suffix(store: Path, tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "same.html"
    assert main([SAME, "--out", str(file)]) == FINISHED
    assert capsys.readouterr().out == f"wrote {file}\n"
    assert file.read_text().startswith("<!doctype html>")
    assert main(["--out", str(file)]) == FINISHED  # the plain table too
    assert "<caption>dataset cifar100, " in file.read_text()


@pytest.mark.parametrize(
    ("argv", "sentences"),
    [
        (["table=cifar100_sme"], ["table=cifar100_sme does not exist: did you mean 'cifar100_same'?"]),
        (
            [SAME, "rows=kdd", "columns=vgg"],
            [
                "rows=kdd is not in table=cifar100_same: did you mean 'kd'?",
                "columns=vgg is not in table=cifar100_same: ",
            ],
        ),
        (["rows=kd"], ["rows= chooses from a published table: add table=NAME"]),
        (
            [SAME, "seeds=0"],
            ["seeds=0 must be a number of seeds (1 to 100) or a list of seeds: seeds=4, or seeds=1,2,5"],
        ),
        ([SAME, "seeds=many"], ["seeds=many must be a number of seeds (1 to 100) or a list"]),
        ([SAME, "--baseline", "kdd"], ["--baseline 'kdd' is no row of table=cifar100_same: did you mean 'kd'?"]),
        ([SAME, "--cost"], ["--cost cannot be combined with table=: leave one of them out"]),
        ([SAME, "studnt=x"], ["unknown key 'studnt' in 'studnt=x': did you mean 'student'?"]),
    ],
)
def test_refusals_are_sentences(store: Path, capsys: Capture, argv: list[str], sentences: list[str]) -> None:
    assert main(argv) == REFUSED
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert captured.out == ""
    assert len(lines) == len(sentences)
    assert all(line.startswith(sentence) for line, sentence in zip(lines, sentences, strict=True))


def test_a_table_of_ones_own_and_a_damaged_one(store: Path, tmp_path: Path, capsys: Capture) -> None:
    folder = tmp_path / "table"
    folder.mkdir()
    (folder / "mine.yaml").write_text(
        "title: Mine\nsource: me\ndataset: cifar100\nrecipe: cifar\n"
        f"columns:\n  pair: {{experiment: cifar100/{PAIR}, teacher: resnet56, student: resnet20}}\n"
        "rows:\n  kd: {preset: kd, published: [70.6], epochs: last, runs: 3}\n"
    )
    assert main(["table=mine", "--config-dir", str(tmp_path), "--format", "json"]) == FINISHED
    (cell,) = json.loads(capsys.readouterr().out)["cells"]
    assert cell["lines"][0]["verdict"]["word"] == "reproduced"
    given = f"runs_dir={store} --config-dir {tmp_path}"
    assert main(["table=mine", f"--config-dir={tmp_path}", f"runs_dir={store}"]) == FINISHED
    shown = capsys.readouterr().out
    assert f"loss=kd seed=4 {given}  # about 60 min" in shown  # a preset of one's own is found there alone
    assert f"`distill fill table=mine {given}` trains them" in shown
    text = (folder / "mine.yaml").read_text()
    for wrong, sentence in (
        (text.replace("[70.6]", "[70.6, 71]"), "published of row kd has 2 values for 1 columns"),
        (
            text.replace("epochs: last", "epochs: first"),
            "epochs of row kd is 'first': write last, best on test, unknown",
        ),
        (text.replace("preset: kd", "prset: kd"), "row kd has no key 'prset'"),
        (text.replace("title: Mine\n", ""), "the key 'title' is missing"),
        (text.replace("preset: kd", "preset: nothing"), "table=mine: loss=nothing does not exist"),
        ("- 1\n", "the table must be a mapping, got [1]"),
        ("a: [", "cannot be read"),
    ):
        (folder / "mine.yaml").write_text(wrong)
        assert main(["table=mine", "--config-dir", str(tmp_path)]) == REFUSED
        captured = capsys.readouterr()
        assert sentence in captured.err
        assert captured.err.count("\n") == 1


def test_a_table_is_no_option_of_a_run(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    from distill.cli import main as command

    monkeypatch.setattr(sys, "path", list(sys.path))
    assert command(["train", SAME, "seed=1"]) == REFUSED
    assert capsys.readouterr().err == (
        f"{SAME} is not part of a run: `distill table {SAME}` shows that published table, "
        f"`distill fill {SAME}` trains its cells\n"
    )


def test_it_imports_nothing_heavy(store: Path) -> None:
    script = (
        f"import sys; from distill.cli import main; code = main(['table', '{SAME}', '--format', 'html']);"
        "heavy = {'torch', 'torchvision', 'scipy.stats', 'pandas'} & set(sys.modules);"
        "sys.exit(f'imports {heavy}' if heavy else code)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "reproduced" in done.stdout
