"""Weighted soft labels: less of the teacher where the student is already better than it."""

import torch
from torch import Tensor
from torch.nn import functional

from distill.losses.precision import at_least_float32
from distill.losses.softened import cross_entropy_rows, log_softened

EPS = 1e-7  # of the authors' code: a teacher may be so sure that its loss is 0 in float32


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
    divergence, times `soft_label_weights`. A sample the student gets right and the teacher does not is
    regularised more than taught; its weight goes to 0. The weights' mean is not normalised.
    """
    rows = cross_entropy_rows(log_softened(student_logits, temperature), log_softened(teacher_logits, temperature))
    weights = soft_label_weights(student_logits, teacher_logits, labels)
    return (weights * rows).mean() * temperature * temperature
