"""The folded teacher against the network as it is, and the table against the live teacher."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from distill.bench.gates.gate import Gate, within
from distill.data import Batch
from distill.losses import kd, zscore_kd
from distill.teachers import Teacher

STUDENTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "untrained": lambda teacher, noise: 0.1 * noise,
    "half-trained": lambda teacher, noise: 0.5 * teacher + noise,
    "near the teacher": lambda teacher, noise: teacher + 0.1 * noise,
}
LOSSES: dict[str, tuple[Callable[..., Tensor], float]] = {"KD": (kd, 4.0), "Z-score KD": (zscore_kd, 2.0)}


@torch.no_grad()
def folded(teacher: Teacher, network: nn.Module, batches: Sequence[Batch]) -> Gate:
    """The live teacher's logits in fp32 are the network's own, to 1e-4 of their deviation."""
    worst = 0.0
    for batch in batches:
        expected = network.eval()(batch.images).logits
        worst = max(worst, float((teacher(batch).logits - expected).abs().max() / expected.std()))
    return within(
        "folded", {"of their deviation": (worst, 1e-4)}, what="live teacher, logits' largest difference from unfolded"
    )


def in_bf16(live: Teacher, plain: Teacher, network: nn.Module, batches: Sequence[Batch]) -> Gate:
    """The live teacher in bf16 strays from fp32 no further than twice what bf16 does to the unfolded one."""
    folded_error = plain_error = 0.0
    with torch.no_grad():
        for batch in batches:
            expected = network.eval()(batch.images).logits
            folded_error = max(folded_error, float((live(batch).logits.float() - expected).norm() / expected.norm()))
            plain_error = max(plain_error, float((plain(batch).logits.float() - expected).norm() / expected.norm()))
    return within(
        "folded bf16", {"relative": (folded_error, 2 * plain_error)}, what="live teacher in bf16, logits against fp32"
    )


def table(asked: Teacher, live: Teacher, batches: Sequence[Batch]) -> Gate:
    """The soft term's loss within 1e-4 and its gradient within 1e-3, relative, for every student and loss above.

    In float64: near the teacher float32's own rounding of the KL divergence is larger than the table's error.
    """
    worst = {"loss": 0.0, "gradient": 0.0}
    random = torch.Generator().manual_seed(3)
    expected, found = (torch.cat([asks(batch).logits for batch in batches]).double().cpu() for asks in (live, asked))
    noise = torch.randn(expected.shape, dtype=torch.float64, generator=random)
    for student in STUDENTS.values():
        for loss, temperature in LOSSES.values():
            values, gradients = [], []
            for logits in (expected, found):
                mine = student(expected, noise).requires_grad_()
                value = loss(mine, logits, temperature=temperature)
                gradients.append(torch.autograd.grad(value, mine)[0])
                values.append(value.detach())
            worst["loss"] = _larger(worst["loss"], (values[1] - values[0]).abs() / values[0].abs())
            off = (gradients[1] - gradients[0]).norm() / gradients[0].norm()
            worst["gradient"] = _larger(worst["gradient"], off)
    return within(
        "table",
        {"in the loss": (worst["loss"], 1e-4), "in its gradient": (worst["gradient"], 1e-3)},
        what=f"table against live teacher, soft term of {' and '.join(LOSSES)}, {', '.join(STUDENTS)}, relative",
    )


def _larger(so_far: float, found: Tensor) -> float:
    value = float(found)
    return value if not value <= so_far else so_far  # nan stays
