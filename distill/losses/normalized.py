"""Normalised KD: the teacher's target probability on the student's, and the other classes among themselves.

"From Knowledge Distillation to Self-Knowledge Distillation: A Unified Approach with Normalized Loss and
Customized Soft Labels" (Yang et al., ICCV 2023, arXiv 2303.13005). With T_i, S_i the probabilities of teacher
and student, t the target and N(.) the softmax over the other classes, the loss besides the usual cross-entropy
is -T_t log S_t - gamma lambda^2 sum_{i != t} N(T_i) log N(S_i): cross-entropies and no divergences. At
temperature 1 and gamma = 1 - T_t of the sample, it is the generic KD loss but for its term
-(1 - T_t) log(1 - S_t), which the method drops: with it, equal sums of the other classes would be demanded too.

B is the batch, K the number of classes; logits are (B, K), labels (B,) int64. Scalars, means over the batch of
per-sample terms; student first, teacher second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor
from torch.nn import functional

from distill.losses.checks import refuse, temperature_faults, weight_faults
from distill.losses.networks import teacher_logits
from distill.losses.objective import Objective
from distill.losses.softened import cross_entropy_rows, log_target_and_rest, split_target

if TYPE_CHECKING:
    from distill.data import Batch
    from distill.models import Output


def nkd_target(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor) -> Tensor:
    """-T_t log S_t, at temperature 1: the usual cross-entropy, weighted by the teacher's confidence."""
    log_student, _ = log_target_and_rest(*split_target(student_logits, labels))
    log_teacher, _ = log_target_and_rest(*split_target(teacher_logits, labels))
    return -(log_teacher.exp() * log_student).mean()


def nkd_nontarget(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, *, temperature: float | Tensor
) -> Tensor:
    """-lambda^2 sum_{i != t} N(T_i) log N(S_i) with both softmaxes at `temperature` lambda; gamma is not inside."""
    log_student, log_teacher = (
        functional.log_softmax(split_target(logits, labels)[1] / temperature, dim=-1)
        for logits in (student_logits, teacher_logits)
    )
    return cross_entropy_rows(log_student, log_teacher).mean() * temperature * temperature


class NormalizedKD(Objective):
    """`ce` + `target` + `nontarget`: the losses of `distill.losses.normalized`, each times its weight.

    "From Knowledge Distillation to Self-Knowledge Distillation: A Unified Approach with Normalized Loss and
    Customized Soft Labels" (Yang et al., ICCV 2023, arXiv 2303.13005). `nontarget_weight` is its gamma and
    `temperature` its lambda, which acts on the non-target term alone, lambda^2 inside; the target term has the
    weight 1 there. The two are cross-entropies, so they do not fall to 0.

    Raises ValueError if `temperature` <= 0, a weight is negative, all are zero or a number is not finite.
    """

    family = "nkd"
    reads = ("logits",)

    def __init__(self, *, temperature: float, ce_weight: float, target_weight: float, nontarget_weight: float) -> None:
        super().__init__()
        weights = {"ce_weight": ce_weight, "target_weight": target_weight, "nontarget_weight": nontarget_weight}
        refuse([*temperature_faults(temperature), *weight_faults(**weights)])
        self.temperature = temperature
        self.ce_weight = ce_weight
        self.target_weight = target_weight
        self.nontarget_weight = nontarget_weight
        self.needs_teacher = target_weight > 0 or nontarget_weight > 0

    def forward(self, student: Output, teacher: Output | None, batch: Batch, progress: Tensor) -> dict[str, Tensor]:
        """The terms `ce`, `target` and `nontarget`, each only if its weight is positive; `progress` is unused."""
        terms = self.label_term(student, batch)
        if self.target_weight > 0:
            target = nkd_target(student.logits, teacher_logits(teacher), batch.labels)
            terms["target"] = self.target_weight * target
        if self.nontarget_weight > 0:
            sides = student.logits, teacher_logits(teacher)
            nontarget = nkd_nontarget(*sides, batch.labels, temperature=self.temperature)
            terms["nontarget"] = self.nontarget_weight * nontarget
        return terms
