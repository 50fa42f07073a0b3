"""Softened distributions and their divergence, sample by sample: what several losses on logits are made of."""

from torch import Tensor
from torch.nn import functional

from distill.losses.precision import at_least_float32


def log_softened(logits: Tensor, temperature: float | Tensor) -> Tensor:
    """log softmax(z / T) of every row: (B, K) -> (B, K), at least float32.

    `temperature` is a number, a 0-d tensor or (B, 1): one for every sample.
    """
    return functional.log_softmax(at_least_float32(logits) / temperature, dim=-1)


def kl_rows(log_student: Tensor, log_teacher: Tensor) -> Tensor:
    """KL(teacher || student) of every row of log-probabilities: (B, K), (B, K) -> (B,). No T^2 inside."""
    return functional.kl_div(log_student, log_teacher, reduction="none", log_target=True).sum(dim=-1)


def cross_entropy_rows(log_student: Tensor, log_teacher: Tensor) -> Tensor:
    """-sum_k p_k log q_k of every row, p the teacher's and q the student's: (B, K), (B, K) -> (B,)."""
    return -(log_teacher.exp() * log_student).sum(dim=-1)


def kd_by_sample(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float | Tensor) -> Tensor:
    """Vanilla KD in which every sample may have its own temperature: mean over the batch of T_i^2 KL_i.

    `temperature` is a number, a 0-d tensor (then this is `distill.losses.logit.kd`) or (B, 1). The gradient
    with respect to it runs through T^2 as well as through both softmaxes.
    """
    log_student, log_teacher = log_softened(student_logits, temperature), log_softened(teacher_logits, temperature)
    # keepdim by indexing: (B, 1) meets (B, 1) or a scalar, and never becomes (B, B)
    return (kl_rows(log_student, log_teacher)[:, None] * temperature * temperature).mean()
