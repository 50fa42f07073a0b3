"""The engine node: refusals, messages, records; the run id does not depend on it."""

import importlib
import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tape_lane import TapeLane

import distill.execution.engines
from distill.cli import main
from distill.execution.execute import image_type
from distill.execution.teachers import MeasuredTeacher, evaluation_batch
from distill.runs.provenance import why_bytes_differ

TINY = (
    "dataset=synthetic",
    "dataset.image_size=8",
    "dataset.classes=4",
    "dataset.train_size=40",
    "dataset.test_size=20",
    "student=resnet8",
    "teacher=resnet8",
    "recipe.epochs=5",
    "recipe.batch_size=16",
    "teacher.recipe.epochs=1",
    "teacher.source=live",
)
FINISHED, FAILED, REFUSED = 0, 1, 2


@pytest.mark.parametrize(("own", "found"), [(None, "32"), ("4", "4")])
def test_a_gpu_has_connections_for_all_streams_before_it_is_used(monkeypatch, tmp_path: Path, own, found: str) -> None:
    """CUDA reads the variable when it starts, so it is set before the verb's module, which imports torch."""
    if own is None:
        monkeypatch.delenv("CUDA_DEVICE_MAX_CONNECTIONS", raising=False)
    else:
        monkeypatch.setenv("CUDA_DEVICE_MAX_CONNECTIONS", own)
    seen, load = [], importlib.import_module

    def loaded(name: str):
        seen.append((name, os.environ.get("CUDA_DEVICE_MAX_CONNECTIONS")))
        return load(name)

    monkeypatch.setattr(importlib, "import_module", loaded)
    main(["ls", f"runs_dir={tmp_path}"])
    assert seen[0] == ("distill.cli.ls", found)


@pytest.mark.parametrize(("device", "size", "batch"), [("cpu", 32, 256), ("cuda", 32, 1000), ("cuda", 224, 256)])
def test_a_gpu_evaluates_small_images_in_large_batches(device: str, size: int, batch: int) -> None:
    assert evaluation_batch(torch.device(device), size) == batch


@pytest.mark.parametrize(
    ("student", "teacher", "source", "reads", "dtype"),
    [
        ("bf16", "bf16", "live", (), torch.bfloat16),
        ("bf16", "fp32", "table", (), torch.bfloat16),
        ("bf16", None, None, (), torch.bfloat16),
        ("bf16", "fp32", "live", (), torch.float32),
        ("fp32", "bf16", "live", (), torch.float32),
        ("bf16", "bf16", "live", None, torch.float32),  # the method may read the images itself
    ],
)
def test_images_are_cast_once_where_all_networks_would_cast_them(student, teacher, source, reads, dtype) -> None:
    plan = SimpleNamespace(precision=student, teacher=teacher and SimpleNamespace(precision=teacher))
    measured = teacher and MeasuredTeacher(None, {"source": source})
    assert image_type(plan, measured, reads=reads) == dtype


def train(folder: Path, *words: str) -> int:
    return main(["train", *TINY, f"runs_dir={folder}", *words])


def only(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found


@pytest.fixture
def on_tapes(monkeypatch: pytest.MonkeyPatch) -> list:
    """As on CUDA, with the stand-in for its graphs."""
    log: list = []
    monkeypatch.setattr(distill.execution.engines, "CudaLane", lambda device: TapeLane(log))
    monkeypatch.setattr(distill.execution.engines, "_captures", lambda engine, device: engine["capture"] is not False)
    return log


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("engine.capture=true",), "engine.capture=true needs a CUDA device, this run computes on cpu: set engine."),
        (("engine.capture=maybe",), "engine.capture must be true or false or one of auto, got 'maybe'"),
        (("engine.compile=maybe",), "engine.compile must be true or false or one of auto, got 'maybe'"),
        (("engine.deterministic=1",), "engine.deterministic must be true or false, got 1"),
        (("engine.captured=true",), "engine.captured is not a key: did you mean 'capture'?"),
        (("engine.compile=true",), "engine.compile=true cannot be used here, there is no C++ compiler (g++"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(tmp_path, capsys, monkeypatch, words, sentence) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert train(tmp_path, "engine.device=cpu", *words) == REFUSED
    told = capsys.readouterr()
    assert told.err.startswith(sentence)
    assert len(told.err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_auto_precision_says_what_it_became_and_why(tmp_path, capsys) -> None:
    words = ("-m", "loss=ce", "seed=1,2", "hydra/launcher=cohort", "recipe.epochs=1")
    assert train(tmp_path, *words, "precision=auto") == FINISHED
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("precision=auto is ")]
    assert len(lines) == 1  # for both
    precision, _, reason = lines[0].removeprefix("precision=auto is ").partition(": ")
    recorded = json.loads(next(tmp_path.glob("*/provenance.json")).read_text())
    assert recorded["precision"] == precision
    assert reason.startswith("the processor has ")
    assert train(tmp_path, *words, "precision=fp32") == FINISHED
    assert "precision=auto" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("setting", "device", "epochs", "size", "compiles"),
    [
        ("auto", "cuda", 240, 1, True),
        ("auto", "cuda", 10, 1, False),  # compiling would take longer than it saves
        ("auto", "cpu", 240, 1, False),
        ("auto", "cuda", 240, 2, False),
        (False, "cuda", 240, 1, False),
        (True, "cuda", 10, 1, True),
    ],
)
def test_what_is_compiled_around_the_students(monkeypatch, setting, device, epochs, size, compiles) -> None:
    monkeypatch.setattr(distill.execution.engines, "why_not_compiled", lambda device: None)
    monkeypatch.setattr(distill.execution.engines, "compiled_trial", lambda device: None)
    member = SimpleNamespace(
        recipe=SimpleNamespace(epochs=epochs),
        stream=SimpleNamespace(steps=782),
        device=torch.device(device),
        world=SimpleNamespace(size=size),
    )
    assert distill.execution.engines._compiles_surroundings({"compile": setting}, member) is compiles
    monkeypatch.setattr(distill.execution.engines, "compiled_trial", lambda device: "no C compiler")
    demanded = compiles and setting is True
    assert distill.execution.engines._compiles_surroundings({"compile": setting}, member) is demanded


