"""Multi-level logit distillation: predictions, their similarity within the batch, and that of the classes.

"Multi-level Logit Distillation" (Jin, Wang and Lin, CVPR 2023): with P the softened predictions (B, K), the
instance level compares P itself, the batch level P P^T (B, B), the class level P^T P (K, K); every level sums
over several temperatures ("prediction augmentation"), which is the objective's affair. B is the batch, K the
number of classes; logits are (B, K). Scalars; student first, teacher second. `weights` say how much every
sample (B,), or class (K,), counts; they come from the selections at the end of this file.
"""

import torch
from torch import Tensor

from distill.losses.precision import at_least_float32
from distill.losses.softened import kl_rows, log_softened


def instance_alignment(
    student_logits: Tensor, teacher_logits: Tensor, *, temperature: float | Tensor, weights: Tensor
) -> Tensor:
    """Mean over the batch of weight_i T^2 KL_i; the mean is over all B, however many weights are 0."""
    rows = kl_rows(log_softened(student_logits, temperature), log_softened(teacher_logits, temperature))
    return (weights * rows).mean() * temperature * temperature


def batch_correlation(
    student_logits: Tensor, teacher_logits: Tensor, *, temperature: float | Tensor, weights: Tensor
) -> Tensor:
    """Squared distance of the similarities P P^T, row i times weight_i, summed and divided by B. No T^2 inside.

    Relational: of a batch written twice, the matrix holds four copies and B is doubled, so the value doubles.
    """
    student, teacher = (log_softened(logits, temperature).exp() for logits in (student_logits, teacher_logits))
    return _weighted_distance(student @ student.T, teacher @ teacher.T, weights)


def class_correlation(
    student_logits: Tensor, teacher_logits: Tensor, *, temperature: float | Tensor, weights: Tensor
) -> Tensor:
    """Squared distance of the similarities P^T P, row k times weight_k, summed and divided by K. No T^2 inside.

    Relational: P^T P is a sum over the batch, which doubles with it, so the value becomes four times as large.
    """
    student, teacher = (log_softened(logits, temperature).exp() for logits in (student_logits, teacher_logits))
    return _weighted_distance(student.T @ student, teacher.T @ teacher, weights)


def _weighted_distance(student: Tensor, teacher: Tensor, weights: Tensor) -> Tensor:
    return (weights * (teacher - student).square().sum(dim=-1)).mean()


def confidence(teacher_logits: Tensor) -> Tensor:
    """The largest probability of every sample, at temperature 1: (B, K) -> (B,)."""
    return log_softened(teacher_logits, 1.0).amax(dim=-1).exp()


def class_mass(teacher_logits: Tensor) -> Tensor:
    """The batch's probability for every class, summed over samples, at temperature 1: (B, K) -> (K,)."""
    return torch.softmax(at_least_float32(teacher_logits), dim=-1).sum(dim=0)


def lower_half(values: Tensor) -> Tensor:
    """1 for what is at or below the median of `values` (N,), else 0: the unsure half is selected, item by item."""
    return (values <= values.median()).to(values.dtype)


def share_of_lower_half(values: Tensor) -> Tensor:
    """The share that `lower_half` selects, about 1/2, for every item: nothing is selected, all are weakened.

    What multiplying a finished mean by a mask of samples amounts to, in the public code.
    """
    return lower_half(values).mean().expand_as(values)


def everything(values: Tensor) -> Tensor:
    """1 for every item: no selection."""
    return torch.ones_like(values)
