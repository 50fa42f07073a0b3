"""KD and Z-score KD: labels plus a teacher's softened logits, and the ablations of the z-score.

B is the batch, K the number of classes; logits are (B, K) of any floating type, which student and teacher need not
share. Every function computes in at least float32 (float64 stays float64) and returns a scalar, the mean over the
batch of per-sample terms: none is relational. `temperature` is a number or a 0-d tensor (which may be learned); T^2 is
multiplied onto the finished mean, factor by factor, so that a half-typed tensor is not squared in its own few digits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor
from torch.nn import functional

from distill.losses.checks import refuse, temperature_faults, weight_faults
from distill.losses.networks import both_logits
from distill.losses.objective import Objective
from distill.losses.softened import log_softened
from distill.losses.transforms import standardize

if TYPE_CHECKING:
    from distill.data import Batch
    from distill.models import Output


def kd(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float | Tensor) -> Tensor:
    """Vanilla knowledge distillation: T^2 KL(softmax(t/T) || softmax(s/T)), mean over the batch.

    "Distilling the Knowledge in a Neural Network" (Hinton et al. 2015, arXiv 1503.02531): the softened
    softmax is Eq. 1, the gradient Eq. 2; T^2 (section 2) is inside, so the gradient's scale hardly depends on
    T. Eq. 4 is the limit: for T -> infinity the value is the mean squared distance of centred logits / 2K.
    """
    log_student = log_softened(student_logits, temperature)  # (B, K)
    log_teacher = log_softened(teacher_logits, temperature)
    divergence = functional.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)
    return divergence * temperature * temperature


def zscore_kd(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float | Tensor) -> Tensor:
    """Z-score KD: vanilla KD between standardised logits, so that only the logits' relations have to match.

    "Logit Standardization in Knowledge Distillation" (Sun et al., CVPR 2024, arXiv 2403.01427), algorithms 1
    and 2: T^2 of the base temperature is inside, and no further factor. Per-sample terms, mean over the
    batch. Unbiased deviation, 1e-7 added to it. The gradient grows as 1 / std(student logits); see
    `standardize` for constant rows.
    """
    return kd(standardize(student_logits), standardize(teacher_logits), temperature=temperature)


def transformed_kd(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    temperature: float | Tensor,
    student_transform: Callable[[Tensor], Tensor],
    teacher_transform: Callable[[Tensor], Tensor],
) -> Tensor:
    """Vanilla KD between transformed logits, each side by its function (B, K) -> (B, K).

    The parts of the z-score (Sun et al., CVPR 2024, table 4) and one-sided variants. T^2 is inside, as in
    `kd`; the mean over the batch of per-sample terms. `standardize` on both sides is `zscore_kd`.
    """
    student, teacher = student_transform(student_logits), teacher_transform(teacher_logits)
    return kd(student, teacher, temperature=temperature)


def soft_cross_entropy(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float | Tensor) -> Tensor:
    """Cross-entropy with softened targets: -T^2 sum_k softmax(t/T)_k log softmax(s/T)_k, mean over the batch.

    The form in which Hinton et al. (2015, arXiv 1503.02531) state the objective (section 2, gradient Eq. 2),
    T^2 inside. It exceeds `kd` by T^2 times the teacher's entropy, so for the student both have one gradient.
    """
    log_student = log_softened(student_logits, temperature)  # (B, K)
    teacher = log_softened(teacher_logits, temperature).exp()
    return -(teacher * log_student).sum(dim=-1).mean() * temperature * temperature


class SoftTargets(Objective):
    """`ce` + `kd`: ce_weight * CE(student, labels) + kd_weight * divergence(student, teacher, temperature).

    `divergence` is a function such as `kd` or `zscore_kd`, T^2 inside; it gets logits in at least float32. CE always
    sees the raw logits, whatever the divergence does to its own. No gradient reaches the teacher.

    Raises ValueError if `temperature` <= 0, a weight is negative, both are zero or a number is not finite.
    """

    reads = ("logits",)

    def __init__(
        self, *, divergence: Callable[..., Tensor], temperature: float, ce_weight: float, kd_weight: float
    ) -> None:
        super().__init__()
        refuse([*temperature_faults(temperature), *weight_faults(ce_weight=ce_weight, kd_weight=kd_weight)])
        self.divergence = divergence
        self.temperature = temperature
        self.ce_weight = ce_weight
        self.kd_weight = kd_weight
        self.needs_teacher = kd_weight > 0

    def forward(self, student: Output, teacher: Output | None, batch: Batch, progress: Tensor) -> dict[str, Tensor]:
        """The terms `ce` and `kd`, each only if its weight is positive; `progress` is unused."""
        terms = self.label_term(student, batch)
        if self.kd_weight > 0:
            divergence = self.divergence(*both_logits(student, teacher), temperature=self.temperature)
            terms["kd"] = self.kd_weight * divergence
        return terms
