"""Decoupled knowledge distillation: KD taken apart into the target class and the others.

"Decoupled Knowledge Distillation" (Zhao et al., CVPR 2022, arXiv 2203.08679). With p_t the softened
probability of the target, KD / T^2 = TCKD + (1 - p_t of the teacher) NCKD for every sample (Eq. 6); DKD frees
the two from each other (Eq. 7). B is the batch, K the number of classes; logits are (B, K), labels (B,) int64.
Scalars, means over the batch of per-sample terms, T^2 inside; student first, teacher second.
"""

from torch import Tensor
from torch.nn import functional

from distill.losses.softened import kl_rows
from distill.losses.target_split import log_target_and_rest, split_target


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


def _log_binary(logits: Tensor, labels: Tensor, temperature: float | Tensor) -> tuple[Tensor, Tensor]:
    target, others = split_target(logits, labels)
    return log_target_and_rest(target / temperature, others / temperature)
