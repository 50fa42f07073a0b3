"""What only CUDA can show of a step: it waits for nothing, is captured, and is then the eager one. Marker `gpu`."""

from contextlib import nullcontext

import pytest
import torch
from accelerator import DEVICE, IS_CUDA, new_lane, waiting_is_an_error
from method_networks import NARROW, WIDE, Staged
from method_presets import build
from silent import Silent

from distill.data import EvaluationStream, ImageStream
from distill.losses import CrossEntropy
from distill.teachers import LiveTeacher
from distill.training import (
    WARM_UP,
    Captured,
    Eager,
    Member,
    compiled,
    compiled_surroundings,
    determinism,
    evaluate,
    fit,
    is_fused,
    seeded,
    why_not_compiled,
)

pytestmark = pytest.mark.gpu

EPOCHS = 6
STEPS = 3 * EPOCHS - 2 * WARM_UP  # replayed, of 12 full batches and 6 remainders
METHODS = ("ce", "kd", "zscore_kd", "dkd", "ctkd", "crd", "review_kd", "mlkd", "simkd", "ofd")
ROUNDING = {"rtol": 1e-3, "atol": 1e-4}  # of weights after all steps: some backward passes add in any order


@pytest.fixture
def make(lab):
    """Members on the device."""

    def member(
        method: str = "ce", *, seed: int = 1, dropout: float = 0.0, precision: str = "fp32", **options
    ) -> Member:
        classes = lab.dataset.num_classes
        objective = CrossEntropy() if method == "ce" else build(method, seed=seed)
        with seeded(9, "student"):
            network = Staged(WIDE, (1, 1, 2, 2), classes=classes).to(DEVICE)
        teacher = LiveTeacher(network, weights="teacher", precision=precision, taps=True)
        with seeded(seed, "student"):
            student = Staged(NARROW, (1, 1, 2, 2), classes=classes)
        if dropout:
            student.stages[0].append(torch.nn.Dropout(dropout))
        stream = ImageStream(lab.dataset, batch_size=16, seed=seed, device=DEVICE, strong=objective.strong_view)
        return Member(
            name=f"{method}-{seed}",
            student=student.to(DEVICE),
            objective=objective.to(DEVICE),
            teacher=teacher if objective.needs_teacher else None,
            recipe=lab.recipe(EPOCHS, lr=0.01),
            stream=stream,
            evaluation=EvaluationStream(lab.dataset, batch_size=4, device=DEVICE),
            split=lab.dataset.split,
            precision=precision,
            seed=seed,
            recorder=lab.Recorder(),
            checkpoints=lab.DueAt(),
            **options,
        )

    return member


def captured(*members: Member, **options) -> None:
    """Train by capture; nothing may be left out."""
    declined: list[str] = []
    fit(members, watch=Silent(), engine=Captured(new_lane, declined=declined.append), **options)
    assert declined == []


def generator_state() -> torch.Tensor:
    """Of the device's default generator."""
    return torch.cuda.get_rng_state() if IS_CUDA else torch.random.get_rng_state()


def assert_close(ours: Member, theirs: Member, **tolerance: float) -> None:
    assert ours.error is None
    mine, other = ours.student.state_dict(), theirs.student.state_dict()
    for name, tensor in mine.items():
        torch.testing.assert_close(tensor, other[name], **(tolerance or ROUNDING))


@pytest.mark.parametrize("method", METHODS)
def test_a_step_waits_for_nothing(make, method: str) -> None:
    member = make(method)
    assert is_fused(member.optimizer)
    assert member.optimizer.param_groups[0]["lr"].device == member.device
    member.begin_epoch(lambda: 0.0)
    engine = Eager()
    batches = list(member.stream.epoch(1))
    for number, batch in enumerate(batches[:2]):
        with waiting_is_an_error() if number else nullcontext():
            for trained in engine.train([member], {member.stream.key: batch}):
                trained.advance()


@pytest.mark.parametrize("method", METHODS)
def test_a_captured_method_is_the_eager_one(make, method: str) -> None:
    eager, ours = make(method), make(method)
    fit([eager], watch=Silent())
    captured(ours)
    assert ours.captured_steps == STEPS
    assert ours.recorder.result["captured_steps"] == STEPS
    assert_close(ours, eager)


