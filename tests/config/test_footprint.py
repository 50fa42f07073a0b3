"""What a run takes in memory, as foretold and as counted while it trains."""

import gc
from functools import partial

import pytest
import torch
from torch import nn

from distill.config.footprint import Footprint, bytes_of, footprint, shared_bytes
from distill.config.live_bytes import LiveBytes
from distill.config.plan import RunPlan
from distill.execution.execute import Console, execute
from distill.training import Silent

EVALUATION_BATCH = 256
foretold = partial(footprint, evaluation_batch=EVALUATION_BATCH)

TINY = (
    "dataset=synthetic",
    "dataset.image_size=16",
    "dataset.classes=5",
    "dataset.train_size=64",
    "dataset.test_size=64",
    "recipe.epochs=1",
    "recipe.batch_size=64",
    "teacher.recipe.epochs=1",
    "engine.device=cpu",
    "engine.checkpoint_seconds=1000",
    "teacher.source=live",
)


def counted(plan: RunPlan) -> int:
    """The most bytes that training `plan` had in tensors of its own at once; teacher and images are there before."""
    quiet = Console(lambda note: None, Silent())
    data = plan.dataset.on("cpu"), plan.dataset.evaluation_on("cpu")
    if isinstance(plan.teacher, RunPlan):
        execute([plan.teacher], quiet)
    gc.collect()
    with LiveBytes() as live:
        (ending,) = execute([plan], quiet)
    assert not isinstance(ending, Exception), ending
    del data
    return live.peak


@pytest.mark.parametrize(
    "words",
    [
        ("student=resnet8", "loss=ce"),
        ("student=wrn_16_1", "loss=fitnet", "teacher=resnet8"),
        ("student=resnet8", "loss=crd", "teacher=resnet8"),
        ("student=resnet8", "loss=mlkd", "teacher=resnet8"),
        ("student=resnet8", "loss=simkd", "teacher=resnet8"),
        ("student=vgg8", "loss=ce"),  # many weights, few activations
    ],
    ids=" ".join,
)
def test_it_is_near_what_training_takes(command, words: tuple[str, ...]) -> None:
    plan = command.plan(*TINY, *words)
    found = foretold(plan)
    measured = counted(plan)
    # the teacher's own weights, twice where it is folded, are counted as shared
    teacher = 2 * bytes_of(plan.teacher.network()) if plan.teacher else 0
    ratio = (found.kept + found.passing + teacher) / measured
    assert 1 / 1.5 < ratio < 1.5


def test_in_bf16_activations_are_about_half(command) -> None:
    words = ("student=resnet8", "loss=ce", "precision=bf16")
    plan = command.plan(*TINY, *words)
    found = foretold(plan)
    ratio = (found.kept + found.passing) / counted(plan)
    assert 1 / 1.5 < ratio < 1.5
    assert found.passing < foretold(command.plan(*TINY, *words[:2])).passing


def test_each_part_grows_with_what_it_belongs_to(command) -> None:
    def of(*words: str) -> Footprint:
        return foretold(command.plan(*TINY, "student=resnet8", "loss=ce", *words))

    base = of()
    weights = bytes_of(command.plan(*TINY, "student=resnet8", "loss=ce").network())
    images = 64 * (3 * 16 * 16 * 4 + 8)
    assert base.kept == pytest.approx(3 * weights + images, rel=0.01)  # weights, gradients, momentum
    double = of("recipe.batch_size=128")
    assert double.passing == pytest.approx(2 * base.passing, rel=0.1)
    assert double.kept - base.kept == images
    assert of("student=resnet14").passing > 1.4 * base.passing


def test_what_runs_share_is_counted_once(command) -> None:
    grid = ("loss=kd,zscore_kd", "seed=1,2", "student=resnet8", "teacher=resnet14")
    plans = command.plans(*TINY, *grid, multirun=True)
    assert len(plans) == 4
    one, all_four = shared_bytes(plans[:1]), shared_bytes(plans)
    assert one == all_four
    source = plans[0].dataset.on("cpu"), plans[0].dataset.evaluation_on("cpu")
    images = sum(each.storage.numel() + each.labels.numel() * 8 for each in source)
    assert one == pytest.approx(images + 2 * bytes_of(plans[0].teacher.network()), rel=0.02)


def test_live_bytes_are_those_of_tensors_that_are_there() -> None:
    before = torch.zeros(100)
    with LiveBytes() as live:
        a = torch.zeros(10)
        view = a[:5]
        before += 1
        assert live.now == 40
        b = torch.empty(1000, device="meta")
        del b
        assert (live.now, live.peak) == (40, 4040)
        del a
        assert live.now == 40  # the view has it
        del view
        assert live.now == 0
        layer = nn.Linear(4, 4)
        layer(torch.ones(1, 4)).sum().backward()
    assert live.now == 2 * bytes_of(layer)
