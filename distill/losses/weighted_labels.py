"""WSLD: soft labels weighted sample by sample; the teacher counts less where the student is already better."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from distill.losses.checks import refuse, temperature_faults, weight_faults
from distill.losses.networks import teacher_logits
from distill.losses.numeric import at_least_float32
from distill.losses.objective import Objective
from distill.losses.softened import cross_entropy_rows, log_softened

if TYPE_CHECKING:
    from distill.data import Batch
    from distill.models import Output

EPS = 1e-7  # of the authors' code: a confident teacher's loss can be 0 in float32


def soft_label_weights(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor) -> Tensor:
    """1 - exp(-L_s / L_t) of every sample, L the cross-entropies with its label at temperature 1: (B,) in 0..1.

    Constants of the optimisation: no gradient leaves this function.
    """
    with torch.no_grad():
        loss_student, loss_teacher = (
            functional.cross_entropy(at_least_float32(logits), labels, reduction="none")
            for logits in (student_logits, teacher_logits)
        )
        return -torch.expm1(-loss_student / (loss_teacher + EPS))


def weighted_soft_labels(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, *, temperature: float | Tensor
) -> Tensor:
    """Softened cross-entropy of logits (B, K), weighted sample by sample; mean over the batch, T^2 inside.

    "Rethinking Soft Labels for Knowledge Distillation: A Bias-Variance Tradeoff Perspective" (Zhou et al.,
    ICLR 2021, arXiv 2102.00650): the KD term, here as there the cross-entropy -sum_k p_k log q_k and not the
    divergence, times `soft_label_weights`. The weight goes to 0 for a sample that the
    student classifies better than the teacher. The weights' mean is not normalised.
    """
    rows = cross_entropy_rows(log_softened(student_logits, temperature), log_softened(teacher_logits, temperature))
    weights = soft_label_weights(student_logits, teacher_logits, labels)
    return (weights * rows).mean() * temperature * temperature


class WeightedSoftLabels(Objective):
    """`ce` + `kd`: ce_weight * CE + kd_weight * softened cross-entropy, weighted sample by sample.

    "Rethinking Soft Labels for Knowledge Distillation: A Bias-Variance Tradeoff Perspective" (Zhou et al.,
    ICLR 2021, arXiv 2102.00650): see `weighted_soft_labels`. `kd_weight` is its alpha; T^2 is inside. `kd`
    is a cross-entropy, so it does not fall to 0, and it may rise while the student learns to be wrong less often
    than its teacher: the weights grow with the student's own loss, and pass no gradient.

    Raises ValueError if `temperature` <= 0, a weight is negative, both are zero or a number is not finite.
    """

    family = "wsld"
    reads = ("logits",)

    def __init__(self, *, temperature: float, ce_weight: float, kd_weight: float) -> None:
        super().__init__()
        refuse([*temperature_faults(temperature), *weight_faults(ce_weight=ce_weight, kd_weight=kd_weight)])
        self.temperature = temperature
        self.ce_weight = ce_weight
        self.kd_weight = kd_weight
        self.needs_teacher = kd_weight > 0

    def forward(self, student: Output, teacher: Output | None, batch: Batch, progress: Tensor) -> dict[str, Tensor]:
        """The terms `ce` and `kd`, each only if its weight is positive; `progress` is unused."""
        terms = self.label_term(student, batch)
        if self.kd_weight > 0:
            sides = student.logits, teacher_logits(teacher)
            weighted = weighted_soft_labels(*sides, batch.labels, temperature=self.temperature)
            terms["kd"] = self.kd_weight * weighted
        return terms
