"""One method of each kind of state trains as it would alone and, resumed, as it would uninterrupted: byte for byte.

The presets are the shipped ones, composed, and attached to networks with every output of the contract.
"""

import pytest
import torch
from method_networks import NARROW, WIDE, Staged
from method_presets import build, first_stage

from distill.models import as_network
from distill.teachers import LiveTeacher
from distill.training import seeded

KINDS = {
    "none": "kd",
    "a learned map": "fitnet",
    "learned levels": "review_kd",
    "a learned temperature": "ctkd",
    "statistics": "ofd",
    "a memory bank": "crd",
    "another network that is deployed": "simkd",
    "a strong view": "mlkd",
    "a first stage": "ft",
    "several methods": "mixture",
}


def staged(widths, strides, classes: int, seed: int) -> Staged:
    """A tiny network with every output, initialised from a seed."""
    with seeded(seed, "student"):
        return Staged(widths, strides, classes=classes)


@pytest.fixture
def make(lab):
    """`make(method)`: a member trained by a preset; all share one teacher."""
    classes = lab.dataset.num_classes
    teacher = LiveTeacher(staged(WIDE, (1, 1, 2, 2), classes, 99), weights="teacher", precision="fp32", taps=True)

    def member(method: str, *, seed: int = 1, **options):
        objective = build(method, seed=seed)
        weights = {}
        if first_stage(method):
            before = build(f"{method}/first_stage", seed=seed)
            student = staged(WIDE, (1, 1, 2, 2), classes, 99)
            first = lab.member(before, seed=seed, student=student, teacher=teacher, recipe=lab.recipe(1, lr=0.01))
            lab.run(first)
            weights = {"first_stage": first.student.state_dict()}
        return lab.member(
            objective,
            seed=seed,
            student=staged(NARROW, (1, 1, 2, 2), classes, seed),
            teacher=teacher if objective.needs_teacher else None,
            recipe=lab.recipe(2, lr=0.01),
            **weights,
            **options,
        )

    return member


def state_of(member) -> dict[str, torch.Tensor]:
    """Everything that decides how a member goes on."""
    return member.state()[0]


def same(ours, theirs) -> None:
    """Weights, metrics, and all of the state are equal to the last bit."""
    assert ours.recorder.weights == theirs.recorder.weights
    mine, other = state_of(ours), state_of(theirs)
    assert mine.keys() == other.keys()
    assert [name for name in mine if not torch.equal(mine[name], other[name])] == []


@pytest.mark.parametrize("kind", KINDS)
def test_resumed_is_uninterrupted(make, lab, kind: str) -> None:
    whole = make(KINDS[kind])
    lab.run(whole)
    assert whole.error is None
    for steps in (2, 3, 4):  # inside epoch 1, at its end, inside epoch 2
        stopped = make(KINDS[kind])
        lab.run(stopped, stop_requested=lab.stop_after(steps))
        ((tensors, state, lines),) = stopped.recorder.saved
        resumed = make(KINDS[kind])
        resumed.restore(tensors, state)
        lab.run(resumed)
        same(resumed, whole)
        assert stopped.recorder.lines[:lines] + resumed.recorder.lines == whole.recorder.lines


def test_a_cohort_of_all_kinds_is_each_alone(make, lab) -> None:
    methods = [*KINDS.values(), "ce"]
    alone, together = ([make(method) for method in methods] for _ in range(2))
    for member in alone:
        lab.run(member)
    lab.run(*together, make("kd", seed=2))
    for ours, theirs in zip(together, alone, strict=True):
        assert theirs.error is None
        same(ours, theirs)
        assert ours.recorder.lines == theirs.recorder.lines
    ends = dict(zip(methods, (member.recorder.weights for member in together), strict=True))
    assert [(a, b) for a in ends for b in ends if a < b and ends[a] == ends[b]] == []


def test_the_kinds_are_what_they_are_called(make) -> None:
    """Otherwise the tests above would try the same kind twice."""
    members = {kind: make(method) for kind, method in KINDS.items()}
    names = {kind: set(member.objective.state_dict()) for kind, member in members.items()}
    learned = {kind: list(member.objective.parameters()) for kind, member in members.items()}
    assert not names["none"]
    assert learned["a learned map"]
    assert learned["a learned temperature"]
    assert learned["learned levels"]
    statistics = dict(members["statistics"].objective.named_buffers())
    assert len(statistics) > 0
    assert len(members["several methods"].objective.parts) > 1
    assert first_stage(KINDS["a first stage"])
    assert not any(first_stage(method) for kind, method in KINDS.items() if kind != "a first stage")
    assert len(names["a memory bank"]) > len(learned["a memory bank"])
    deployed = members["another network that is deployed"]
    assert deployed.objective.deploys
    assert type(deployed.student) is not type(members["none"].student)
    assert as_network(deployed.student, num_classes=4) is deployed.student
    assert next(iter(members["a strong view"].stream.epoch(1))).strong is not None
    assert next(iter(members["none"].stream.epoch(1))).strong is None
