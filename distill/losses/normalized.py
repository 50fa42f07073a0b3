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

from torch import Tensor
from torch.nn import functional

from distill.losses.softened import cross_entropy_rows
from distill.losses.target_split import log_target_and_rest, split_target


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
