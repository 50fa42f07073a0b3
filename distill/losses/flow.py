"""The flow of the solution procedure: what happens between two layers."""

import torch
from torch import Tensor

from distill.losses.precision import at_least_float32
from distill.losses.resize import to_common_size


def flow_matrix(lower: Tensor, upper: Tensor) -> Tensor:
    """The FSP matrix (B, C_lower, C_upper): inner products of channels, mean over positions.

    "A Gift from Knowledge Distillation" (Yim et al., CVPR 2017), Eq. 1. Maps are (B, C, H, W); of different sizes the
    larger is averaged down.
    """
    one, other = to_common_size(at_least_float32(lower), at_least_float32(upper))
    return torch.einsum("bihw,bjhw->bij", one, other) / one[0, 0].numel()


def solution_flow(student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor]) -> Tensor:
    """Squared distance of the FSP matrices of two pairs of maps (lower, upper), each (B, C, H, W).

    "A Gift from Knowledge Distillation" (Yim et al., CVPR 2017), Eq. 2 for one pair of layers, with the mean over the
    matrix in place of the sum, as in the field's tables. The channels of both sides are equal; sizes need not be.
    Mean over the batch of per-sample terms.
    """
    return (flow_matrix(*student) - flow_matrix(*teacher)).square().mean()