def test_to_the_bit_where_algorithms_are_deterministic(make) -> None:
    with determinism(True, DEVICE):
        eager, ours = make("kd"), make("kd")
        fit([eager], watch=Silent())
        captured(ours)
    assert ours.recorder.weights == eager.recorder.weights
    assert ours.recorder.lines == eager.recorder.lines


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_members_on_parallel_streams_draw_their_own_numbers(make, precision: str) -> None:
    """Dropout of one half shows at once where two replays read one seed."""
    asked = [("ce", 1), ("ce", 2), ("kd", 3), ("zscore_kd", 1)]
    alone = [make(method, seed=seed, dropout=0.5, precision=precision) for method, seed in asked]
    for member in alone:
        fit([member], watch=Silent())
    together = [make(method, seed=seed, dropout=0.5, precision=precision) for method, seed in asked]
    before = generator_state()
    captured(*together)
    assert torch.equal(generator_state(), before)
    tolerance = {} if precision == "fp32" else {"rtol": 0.05, "atol": 0.02}
    for ours, theirs in zip(together, alone, strict=True):
        assert ours.captured_steps == STEPS
        assert_close(ours, theirs, **tolerance)
        mine, other = ours.randomness.state, theirs.randomness.state
        assert mine.keys() == other.keys() == {"cpu", DEVICE.type}
        assert all(torch.equal(mine[kind], other[kind]) for kind in mine)


@pytest.mark.parametrize("steps", [2, 9, 14])
def test_resumed_in_the_middle(make, lab, steps: int) -> None:
    whole, stopped, resumed = (make("kd", dropout=0.3) for _ in range(3))
    captured(whole)
    captured(stopped, stop_requested=lab.stop_after(steps))
    resumed.restore(*stopped.recorder.saved[0][:2])
    captured(resumed)
    assert_close(resumed, whole)


def test_a_capture_that_fails_leaves_a_member_that_trains(make) -> None:
    """The generator too: a capture that is broken off must not keep it."""
    eager, ours = make("kd", dropout=0.5), make("kd", dropout=0.5)
    step, waits = ours.objective.forward, []

    def waiting(*arguments):
        waits.append(float(arguments[3]))
        return step(*arguments)

    ours.objective.forward = waiting
    fit([eager], watch=Silent())
    declined: list[str] = []
    fit([ours], watch=Silent(), engine=Captured(new_lane, declined=declined.append))
    assert len(declined) == 2  # the full batch and the remainder
    # the second for its own reason, not for what the first left behind
    assert len({sentence.partition(": ")[2] for sentence in declined}) == 1, declined
    assert not any(word in sentence.lower() for sentence in declined for word in ("allocat", "recording", "pool"))
    assert ours.captured_steps == 0
    assert_close(ours, eager)
    captured(after := make("kd"))
    assert after.captured_steps == STEPS


def test_evaluation_is_captured(make) -> None:
    member = make()
    engine = Captured(new_lane, declined=pytest.fail)
    expected = evaluate(member.student, member.evaluation, precision="fp32")
    for _ in range(2):
        (found,) = engine.evaluate([member])
        assert (found.correct, found.count) == (expected.correct, expected.count)
        assert found.loss == pytest.approx(expected.loss, rel=1e-4)


@pytest.mark.slow
@pytest.mark.skipif(not IS_CUDA, reason="a stand-in cannot look into what is compiled")
@pytest.mark.skipif(why_not_compiled(DEVICE) is not None, reason="nothing can be compiled here")
@pytest.mark.parametrize("compiling", [compiled, compiled_surroundings])
def test_compiled_networks_losses_and_teachers_are_captured_too(make, compiling) -> None:
    eager, ours = make("kd"), make("kd")
    fit([eager], watch=Silent())
    with compiling([ours]):
        captured(ours)
    assert ours.captured_steps == STEPS
    assert_close(ours, eager, rtol=1e-2, atol=1e-3)
    assert why_not_compiled(ours.device) is None
