"""Methods that ask more of a run than a loss, from the command line to the finished run."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

import distill.execution.execute
from distill.cli import main
from distill.models import resnet8
from distill.training import Member

TINY = (
    "dataset=synthetic",
    "dataset.image_size=16",
    "dataset.classes=4",
    "dataset.train_size=24",
    "dataset.test_size=12",
    "student=resnet8",
    "teacher=resnet14",
    "recipe.epochs=2",
    "recipe.batch_size=16",
    "teacher.recipe.epochs=1",
    "engine.device=cpu",
)
Train = Callable[..., dict[str, dict]]


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """Run `distill train` and give the results of all finished runs by folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DISTILL_RUNS", "runs")

    def run(*words: str, code: int = 0) -> dict[str, dict]:
        assert main(["train", *words]) == code
        return {path.parent.name: json.loads(path.read_text()) for path in Path("runs").glob("*/result.json")}

    return run


def named(results: dict[str, dict], start: str) -> str:
    (name,) = [name for name in results if name.startswith(start)]
    return name


def weights(name: str) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(Path("runs", name, "student.safetensors"))


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, object]]:
    """(run, weights of its first stage or None) of every member that is built."""
    seen = []

    class Watched(Member):
        def __init__(self, **parts) -> None:
            seen.append((parts["name"], parts["first_stage"], parts["teacher"]))
            super().__init__(**parts)

    monkeypatch.setattr(distill.execution.execute, "Member", Watched)
    return seen


def test_a_first_stage_is_trained_once_and_its_student_goes_on(train, started, capsys) -> None:
    results = train(*TINY, "loss=ab")
    teacher, first, second = (named(results, f"{n}-s") for n in (
        "resnet14-ce", "resnet8-ab", "resnet8-ce"
    ))  # fmt: skip
    assert f"first stage {first} will be trained first" in capsys.readouterr().out
    assert [name for name, *_ in started] == [teacher, first, second]
    _, given, guide = started[-1]
    assert guide is None  # the second stage reads the labels alone
    assert given.keys() == weights(first).keys()
    assert all(torch.equal(tensor, weights(first)[key]) for key, tensor in given.items())
    assert results[second]["teacher"]["run_id"] == results[teacher]["run_id"]

    train(*TINY, "loss=ab", "loss.ce_weight=2")
    assert [name.startswith("resnet8-ce") for name, *_ in started[3:]] == [True]  # nothing is trained again
    assert main(["table"]) == 0
    assert "first_stage" not in capsys.readouterr().out


def test_a_paraphraser_beside_the_teacher_serves_all_students(train, started) -> None:
    words = ("loss=ft", "loss.rate=0.25", "student=resnet8,resnet14", "teacher=resnet20")
    results = train("-m", *TINY, *words)
    paraphraser = named(results, "resnet20-paraphrase-")
    assert len(results) == 4  # the teacher, one paraphraser, two students
    teacher = weights(named(results, "resnet20-ce-"))
    kept = weights(paraphraser)
    assert all(torch.equal(kept[f"network.{key}"], tensor) for key, tensor in teacher.items())
    assert results[paraphraser]["last"] == {**results[paraphraser]["last"], "accuracy": started_accuracy(results)}


def started_accuracy(results: dict[str, dict]) -> float:
    return results[named(results, "resnet20-ce-")]["last"]["accuracy"]


def test_the_deployed_network_is_what_is_kept_counted_measured_and_taught_with(train, capsys) -> None:
    results = train(*TINY, "loss=simkd")
    name = named(results, "resnet8-simkd-")
    kept = weights(name)
    assert torch.equal(kept["classifier.weight"], weights(named(results, "resnet14-ce-"))["fc.weight"])
    assert not any(key.startswith("backbone.fc.") for key in kept)
    bare = sum(p.numel() for p in resnet8(num_classes=4).parameters())
    projector = sum(t.numel() for k, t in kept.items() if k.startswith("projector.") and not is_statistic(k))
    assert projector > 0
    assert results[name]["parameters"] == bare + projector  # the teacher's classifier is as large as the student's was
    run = results[name]["run_id"]
    capsys.readouterr()
    assert main(["evaluate", f"run={run}", "engine.device=cpu"]) == 0
    assert f"{results[name]['last']['accuracy']:.2f}" in capsys.readouterr().out
    taught = train(*TINY, "loss=kd", f"teacher.run={run}")
    assert taught[named(taught, "resnet8-kd-")]["teacher"]["weights_sha256"] == results[name]["weights_sha256"]


def is_statistic(key: str) -> bool:
    return key.rpartition(".")[2] in ("running_mean", "running_var", "num_batches_tracked")


@pytest.mark.parametrize("loss", ["mlkd", "crd", "mixture", "ctkd"])
def test_whatever_a_method_brings_along_a_run_finishes_with_a_plain_student(train, loss: str) -> None:
    small = ("loss.negatives=8",) if loss == "crd" else ()
    results = train(*TINY, f"loss={loss}", *small)
    (name,) = [name for name in results if name.startswith("resnet8-")]
    assert weights(name).keys() == resnet8(num_classes=4).state_dict().keys()
    assert results[name]["last"]["epoch"] == 2


def test_a_pair_that_does_not_fit_is_refused_before_anything_is_trained(train, capsys) -> None:
    results = train(*TINY, "loss=fsp", "student=resnet8x4", code=2)
    assert results == {}
    assert "the student's taps must have the teacher's channels, one by one, got 32, 64, 128, 256 for" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize("order", ["at,ofd", "ofd,at"])
def test_a_teacher_with_batch_statistics_is_not_shared_with_members_that_want_running_ones(train, order) -> None:
    """OFD's teacher normalises with each batch; beside AT, in one cohort, both end as alone."""
    for loss in ("at", "ofd"):
        train(*TINY, f"loss={loss}", "runs_dir=alone", "engine.threads=1")
    train(*TINY, "-m", f"loss={order}", "hydra/launcher=cohort", "runs_dir=together", "engine.threads=1")
    for method in ("at", "ofd"):
        (alone,), (together,) = (list(Path(s).glob(f"resnet8-{method}-*")) for s in ("alone", "together"))
        assert alone.name == together.name
        files = [(run / "student.safetensors").read_bytes() for run in (alone, together)]
        assert files[0] == files[1], method