def test_captured_runs_end_as_eager_ones_and_say_so(tmp_path, capsys, on_tapes) -> None:
    words = ("loss=zscore_kd", "recipe.epochs=4")
    assert train(tmp_path / "eager", *words, "engine.capture=false") == FINISHED
    assert not on_tapes
    eager = capsys.readouterr().out
    assert "CUDA graphs" not in eager
    assert train(tmp_path / "captured", *words) == FINISHED
    told = capsys.readouterr().out
    assert told.count("CUDA graphs: steps are captured after 3 of a kind, and replayed") == 2  # teacher, student
    assert any(happened == "replay" for happened, _ in on_tapes)
    runs = list((tmp_path / "eager").glob("*-s1-*"))
    assert len(runs) == 1
    for run in runs:
        other = tmp_path / "captured" / run.name
        for name in ("student.safetensors", "metrics.jsonl"):
            assert (other / name).read_bytes() == (run / name).read_bytes()
        results = [json.loads((folder / "result.json").read_text()) for folder in (run, other)]
        # 40 images are two full batches and a remainder of 8, four times each
        assert [result.get("captured_steps") for result in results] == [None, 8 - 3 + 4 - 3]
        steps = [json.loads((folder / "provenance.json").read_text())["step"] for folder in (run, other)]
        common = {"optimizer": "fused", "compile": False, "deterministic": False, "processes": 1}
        assert steps == [{**common, "capture": False}, {**common, "capture": True}]


def test_a_capture_that_is_demanded_and_fails_is_one_sentence(tmp_path, capsys, on_tapes, monkeypatch) -> None:
    monkeypatch.setattr("distill.config.preflight.device_of", lambda engine, faults: torch.device("cpu"))

    def refuse(self, work):
        raise RuntimeError("operation not permitted when stream is capturing\nand more of it")

    monkeypatch.setattr(TapeLane, "capture", refuse)
    assert train(tmp_path, "loss=ce", "engine.capture=true") == FAILED
    told = capsys.readouterr()
    assert "Traceback" not in told.err
    assert "the gather of 16 images is not captured: operation not permitted when stream is capturing" in told.err
    assert told.err.rstrip().endswith("set engine.capture=auto to train it as it is")
    assert not list(tmp_path.glob("*/failed.json"))
    # with auto the run goes on eagerly, and prints the reason
    assert train(tmp_path, "loss=ce", "engine.capture=auto") == FINISHED
    told = capsys.readouterr()
    assert "the gather of 16 images is not captured: operation not permitted" in told.out
    assert "captured_steps" not in json.loads(only(tmp_path, "*/result.json").read_text())


def test_an_operation_that_cannot_repeat_itself_is_one_sentence(tmp_path, capsys, monkeypatch) -> None:
    words = "put_ does not have a deterministic implementation, but you set this. You can turn it off, or more"

    def fit(members, **options):
        raise RuntimeError(words)

    monkeypatch.setattr("distill.execution.execute.fit", fit)
    assert train(tmp_path, "loss=ce", "engine.deterministic=true") == FAILED
    told = capsys.readouterr()
    assert "Traceback" not in told.err
    sentence = "put_ does not have a deterministic implementation, but you set this: set engine.deterministic=false"
    assert told.err.rstrip().endswith(sentence)
    assert train(tmp_path, "loss=ce") == FAILED  # not asked for: no fault of ours to explain
    assert "the trace is in " in capsys.readouterr().err


def test_deterministic_training_is_set_up_recorded_and_put_back(tmp_path, monkeypatch) -> None:
    seen, set_up = [], torch.use_deterministic_algorithms

    def watched(mode: bool, **options) -> None:
        seen.append(mode)
        set_up(mode, **options)

    monkeypatch.setattr(torch, "use_deterministic_algorithms", watched)
    assert train(tmp_path, "loss=ce", "recipe.epochs=1", "engine.deterministic=true") == FINISHED
    assert seen == [True, False]
    recorded = json.loads(only(tmp_path, "*/provenance.json").read_text())
    assert recorded["engine"]["deterministic"] is recorded["step"]["deterministic"] is True


def test_a_resume_in_another_way_says_that_bytes_may_differ() -> None:
    here = {"torch": "2", "optimizer": "fused", "compile": "False", "capture": "False", "deterministic": "False"}
    assert why_bytes_differ(here, here) is None
    sentence = why_bytes_differ(here, {**here, "compile": "True", "capture": "True"})
    assert sentence.endswith(": compile was False, is True, capture was False, is True")
    before = {"torch": "2"}  # a checkpoint of before there were these keys
    assert why_bytes_differ(before, {**here, "optimizer": "unfused"}) is None
    assert why_bytes_differ(before, here).endswith(": optimizer was unfused, is fused")
