"""Factors: what a paraphraser extracts of a teacher's map, and a translator of the student's."""

from torch import Tensor

from distill.losses.norm import unit
from distill.losses.precision import at_least_float32
from distill.losses.resize import to_common_size


def factor_transfer(student_factor: Tensor, teacher_factor: Tensor) -> Tensor:
    """Mean absolute distance of the normalised factors, (B, C, H, W) each.

    "Paraphrasing Complex Network: Network Compression via Factor Transfer" (Kim et al., NeurIPS 2018, arXiv
    1802.04977), the factor transfer loss with p = 1, as the field runs it: a factor is first reduced to the mean square
    over its channels, flattened and divided by its Euclidean norm, and the distance is averaged over positions; the
    weight 200 belongs to this form. `whole_factor_transfer` is the paper's letter. Mean over the batch of per-sample
    terms.
    """
    student, teacher = to_common_size(at_least_float32(student_factor), at_least_float32(teacher_factor))
    return (_energy(student) - _energy(teacher)).abs().mean()


def whole_factor_transfer(student_factor: Tensor, teacher_factor: Tensor) -> Tensor:
    """Absolute distance of the factors (B, C, H, W), each divided by its norm, summed over the factor.

    The factor transfer loss of Kim et al. 2018 with p = 1 to the letter; no weight of the field's tables belongs to it.
    Both factors have the same channels. Mean over the batch of per-sample terms.
    """
    student, teacher = to_common_size(at_least_float32(student_factor), at_least_float32(teacher_factor))
    return (unit(student.flatten(1)) - unit(teacher.flatten(1))).abs().sum(dim=1).mean()


def _energy(factor: Tensor) -> Tensor:
    return unit(factor.square().mean(dim=1).flatten(1))  # (B, HW)
