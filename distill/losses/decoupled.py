"""Decoupled knowledge distillation: KD taken apart into the target class and the others.

"Decoupled Knowledge Distillation" (Zhao et al., CVPR 2022, arXiv 2203.08679). With p_t the softened
probability of the target, KD / T^2 = TCKD + (1 - p_t of the teacher) NCKD for every sample (Eq. 6); DKD frees
the two from each other (Eq. 7). B is the batch, K the number of classes; logits are (B, K), labels (B,) int64.
Scalars, means over the batch of per-sample terms, T^2 inside; student first, teacher second.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor
from torch.nn import functional

from distill.losses.checks import refuse, temperature_faults, weight_faults
from distill.losses.networks import both_logits
from distill.losses.objective import Objective
from distill.losses.ramps import linear_ramp, ramp_faults
from distill.losses.softened import kl_rows, log_target_and_rest, split_target
from distill.losses.transforms import identity

if TYPE_CHECKING:
    from distill.data import Batch
    from distill.models import Output


def tckd(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, *, temperature: float | Tensor) -> Tensor:
    """Target-class KD: T^2 KL((p_t, 1 - p_t) of the teacher || of the student), the first term of Eq. 6."""
    target_student, rest_student = _log_binary(student_logits, labels, temperature)
    target_teacher, rest_teacher = _log_binary(teacher_logits, labels, temperature)
    on_target = target_teacher.exp() * (target_teacher - target_student)  # (B,)
    on_rest = rest_teacher.exp() * (rest_teacher - rest_student)
    return (on_target + on_rest).mean() * temperature * temperature


def nckd(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, *, temperature: float | Tensor) -> Tensor:
    """Non-target-class KD: T^2 KL between the softmaxes over the K - 1 other classes, in the second term of Eq. 6."""
    log_student, log_teacher = (
        functional.log_softmax(split_target(logits, labels)[1] / temperature, dim=-1)
        for logits in (student_logits, teacher_logits)
    )
    return kl_rows(log_student, log_teacher).mean() * temperature * temperature


def dkd(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    *,
    temperature: float | Tensor,
    target_weight: float,
    nontarget_weight: float,
) -> Tensor:
    """The whole of Eq. 7: target_weight * TCKD + nontarget_weight * NCKD, alpha and beta in the paper; T^2 inside."""
    target = tckd(student_logits, teacher_logits, labels, temperature=temperature)
    nontarget = nckd(student_logits, teacher_logits, labels, temperature=temperature)
    return target_weight * target + nontarget_weight * nontarget


def _log_binary(logits: Tensor, labels: Tensor, temperature: float | Tensor) -> tuple[Tensor, Tensor]:
    target, others = split_target(logits, labels)
    return log_target_and_rest(target / temperature, others / temperature)


class DecoupledKD(Objective):
    """`ce` + `tckd` + `nckd`: ce_weight * CE + ramp * (target_weight * TCKD + nontarget_weight * NCKD).

    "Decoupled Knowledge Distillation" (Zhao et al., CVPR 2022, arXiv 2203.08679), Eq. 7; `target_weight` is its
    alpha, `nontarget_weight` its beta. T^2 is inside both terms. `transform` is applied to the logits of both
    sides before them, the z-score for instance; CE always sees raw logits. The ramp is that of the authors'
    code: e / ramp_epochs in epoch e, on both terms and not on CE.

    Raises ValueError if `temperature` <= 0, `ramp_epochs` < 1, a weight is negative, all are zero or a number is
    not finite.
    """

    family = "dkd"
    reads = ("logits",)

    def __init__(
        self,
        *,
        temperature: float,
        ce_weight: float,
        target_weight: float,
        nontarget_weight: float,
        ramp_epochs: int,
        transform: Callable[[Tensor], Tensor] = identity,
    ) -> None:
        super().__init__()
        weights = {"ce_weight": ce_weight, "target_weight": target_weight, "nontarget_weight": nontarget_weight}
        refuse([*temperature_faults(temperature), *weight_faults(**weights), *ramp_faults(ramp_epochs)])
        self.temperature = temperature
        self.ce_weight = ce_weight
        self.target_weight = target_weight
        self.nontarget_weight = nontarget_weight
        self.ramp_epochs = ramp_epochs
        self.transform = transform
        self.needs_teacher = target_weight > 0 or nontarget_weight > 0

    def forward(self, student: Output, teacher: Output | None, batch: Batch, progress: Tensor) -> dict[str, Tensor]:
        """The terms `ce`, `tckd` and `nckd`, each only if its weight is positive."""
        terms = self.label_term(student, batch)
        if not self.needs_teacher:
            return terms
        ours, theirs = both_logits(student, teacher)
        sides = self.transform(ours), self.transform(theirs)
        ramp = linear_ramp(progress, epochs=self.ramp_epochs)
        if self.target_weight > 0:
            target = tckd(*sides, batch.labels, temperature=self.temperature)
            terms["tckd"] = ramp * self.target_weight * target
        if self.nontarget_weight > 0:
            nontarget = nckd(*sides, batch.labels, temperature=self.temperature)
            terms["nckd"] = ramp * self.nontarget_weight * nontarget
        return terms
