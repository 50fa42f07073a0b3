"""Gates: a figure is shown only if our numbers equal the peer's in the same run.

What the test suite proves without a peer (crops, folded teachers, tables, members of cohorts) is not repeated here.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from distill.training import Evaluation, Member, compiled, evaluate, fit
from scripts.bench.lab import Lab
from scripts.bench.peer import PeerLoop

STEPS = 10
FEW_STEPS = 4  # of costly ones
EXACT, BF16 = 1e-4, 5e-2  # relative
IN_BF16 = {"curve": "curve bf16"}  # gates that a figure in bf16 needs too


@dataclass(frozen=True)
class Gate:
    """`says` is a sentence with the numbers, `values` the numbers themselves."""

    name: str
    passed: bool
    says: str
    values: Mapping[str, float]


def within(name: str, limits: Mapping[str, tuple[float, float]], *, what: str, besides: str = "") -> Gate:
    """A gate that passes if every value is finite and at most its limit: {what it is: (value, limit)}."""
    limits = {text: (float(value), float(limit)) for text, (value, limit) in limits.items()}
    passed = all(value <= limit for value, limit in limits.values())  # false for nan
    numbers = ", ".join(f"{_number(value)} {text} (limit {_number(limit)})" for text, (value, limit) in limits.items())
    return Gate(name, passed, f"{what}: {numbers}{besides}", {text: value for text, (value, _) in limits.items()})


def _number(value: float) -> str:
    return f"{value:.0f}" if value.is_integer() and abs(value) < 1e6 else f"{value:.1e}"


def curve(
    lab: Lab,
    name: str = "curve",
    *,
    steps: int = STEPS,
    precision: str = "fp32",
    limit: float = EXACT,
    formats: float = 0.0,
    around: Callable[[Sequence[Member]], AbstractContextManager[object]] = nullcontext,
    member: Member | None = None,
) -> Gate:
    """The loss of every step of an epoch is within `limit` (relative) of the peer's: equal weights, equal batches.

    Args:
        lab: the pair; the steps are carried out as on its device (captured, on CUDA).
        name: the gate's.
        steps: of the epoch.
        precision: ours; the peer's is fp32.
        limit: relative.
        formats: after the first step the limit is so many times the difference that channels_last alone makes in the
            peer, if that is more: an update may amplify rounding beyond any fixed limit.
        around: entered around our training, to compile it for example.
        member: another one than the plan's, at the start of its training; its stream has `steps` batches.
    """
    data = lab.steps(steps)
    member = member or lab.member(data, lab.live(precision=precision), precision=precision)
    batches = lab.peer_batches(member.stream)
    expected = _losses(lab.peer(), batches)
    other = lab.peer()
    other.memory_format = torch.channels_last
    for network in (other.student, other.teacher):
        if network is not None:
            network.to(memory_format=torch.channels_last)
    format_alone = apart(_losses(other, batches), expected)
    watch = Losses()
    with around([member]):
        fit([member], watch=watch, stop_requested=lambda: len(watch.values) >= len(expected), engine=lab.engine())
    limits = {"relative": (apart(watch.values, expected), max(limit, formats * format_alone))}
    if formats:
        limits["relative in the first step"] = (apart(watch.values[:1], expected[:1]), limit)
    return within(
        name,
        limits,
        what=f"loss of a KD step ({name}), {len(expected)} steps, largest difference from the peer's",
        besides=f"; channels_last alone makes {format_alone:.1e} in the peer",
    )


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
    "curve bf16": lambda lab: curve(lab, "curve bf16", precision="bf16", limit=BF16),
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


def _losses(peer: PeerLoop, batches: Sequence[tuple[Tensor, Tensor]]) -> list[float]:
    return [peer.step(images, labels)[0] for images, labels in batches]


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
