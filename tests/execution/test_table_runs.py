"""Runs taught by a table, from the command line: built once, kept with its teacher, resumed, never mixed up."""

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import distill.execution.execute
import distill.execution.teachers
from distill.cli import main

TINY = (
    "dataset=synthetic",
    "dataset.image_size=8",
    "dataset.classes=4",
    "dataset.train_size=40",
    "dataset.test_size=20",
    "dataset.pad=1",
    "student=resnet8",
    "teacher=resnet8",
    "recipe.epochs=2",
    "recipe.batch_size=16",
    "teacher.recipe.epochs=1",
    "engine.device=cpu",
)
Train = Callable[..., int]


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delenv("DISTILL_RUNS", raising=False)
    return lambda *words: main(["train", *TINY, *words])


def run_of(store: str, seed: int = 1) -> Path:
    (path,) = Path(store).glob(f"resnet8-kd-s{seed}-*")
    return path


def teacher_of(store: str, seed: int = 1) -> dict:
    return json.loads((run_of(store, seed) / "result.json").read_text())["teacher"]


def trained(store: str, seed: int = 1) -> tuple[bytes, bytes]:
    path = run_of(store, seed)
    return (path / "student.safetensors").read_bytes(), (path / "metrics.jsonl").read_bytes()


def stopping(after: int) -> Callable[[], contextlib.AbstractContextManager[Callable[[], bool]]]:
    """Stands for Ctrl-C after so many questions whether to stop."""

    @contextlib.contextmanager
    def signals() -> Iterator[Callable[[], bool]]:
        calls = iter(range(after))
        yield lambda: next(calls, None) is None

    return signals


def test_a_pinned_table_is_built_once_and_members_of_a_cohort_are_runs_alone_to_the_byte(
    train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in (1, 2):
        assert train("teacher.source=table", "runs_dir=alone", f"seed={seed}") == 0
    printed = capsys.readouterr().out
    assert printed.count("building a table of the teacher's logits: 40 images x 18 views x 4 classes, 12 kB in ") == 1
    assert printed.count("table: 720 of 720 rows, 0 s left") == 1
    (table,) = Path("alone").glob("resnet8-ce-s0-*/tables/*")
    assert teacher_of("alone").items() >= {"source": "table", "table": table.name}.items()
    provenance = json.loads((run_of("alone") / "provenance.json").read_text())
    assert provenance["teacher"]["source"] == "table"

    cohort = ("hydra/launcher=cohort", "-m", "seed=1,2")
    assert train("teacher.source=table", "runs_dir=together", *cohort) == 0
    assert [trained("together", seed) for seed in (1, 2)] == [trained("alone", seed) for seed in (1, 2)]

    (table / "rows.bin").write_bytes(b"damaged")
    assert train("teacher.source=table", "runs_dir=alone", "recipe.epochs=1") == 0
    assert "table: 720 of 720 rows" in capsys.readouterr().out


def test_table_and_live_teacher_train_alike(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    for source in ("live", "table"):
        assert train(f"teacher.source={source}", f"runs_dir={source}") == 0
    lines = [
        [json.loads(line)["train"] for line in (run_of(source) / "metrics.jsonl").read_text().splitlines()]
        for source in ("live", "table")
    ]
    for live, table in zip(*lines, strict=True):
        assert table == pytest.approx(live, rel=1e-3)
    assert trained("live") != trained("table")
    assert train("teacher.source=table", "runs_dir=live") == 2  # finished with another source
    assert "has source live" in capsys.readouterr().err


def test_a_run_that_was_stopped_keeps_its_source(
    train: Train, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("runs_dir=runs", "teacher.source=table", "recipe.epochs=1") == 0  # the teacher and its table
    with monkeypatch.context() as patch:
        patch.setattr(distill.execution.execute, "stop_signals", stopping(after=1))
        with pytest.raises(SystemExit):
            train("runs_dir=runs", "teacher.source=table", "seed=2")
    assert train("runs_dir=runs", "teacher.source=live", "seed=2") == 1
    assert "began with teacher.source=table: leave the source out to finish it so" in capsys.readouterr().err
    assert train("runs_dir=runs", "teacher.source=auto", "seed=2") == 0
    assert teacher_of("runs", 2)["source"] == "table"
    assert "source live" not in capsys.readouterr().out
    assert train("runs_dir=whole", "teacher.source=table", "seed=2") == 0
    assert trained("runs", 2) == trained("whole", 2)


def test_a_build_that_was_stopped_goes_on(
    train: Train, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(distill.execution.teachers.TableFile.__init__, "__kwdefaults__", {"chunk_rows": 100})
    with monkeypatch.context() as patch:
        patch.setattr(distill.execution.teachers, "stop_signals", stopping(after=3))
        with pytest.raises(SystemExit):
            train("runs_dir=runs", "teacher.source=table")
    assert "stopped while the teacher's table was built: type the command again" in capsys.readouterr().err
    assert train("runs_dir=runs", "teacher.source=table") == 0
    printed = capsys.readouterr().out
    assert "table: 400 of 720 rows" in printed
    assert "table: 100 of 720 rows" not in printed


def test_auto_decides_for_the_whole_command(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("runs_dir=one", "recipe.epochs=7") == 0
    assert "source live, 280 forwards in 7 epochs\n  a table of its logits takes 720 (" in capsys.readouterr().out
    assert teacher_of("one")["source"] == "live"
    assert train("runs_dir=three", "recipe.epochs=7", "-m", "seed=1,2,3") == 0
    printed = capsys.readouterr().out
    assert "source table, 840 forwards in 21 epochs\n  a table of its logits takes 720 (" in printed
    assert printed.count("source table, which exists already") == 1  # equal sentences are printed once a sweep
