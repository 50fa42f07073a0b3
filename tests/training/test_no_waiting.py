"""A training step waits for nothing: it reads no number from the device, and takes none from the host but constants.

What is no operation of torch (`tolist`, `numpy`) is not seen here; on the meta device, where every objective is run by
the conformance tests, it is an error.
"""

import pytest
import torch
from method_networks import NARROW, WIDE, Staged
from method_presets import build
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from distill.teachers import LiveTeacher
from distill.training import Eager, engine, seeded

METHODS = ("ce", "kd", "zscore_kd", "dkd", "ctkd", "crd", "review_kd", "mlkd", "simkd", "ofd", "at", "rkd")
# what gives a number, or a shape that depends on numbers, and what brings host data along
WAITING = {
    "_local_scalar_dense",
    "is_nonzero",
    "equal",
    "nonzero",
    "masked_select",
    "unique_dim",
    "_unique2",
    "bincount",
}
WAITING |= {"lift_fresh", "_pin_memory", "repeat_interleave"}


class Waits(TorchDispatchMode):
    """Notes the operations for which a GPU would be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.operations = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.removeprefix("aten::")
        masks = name.startswith("index") and any(
            isinstance(leaf, torch.Tensor) and leaf.dtype == torch.bool for leaf in tree_leaves(args[1:2])
        )
        if name in WAITING or masks:
            self.found.append(name)
        self.operations += 1
        return func(*args, **(kwargs or {}))


def staged(widths, classes, seed):
    with seeded(seed, "student"):
        return Staged(widths, (1, 1, 2, 2), classes=classes)


@pytest.mark.parametrize("method", METHODS)
def test_a_step_waits_for_nothing(lab, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Student, terms, backward, optimizer and meters, in the second step, when all lazy state is there."""
    classes = lab.dataset.num_classes
    objective = build(method, seed=1)
    teacher = LiveTeacher(staged(WIDE, classes, 9), weights="teacher", precision="fp32", taps=True)
    member = lab.member(
        objective, student=staged(NARROW, classes, 1), teacher=teacher if objective.needs_teacher else None
    )
    member.begin_epoch(lambda: 0.0)
    steps, step = [], engine.train_step

    def watched(*arguments, **options) -> None:
        with Waits() as waits:
            step(*arguments, **options)
        steps.append(waits)

    monkeypatch.setattr(engine, "train_step", watched)
    for batch in list(member.stream.epoch(1))[:2]:
        for trained in Eager().train([member], {member.stream.key: batch}):
            trained.advance()
    first, second = steps
    assert second.found == []
    assert second.operations > 20
    assert set(first.found) <= {"lift_fresh"}  # the first step may make what it keeps


@pytest.mark.parametrize(
    "wait",
    [
        torch.Tensor.item,
        bool,
        torch.Tensor.nonzero,
        lambda t: t[t > 0],
        lambda t: torch.tensor([1.0]) + t,
    ],
    ids=["item", "bool", "nonzero", "mask", "host data"],
)
def test_waiting_is_seen(wait) -> None:
    with Waits() as waits:
        wait(torch.ones(1))
    assert waits.found
