"""Transformed teacher matching: the temperature on the teacher's side alone.

"Knowledge Distillation Based on Transformed Teacher Matching" (Zheng and Yang, ICLR 2024, arXiv 2402.11148).
A temperature T is the power transform p_i^gamma / sum_j p_j^gamma with gamma = 1/T (Eq. 7 and 9), which the
teacher's probabilities undergo and the student's do not. B is the batch, K the number of classes; logits are
(B, K). Scalars, means over the batch of per-sample terms; no T^2 inside, as in the paper; student first,
teacher second.
"""

from __future__ import annotations

from torch import Tensor

from distill.losses.softened import kl_rows, log_softened


def ttm(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float | Tensor) -> Tensor:
    """TTM: KL(p_T of the teacher || q of the student), q at temperature 1.

    Equal to T KL(p_T || q_T) - (T - 1) H_{1/T}(q) + (T - 1) H(p_T) (Eq. 15): vanilla KD plus a reward
    for the student's Renyi entropy of order 1/T. The gradient is q - p_T (Eq. 20).
    """
    return kl_rows(log_softened(student_logits, 1.0), log_softened(teacher_logits, temperature)).mean()


def wttm(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float | Tensor) -> Tensor:
    """Weighted TTM: every sample's term times the power sum U_{1/T}(p) = sum_k p_k^{1/T} of its teacher row.

    The flatter the teacher, the larger the weight, between 1 (one-hot) and K^{1 - 1/T} (uniform).
    """
    rows = kl_rows(log_softened(student_logits, 1.0), log_softened(teacher_logits, temperature))
    return (power_sum(teacher_logits, temperature=temperature) * rows).mean()


def power_sum(logits: Tensor, *, temperature: float | Tensor) -> Tensor:
    """U_{1/T}(p) = sum_k p_k^{1/T} of p = softmax(z), every row: (B, K) -> (B,)."""
    return (log_softened(logits, 1.0) / temperature).logsumexp(dim=-1).exp()
