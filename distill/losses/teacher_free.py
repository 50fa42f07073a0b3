"""Tf-KD: soft labels from a virtual teacher, a distribution written down by hand.

"Revisiting Knowledge Distillation via Label Smoothing Regularization" (Yuan et al., CVPR 2020, arXiv 1909.11723).
Logits are (B, K), labels (B,) int64; scalars, means over the batch of per-sample terms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from distill.losses.checks import refuse, temperature_faults, weight_faults
from distill.losses.objective import Objective
from distill.losses.softened import kl_rows, log_softened

if TYPE_CHECKING:
    from distill.data import Batch
    from distill.models import Output


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
    elsewhere, so the term acts as a little more label smoothing. The equation of the paper can
    also be read with both sides at T; without T^2 the gradient would then almost vanish.
    """
    log_student = log_softened(student_logits, 1.0)
    num_classes, dtype = log_student.shape[-1], log_student.dtype
    teacher = virtual_teacher(labels, num_classes=num_classes, correct_probability=correct_probability, dtype=dtype)
    return kl_rows(log_student, log_softened(teacher, temperature)).mean()


class VirtualTeacher(Objective):
    """`ce` + `kd`: ce_weight * CE + kd_weight * KL(virtual teacher || student). No teacher is loaded.

    "Revisiting Knowledge Distillation via Label Smoothing Regularization" (Yuan et al., CVPR 2020, arXiv
    1909.11723), Tf-KD_reg: see `virtual_teacher_kd` for what is softened. The paper's
    other method, Tf-KD_self, is plain KD from a trained network of the student's own kind: `loss=kd` with the
    same network as teacher and student.

    Raises ValueError if `temperature` <= 0, `correct_probability` is not in 0..1, a weight is negative, both are
    zero or a number is not finite.
    """

    family = "tf_kd"
    reads = ()
    needs_teacher = False

    def __init__(self, *, temperature: float, correct_probability: float, ce_weight: float, kd_weight: float) -> None:
        super().__init__()
        faults = [*temperature_faults(temperature), *weight_faults(ce_weight=ce_weight, kd_weight=kd_weight)]
        if not 0 < correct_probability <= 1:
            faults.append(
                f"correct_probability must be > 0 and <= 1, got {correct_probability}: "
                "set loss.correct_probability to a number such as 0.99"
            )
        refuse(faults)
        self.temperature = temperature
        self.correct_probability = correct_probability
        self.ce_weight = ce_weight
        self.kd_weight = kd_weight

    def forward(self, student: Output, teacher: Output | None, batch: Batch, progress: Tensor) -> dict[str, Tensor]:
        """The terms `ce` and `kd`, each only if its weight is positive; `teacher` and `progress` are unused."""
        terms = self.label_term(student, batch)
        if self.kd_weight > 0:
            numbers = {"temperature": self.temperature, "correct_probability": self.correct_probability}
            terms["kd"] = self.kd_weight * virtual_teacher_kd(student.logits, batch.labels, **numbers)
        return terms
