"""`distill table` from its command line to its output and exit code."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from distill.cli import main as command
from distill.cli.arguments import FINISHED, REFUSED

ROOT = Path(__file__).resolve().parents[2]
FILES = runpy.run_path(str(ROOT / "tests" / "tables" / "store_files.py"))
add_run, add_seeds = FILES["add_run"], FILES["add_seeds"]
Capture = pytest.CaptureFixture[str]


def main(words: list[str]) -> int:
    """Run `distill table` with these words; return the exit code."""
    return command(["table", *words])


@pytest.fixture
def store(runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A baseline and two methods, found by the environment."""
    add_seeds(runs_dir, [90.0, 91.0, 92.0], loss="ce")
    add_seeds(runs_dir, [92.0, 93.5, 93.5], loss="kd")
    add_seeds(runs_dir, [94.25], loss="zscore_kd")
    monkeypatch.setenv("DISTILL_RUNS", str(runs_dir))
    return runs_dir


def test_pipes_get_plain_lines_and_terminals_aligned_ones(
    store: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main([]) == FINISHED
    piped = capsys.readouterr().out.splitlines()
    assert piped[0].startswith("method\tdataset\tteacher\tstudent\t")
    assert [line.split("\t")[0] for line in piped[1:4]] == ["ce", "kd", "zscore_kd"]

    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "90")
    assert main([]) == FINISHED
    shown = capsys.readouterr().out
    assert shown.startswith("dataset digits, student resnet8, recipe demo, fp32, accuracy in percent on the test set")
    assert "\t" not in shown
    assert shown.count("\nmethod ") == 2  # wider than 90: it continues below


@pytest.mark.parametrize(
    ("form", "opening"),
    [
        ("terminal", "dataset digits"),
        ("markdown", "dataset digits"),
        ("latex", "% \\usepackage{booktabs,graphicx}"),
        ("csv", "method,loss,"),
        ("json", "{\n"),
    ],
)
def test_every_format_can_be_asked_for(store: Path, capsys: Capture, form: str, opening: str) -> None:
    assert main(["--format", form]) == FINISHED
    assert capsys.readouterr().out.startswith(opening)


def test_notes_never_stand_among_the_rows_of_a_csv(store: Path, capsys: Capture) -> None:
    main(["--format=csv"])
    captured = capsys.readouterr()
    assert captured.out.count("\n") == 4
    assert captured.err.startswith("± is the standard deviation over seeds")


@pytest.mark.parametrize(
    ("name", "opening"),
    [("t.md", "dataset"), ("t.tex", "% \\usepackage"), ("t.csv", "method,"), ("t.json", "{"), ("t.txt", "dataset")],
)
def test_out_writes_a_file_by_its_suffix_and_says_where(
    store: Path, tmp_path: Path, capsys: Capture, name: str, opening: str
) -> None:
    file = tmp_path / name
    assert main(["--out", str(file)]) == FINISHED
    assert capsys.readouterr().out == f"wrote {file}\n"
    assert file.read_text(encoding="utf-8").startswith(opening)
    assert {path.name for path in tmp_path.iterdir()} == {"runs", name}  # no part of a file is left


def test_format_wins_over_the_suffix(store: Path, tmp_path: Path) -> None:
    main(["--out", str(tmp_path / "t.md"), "--format", "json"])
    assert json.loads((tmp_path / "t.md").read_text())["baseline"] == "ce"


def test_filters_and_baseline(store: Path, capsys: Capture) -> None:
    assert main(["loss=zscore_kd", "--baseline", "kd", "--format", "json"]) == FINISHED
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert (row["method"], row["difference"]["baseline"]) == ("zscore_kd", "kd")
    assert row["difference"]["points"] == pytest.approx(1.25)
    main(["seed=1,2", "loss.temperature=4", "--format", "json"])
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert (row["method"], row["seeds"]) == ("kd", [1, 2])


@pytest.mark.parametrize(
    ("argv", "sentences"),
    [
        (
            ["loss.temprature=3"],
            ["no run has the key 'loss.temprature' of 'loss.temprature=3': did you mean 'loss.tem"],
        ),
        (["studnt=resnet8"], ["unknown key 'studnt' in 'studnt=resnet8': did you mean 'student'?"]),
        (["--baseline", "kdd"], ["--baseline 'kdd' names no row: choose from ce, kd, zscore_kd"]),
        (["--size", "3"], ["unknown option --size: "]),
        (
            ["loss.temprature=3", "studnt=resnet8", "--format", "cvs"],
            [
                "unknown key 'studnt'",
                "--format cannot be 'cvs': did you mean 'csv'?",
                "no run has the key 'loss.temp",
            ],
        ),
    ],
)
def test_refusals_are_sentences_and_write_nothing(
    store: Path, tmp_path: Path, capsys: Capture, argv: list[str], sentences: list[str]
) -> None:
    file = tmp_path / "out.md"
    assert main([*argv, "--out", str(file)]) == REFUSED
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) == len(sentences)
    assert all(line.startswith(sentence) for line, sentence in zip(lines, sentences, strict=True))
    assert not file.exists()


def test_a_file_that_cannot_be_written_is_a_sentence(
    store: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "t.md"
    file.write_text("before")

    def full(path: object, data: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("distill.runs.files.write_synced", full)
    assert main(["--out", str(file)]) == REFUSED
    assert capsys.readouterr().err == f"could not write {file}: no space left on device; choose another --out FILE\n"
    assert file.read_text() == "before"


def test_nothing_to_show_is_one_line_and_no_failure(tmp_path: Path, store: Path, capsys: Capture) -> None:
    missing = tmp_path / "missing"
    assert main([f"runs_dir={missing}", "loss.temperature=3"]) == FINISHED
    assert capsys.readouterr().out == f"no runs in {missing}: `distill train` makes one\n"
    assert not missing.exists()
    assert main(["student=resnet18", "--out", str(tmp_path / "t.md")]) == FINISHED
    assert capsys.readouterr().out == f"no run matches student=resnet18: the runs in {store} have student resnet8\n"
    assert not (tmp_path / "t.md").exists()


def test_a_store_without_a_finished_run_is_one_line(runs_dir: Path, capsys: Capture) -> None:
    add_run(runs_dir, accuracy=None)
    assert main([f"runs_dir={runs_dir}", "--baseline", "kd"]) == FINISHED
    assert capsys.readouterr().out == "no finished run yet: 1 unfinished; `distill ls` lists them\n"


def test_it_imports_nothing_heavy(store: Path) -> None:
    script = (
        "import sys; from distill.cli import main; code = main(['table']);"
        "heavy = {'torch', 'torchvision', 'hydra', 'omegaconf', 'scipy.stats', 'pandas'} & set(sys.modules);"
        "assert 'scipy.special' in sys.modules; sys.exit(f'imports {heavy}' if heavy else code)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "kd\tdigits" in done.stdout
