"""Matching where neurons are active, not how strongly."""

from torch import Tensor

from distill.losses.precision import at_least_float32
from distill.losses.resize import to_common_size


def activation_boundary(connected: Tensor, teacher_preactivation: Tensor, *, margin: float = 1.0) -> Tensor:
    """Squared hinge between the student's response and the teacher's side of zero; (B, C, H, W) each.

    "Knowledge Transfer via Distillation of Activation Boundaries Formed by Hidden Neurons" (Heo et al., AAAI 2019,
    arXiv 1811.03233), its piecewise differentiable loss:

        |rho(t) * relu(margin - s) + (1 - rho(t)) * relu(margin + s)|^2,  rho(t) = 1 where t > 0 and 0 elsewhere

    `connected`, s, is what a connector makes of the student's map before its ReLU. Summed over a map, mean over the
    batch of per-sample terms. Of maps of different sizes the larger is averaged down. The teacher gives signs alone:
    no gradient could reach it.
    """
    student, teacher = to_common_size(at_least_float32(connected), at_least_float32(teacher_preactivation))
    side = (teacher > 0).to(student.dtype) * 2 - 1  # +1 where the teacher is active, -1 where not
    return (margin - side * student).clamp(min=0).square().sum(dim=(1, 2, 3)).mean()
