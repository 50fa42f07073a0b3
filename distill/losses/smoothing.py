"""Soft labels without a teacher: smoothed labels, and a teacher written down by hand.

"Revisiting Knowledge Distillation via Label Smoothing Regularization" (Yuan et al., CVPR 2020, arXiv
1909.11723), which treats both as KD from a virtual teacher. Logits are (B, K), labels (B,) int64; scalars,
means over the batch of per-sample terms.
"""

import torch
from torch import Tensor
from torch.nn import functional

from distill.losses.precision import at_least_float32
from distill.losses.softened import kl_rows, log_softened


def smoothed_cross_entropy(student_logits: Tensor, labels: Tensor, *, smoothing: float) -> Tensor:
    """Cross-entropy with (1 - a) one-hot + a / K, a = `smoothing`: label smoothing.

    The uniform part includes the target ("Rethinking the Inception Architecture", Szegedy et al. 2016, arXiv
    1512.00567), as in the paper's equations; its code spreads a over the K - 1 others, which is a (K - 1) / K.
    """
    return functional.cross_entropy(at_least_float32(student_logits), labels, label_smoothing=smoothing)


def virtual_teacher(
    labels: Tensor, *, num_classes: int, correct_probability: float, dtype: torch.dtype = torch.float32
) -> Tensor:
    """The paper's p^d: `correct_probability` at the label, the rest shared equally by the others: (B,) -> (B, K)."""
    others = (1 - correct_probability) / (num_classes - 1)
    is_target = torch.arange(num_classes, device=labels.device) == labels[:, None]  # (B, K)
    return others + (correct_probability - others) * is_target.to(dtype)


def virtual_teacher_kd(
    student_logits: Tensor, labels: Tensor, *, temperature: float | Tensor, correct_probability: float
) -> Tensor:
    """KL(softmax(p^d / T) || softmax(student)), the regulariser of Tf-KD_reg. No T^2 inside.

    Softened as the authors' code does it: the virtual teacher's probabilities are taken for logits, and the
    student's stay at temperature 1. At T = 20 the result is nearly uniform, 5 % more at the target than
    elsewhere, so the term acts as a little more label smoothing. With both sides at T, as the
    equation of the paper may also be read, and no T^2, hardly any gradient would be left.
    """
    log_student = log_softened(student_logits, 1.0)
    num_classes, dtype = log_student.shape[-1], log_student.dtype
    teacher = virtual_teacher(labels, num_classes=num_classes, correct_probability=correct_probability, dtype=dtype)
    return kl_rows(log_student, log_softened(teacher, temperature)).mean()
