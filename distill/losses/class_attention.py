"""Class activation maps and their distance. Pure; student first, teacher second."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from distill.losses.norm import unit
from distill.losses.precision import at_least_float32


def class_activation(final_map: Tensor, head_weight: Tensor, *, grid: int) -> Tensor:
    """CAM of every class, averaged to a grid: (B, K, grid^2) from a map (B, C, H, W) and the classifier's (K, C).

    CAM_k = sum_c w_kc F_c ("Learning Deep Features for Discriminative Localization", Zhou et al., CVPR 2016, arXiv
    1512.04150, Eq. 2): its mean is the logit without the bias. Averaging and the sum over channels commute, so the
    map is averaged first: K x C multiplications for each cell of the grid instead of each of the map.
    """
    cells = functional.adaptive_avg_pool2d(at_least_float32(final_map), grid).flatten(2)  # (B, C, grid^2)
    return torch.einsum("kc,bcp->bkp", at_least_float32(head_weight), cells)


def class_attention(student_cam: Tensor, teacher_cam: Tensor, *, normalize: Callable[[Tensor], Tensor]) -> Tensor:
    """Squared distance of the class activation maps (B, K, P): mean over batch, classes and cells.

    "Class Attention Transfer Based Knowledge Distillation" (Guo et al., CVPR 2023, arXiv 2304.12777), the loss L_CAT:
    each map divided by its own norm, mean over classes of the squared distance. The paper sums over the P cells; its
    published weights belong to its code, which averages over them, and so does this. Per-sample terms.

    Args:
        student_cam: (B, K, P).
        teacher_cam: (B, K, P).
        normalize: brings each map (..., P) to a common scale, such as `unit_map`; `distill.losses.logit.identity`
            leaves them as they are.
    """
    return functional.mse_loss(normalize(student_cam), normalize(teacher_cam))


def unit_map(cam: Tensor) -> Tensor:
    """Each map (..., P) divided by its Euclidean norm; a map of zeros stays zero."""
    return unit(cam)
