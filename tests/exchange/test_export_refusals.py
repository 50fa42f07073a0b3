"""`distill export`: what is refused, before any work and without a trace in the file system."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from earlier import unseal

from distill.cli import main as command
from distill.cli.arguments import FINISHED, REFUSED
from distill.exchange import folder as export_folder
from distill.runs.layout import EXPORT

Capture = pytest.CaptureFixture[str]


def main(words: list[str]) -> int:
    """Run `distill export` with these words; return the exit code."""
    return command(["export", *words])


def export(run: Path, *words: str) -> int:
    """The exit code of `distill export` for the run."""
    return main([f"run={run.name}", *words])


def strange(run: Path) -> None:
    Path("out").mkdir()
    Path("out/notes.txt").write_text("mine")


def of_another(run: Path) -> None:
    export(run, "--format", "safetensors", "--out", "out")
    facts = json.loads(Path("out", EXPORT).read_text())
    Path("out", EXPORT).write_text(json.dumps({**facts, "run_id": "abc123"}))


def only_configs(run: Path) -> None:
    Path("out").mkdir()
    Path("out/config.yaml").write_text("")


@pytest.mark.parametrize(
    ("prepare", "words", "sentence"),
    [
        (lambda run: Path("out").write_text(""), ["--out", "out"], "--out must be a folder, out is a file"),
        (lambda run: Path("out").write_text(""), ["--out", "out/a/b"], "out is a file: choose another --out DIR"),
        (strange, ["--out", "out"], "--out out holds notes.txt, which no export wrote"),
        (only_configs, ["--out", "out"], "--out out is not empty and holds no export"),
        (of_another, ["--out", "out"], "--out out holds the export of run abc123"),
        (lambda run: run.rename("out"), ["run=out", "--out", "out"], "--out out holds"),
        (lambda run: (run / "result.json").unlink(), [], "is unfinished, not finished"),
    ],
)
def test_refused_before_any_work(
    run: Path,
    prepare: Callable[[Path], None],
    words: list[str],
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    prepare(run)
    capsys.readouterr()
    before = {path: path.read_bytes() for path in Path.cwd().rglob("*") if path.is_file()}
    monkeypatch.setattr("distill.exchange.export.load_record", lambda *args, **kwargs: pytest.fail("work was done"))
    words = words if "run=out" in words else [f"run={run.name}", *words]
    assert main(words) == REFUSED
    told = capsys.readouterr()
    assert told.out == ""
    (line,) = told.err.splitlines()
    assert sentence in line
    assert {path: path.read_bytes() for path in Path.cwd().rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("words", "sentences"),
    [
        ([], ["export needs a run: add run=ID or run=PATH"]),
        (["run=0123", "--format", "onx"], ["--format cannot be 'onx': did you mean 'onnx'?"]),
        (["run=0123", "--dtype=bf16"], ["--dtype cannot be 'bf16'"]),
        (["run=0123", "--outt", "x"], ["unknown option --outt: did you mean '--out'?"]),
        (["run=0123", "--out"], ["--out needs a value: write --out DIR"]),
        (["run=0123", "dataset.nzp=x"], ["did you mean 'dataset.npz'?"]),
        (["run=0123", "--format=torch", "--dtype=fp16"], ["--dtype is the type of the weights in model.safetensors"]),
        (["run=0123"], ["no run matches '0123'"]),
        (["run=runs/none"], ["no run at runs/none"]),
        (["run=RUN", "dataset.root=x"], ["dataset.root is not a key of arrays: leave it out"]),
        (["run=RUN", "dataset.npz=none.npz"], ["there is no file none.npz"]),
        (["run=0123", "dataset.npz=a", "dataset.root=b"], ["dataset.npz and dataset.root name two places"]),
    ],
)
def test_refusals(run: Path, words: list[str], sentences: list[str], capsys: Capture) -> None:
    assert main([word.replace("RUN", run.name) for word in words]) == REFUSED
    told = capsys.readouterr()
    assert told.out == ""
    assert len(told.err.splitlines()) == len(sentences)
    assert all(sentence in line for sentence, line in zip(sentences, told.err.splitlines(), strict=True))
    assert not Path("exports").exists()


@pytest.mark.parametrize("form", ["onnx", "all"])
def test_packages_that_are_missing_are_named(
    run: Path, form: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(export_folder, "find_spec", lambda name: None if name == "onnxscript" else name)
    assert export(run, "--format", form) == REFUSED
    told = capsys.readouterr().err
    assert told == 'model.onnx needs onnxscript: pip install "distill[export]"\n'


def test_a_hostile_folder_executes_nothing(run: Path, capsys: Capture) -> None:
    text = (unseal(run) / "config.yaml").read_text()
    (run / "config.yaml").write_text(
        text.replace("_target_: distill.models.resnet8", "_target_: os.mkdir\n    path: made")
    )
    assert export(run) == REFUSED
    assert "names 'os.mkdir'" in capsys.readouterr().err
    assert not Path("made").exists()


def test_an_export_is_no_run(run: Path, capsys: Capture) -> None:
    assert export(run, "--format", "safetensors", "--out", "out") == FINISHED
    assert main(["run=./out"]) == REFUSED
    assert "out is an export, not a run" in capsys.readouterr().err


def test_a_run_in_an_empty_store_is_refused(tmp_path: Path, capsys: Capture) -> None:
    assert main(["run=3f2a", f"runs_dir={tmp_path}"]) == REFUSED
    assert f"no run matches '3f2a': {tmp_path} holds no runs; `distill train` makes one" in capsys.readouterr().err
