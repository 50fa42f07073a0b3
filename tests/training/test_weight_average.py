"""An average of the weights: that of the formula, beside the weights themselves, which it does not touch."""

import json
import sys
from pathlib import Path

import pytest
import torch
from silent import Silent

sys.path.append(str(Path(__file__).parent))

from tape_lane import TapeLane

from distill.training import Captured, evaluate, fit

DECAY = 0.8
EPOCHS = 3


@pytest.fixture
def make(lab, teacher):
    """Members with KD, dropout and BatchNorm, with an average or without."""

    def member(ema=DECAY, **options):
        recipe = lab.recipe(EPOCHS, ema=ema)
        student = lab.network(1, dropout=0.3)
        return lab.member(lab.soft_targets(), teacher=teacher, student=student, recipe=recipe, **options)

    return member


def is_same(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


class Following(Silent):
    """Averages by hand after every step, and at the end of an epoch evaluates that average in a network of its own."""

    def __init__(self, member, network) -> None:
        self.network, self.measured = network, []
        self.average = {name: value.clone() for name, value in member.student.state_dict().items()}

    def step(self, member) -> None:
        for name, value in member.student.state_dict().items():
            mine = self.average[name]
            average = DECAY * mine + (1 - DECAY) * value if value.is_floating_point() else value
            self.average[name] = average.clone()

    def epoch(self, member, measured) -> None:
        self.network.load_state_dict(self.average)
        self.measured.append(evaluate(self.network, member.evaluation, precision="fp32"))


def test_it_is_the_average_of_the_formula_and_is_evaluated_beside_the_weights(make, lab) -> None:
    member = make()
    watch = Following(member, lab.network(5))
    (done,) = lab.run(member, watch=watch)
    assert done.averaged.keys() == watch.average.keys()
    for name, value in watch.average.items():
        torch.testing.assert_close(done.averaged[name], value)
    assert int(done.averaged["norm.num_batches_tracked"]) == EPOCHS * lab.steps
    lines = [json.loads(line) for line in done.lines]
    for line, measured in zip(lines, watch.measured, strict=True):
        assert line["ema"] == pytest.approx(measured.as_dict(), rel=1e-5)
        assert line["ema"]["loss"] != pytest.approx(line["test"]["loss"], rel=5e-5)
    assert done.result["last"] == {"epoch": EPOCHS, **lines[-1]["test"], "ema": lines[-1]["ema"]}
    assert "ema" not in done.result["best"]


def test_the_run_is_the_one_without_it(make, lab) -> None:
    averaged, plain = lab.run(make(), make(ema=None))
    assert averaged.weights == plain.weights
    assert plain.averaged is None
    without = [{key: value for key, value in json.loads(line).items() if key != "ema"} for line in averaged.lines]
    assert without == [json.loads(line) for line in plain.lines]
    assert not is_same(averaged.averaged, make().student.state_dict())


def test_resumed_after_any_step_it_is_that_of_an_uninterrupted_run(make, lab) -> None:
    (whole,) = lab.run(make())
    for steps in range(1, EPOCHS * lab.steps + 1):
        stopped = make()
        lab.run(stopped, stop_requested=lab.stop_after(steps))
        ((tensors, state, lines),) = stopped.recorder.saved
        resumed = make()
        resumed.restore(tensors, state)
        (done,) = lab.run(resumed)
        assert is_same(done.averaged, whole.averaged)
        assert stopped.recorder.lines[:lines] + done.lines == whole.lines
        assert done.result["last"] == whole.result["last"]


def test_captured_steps_average_to_the_same_bytes(make, lab) -> None:
    (eager,) = lab.run(make())
    declined: list[str] = []
    member = make()
    fit([member], watch=Silent(), engine=Captured(lambda: TapeLane([]), declined=declined.append))
    assert declined == []
    assert member.captured_steps > 0
    assert is_same(member.recorder.averaged, eager.averaged)
    assert member.recorder.lines == eager.lines


def test_a_failed_evaluation_leaves_the_weights_their_own(make) -> None:
    member = make()
    before = {name: value.clone() for name, value in member.student.state_dict().items()}
    member.average.load({name: value + 1 for name, value in member.average.tensors.items()})

    def failing(_) -> None:
        assert not is_same(member.student.state_dict(), before)
        raise RuntimeError

    with pytest.raises(RuntimeError), member.average.in_place():
        failing(member)
    assert is_same(member.student.state_dict(), before)
