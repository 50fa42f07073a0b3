"""Gates: a figure is shown only if our numbers equal the peer's in the same run.

What the test suite proves without a peer (crops, folded teachers, tables, members of cohorts) is not repeated here.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch

from distill.data import Dataset
from distill.training import Evaluation, Member, compiled, evaluate, fit
from scripts.bench.lab import Lab

STEPS = 10
FEW_STEPS = 4  # of costly ones
FP32_STEPS = 3  # as many as rounding stays small in
EXACT, BF16 = 1e-4, 5e-2  # relative
IN_BF16 = {"curve": "curve bf16"}  # gates that a figure in bf16 needs too


@dataclass(frozen=True)
class Gate:
    """`says` is a sentence with the numbers, `values` the numbers themselves."""

    name: str
    passed: bool
    says: str
    values: Mapping[str, float]


class MakeMember(Protocol):
    """`Lab.taught`, or what makes another member than the plan's."""

    def __call__(self, lab: Lab, data: Dataset, /, *, dtype: torch.dtype) -> Member: ...


def within(name: str, limits: Mapping[str, tuple[float, float]], *, what: str) -> Gate:
    """A gate that passes if every value is finite and at most its limit: {what it is: (value, limit)}."""
    limits = {text: (float(value), float(limit)) for text, (value, limit) in limits.items()}
    passed = all(value <= limit for value, limit in limits.values())  # false for nan
    numbers = ", ".join(f"{_number(value)} {text} (limit {_number(limit)})" for text, (value, limit) in limits.items())
    return Gate(name, passed, f"{what}: {numbers}", {text: value for text, (value, _) in limits.items()})


def _number(value: float) -> str:
    return f"{value:.0f}" if value.is_integer() and abs(value) < 1e6 else f"{value:.1e}"


def curve(
    lab: Lab,
    name: str = "curve",
    *,
    steps: int = STEPS,
    around: Callable[[Sequence[Member]], AbstractContextManager[object]] = nullcontext,
    member: MakeMember = Lab.taught,
) -> Gate:
    """The losses of an epoch's steps are the peer's to 1e-4 (relative): equal weights, equal batches.

    All `steps` are compared in float64, the first three also in fp32, which is what is timed: there each update may
    amplify rounding errors. After ten steps of resnet56 -> resnet20 they are 1e-3 in fp32 and 1e-11 in float64.

    Args:
        lab: the pair; the steps are carried out as on its device (captured, on CUDA).
        name: the gate's.
        steps: of the epoch.
        around: entered around our training, to compile it for example.
        member: makes another one than the plan's, at the start of its training.
    """
    few = min(steps, FP32_STEPS)
    exact = apart(*_losses(lab, steps, torch.float64, member=member, around=around))
    timed = apart(*_losses(lab, few, torch.float32, member=member, around=around))
    limits = {f"in {steps} steps in float64": (exact, EXACT), f"in {few} in fp32": (timed, EXACT)}
    return within(name, limits, what=f"loss of a KD step ({name}), largest relative difference from the peer's")


def curve_bf16(lab: Lab) -> Gate:
    """The losses of ten steps in bf16 are those of the peer in fp32, but for bf16's rounding."""
    found = apart(*_losses(lab, STEPS, torch.float32, member=partial(Lab.taught, precision="bf16")))
    what = f"loss of a KD step in bf16, {STEPS} steps, largest difference from the peer's in fp32"
    return within("curve bf16", {"relative": (found, BF16)}, what=what)


def evaluation(lab: Lab, network: torch.nn.Module | None = None) -> Gate:
    """The same number of correct answers, and a mean loss equal to 1e-5, by the same weights in fp32."""
    ours = evaluate(network or lab.student(), lab.evaluation(lab.data), precision="fp32")
    correct, loss = lab.peer(taught=False).validate(lab.validation_loader)
    return within(
        "evaluation",
        {"more or fewer correct": (abs(ours.correct - correct), 0), "in the loss": (abs(ours.loss / loss - 1), 1e-5)},
        what=f"evaluation of {ours.count} images against the peer's",
    )


GATES: dict[str, Callable[[Lab], Gate]] = {
    "curve": curve,
    "curve bf16": curve_bf16,
    "compiled": lambda lab: curve(lab, "compiled", around=compiled),
    "evaluation": evaluation,
}


def check(lab: Lab, names: Iterable[str], *, gates: Mapping[str, Callable[[Lab], Gate]] = GATES) -> dict[str, Gate]:
    """The outcome of each of these gates; a gate that raises has failed."""
    found: dict[str, Gate] = {}
    for name in names:
        try:
            with full_fp32(lab.device):
                found[name] = gates[name](lab)
        except Exception as error:  # whatever is broken in it: its figures stay hidden, the others are shown
            found[name] = Gate(name, False, f"{name} could not be tried: {type(error).__name__}: {error}", {})
    return found


@contextmanager
def full_fp32(device: torch.device) -> Iterator[None]:
    """Convolutions without TF32: the gates compare formulas, not what TF32 rounds away."""
    if device.type != "cuda":
        yield
        return
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield


def _losses(
    lab: Lab,
    steps: int,
    dtype: torch.dtype,
    *,
    member: MakeMember,
    around: Callable[[Sequence[Member]], AbstractContextManager[object]] = nullcontext,
) -> tuple[list[float], list[float]]:
    """Of each step of an epoch, ours and the peer's, their images and weights in `dtype`."""
    ours, peer = member(lab, lab.steps(steps), dtype=dtype), lab.peer(dtype=dtype)
    expected = [peer.step(images, labels)[0] for images, labels in lab.peer_batches(ours.stream)]
    watch = Losses()
    with around([ours]):
        fit([ours], watch=watch, stop_requested=lambda: len(watch.values) >= steps, engine=lab.engine())
    return watch.values, expected


def apart(found: Sequence[float], expected: Sequence[float]) -> float:
    if len(found) != len(expected):
        return float("inf")
    apart = [abs(mine - theirs) / abs(theirs) for mine, theirs in zip(found, expected, strict=True)]
    return max(apart, key=lambda value: (value != value, value))  # nan above all


class Losses:
    """The loss of every step, from the growth of the epoch's sums."""

    def __init__(self) -> None:
        self.values: list[float] = []
        self._total, self._count = 0.0, 0

    def step(self, member: Member) -> None:
        total = member.meters.read()["loss"] * member.meters.count
        self.values.append((total - self._total) / (member.meters.count - self._count))
        self._total, self._count = total, member.meters.count

    def epoch(self, member: Member, measured: Evaluation) -> None: ...

    def stopped(self, member: Member, error: Exception) -> None: ...
