"""Training on labels alone, hard or smoothed; the term `ce` that most methods add."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor
from torch.nn import functional

from distill.losses.checks import refuse, weight_faults
from distill.losses.numeric import at_least_float32
from distill.losses.objective import Objective

if TYPE_CHECKING:
    from distill.data import Batch
    from distill.models import Output


def cross_entropy(student_logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of raw logits (B, K) with hard labels (B,) int64: mean over the batch, temperature 1."""
    return functional.cross_entropy(at_least_float32(student_logits), labels)


def smoothed_cross_entropy(student_logits: Tensor, labels: Tensor, *, smoothing: float) -> Tensor:
    """Cross-entropy with (1 - a) one-hot + a / K, a = `smoothing`: label smoothing.

    The uniform part includes the target ("Rethinking the Inception Architecture", Szegedy et al. 2016, arXiv
    1512.00567), as in the paper's equations; its code spreads a over the K - 1 others, which is a (K - 1) / K.
    """
    return functional.cross_entropy(at_least_float32(student_logits), labels, label_smoothing=smoothing)


def label_term(student: Output, batch: Batch, *, ce_weight: float) -> dict[str, Tensor]:
    """The term `ce`, weighted; no term if its weight is 0."""
    if ce_weight == 0:
        return {}
    return {"ce": ce_weight * cross_entropy(student.logits, batch.labels)}


class CrossEntropy(Objective):
    """`ce`: cross-entropy of the student's raw logits with the labels, times `ce_weight` (> 0).

    Raises ValueError if `ce_weight` is negative, zero or not finite.
    """

    reads = ()
    needs_teacher = False

    def __init__(self, *, ce_weight: float = 1.0) -> None:
        super().__init__()
        refuse(weight_faults(ce_weight=ce_weight))
        self.ce_weight = ce_weight

    def forward(self, student: Output, teacher: Output | None, batch: Batch, progress: Tensor) -> dict[str, Tensor]:
        """The one term, `ce`; `teacher` and `progress` are unused."""
        return {"ce": self.ce_weight * cross_entropy(student.logits, batch.labels)}


class LabelSmoothing(Objective):
    """`ce`: cross-entropy with the labels smoothed by `smoothing`, times `ce_weight` (> 0). No teacher.

    "Rethinking the Inception Architecture" (Szegedy et al. 2016, arXiv 1512.00567), in the form of
    `smoothed_cross_entropy`. `smoothing` 0 is plain cross-entropy.

    Raises ValueError if `smoothing` is not in 0..1 or `ce_weight` is negative, zero or not finite.
    """

    reads = ()
    needs_teacher = False

    def __init__(self, *, smoothing: float, ce_weight: float = 1.0) -> None:
        super().__init__()
        faults = weight_faults(ce_weight=ce_weight)
        if not 0 <= smoothing < 1:
            faults.append(f"smoothing must be >= 0 and < 1, got {smoothing}: set loss.smoothing, e.g. to 0.1")
        refuse(faults)
        self.smoothing = smoothing
        self.ce_weight = ce_weight

    def forward(self, student: Output, teacher: Output | None, batch: Batch, progress: Tensor) -> dict[str, Tensor]:
        """The one term, `ce`; `teacher` and `progress` are unused."""
        smoothed = smoothed_cross_entropy(student.logits, batch.labels, smoothing=self.smoothing)
        return {"ce": self.ce_weight * smoothed}
