"""Knowledge review: the hierarchical context loss. Pure; student first, teacher second."""

from torch import Tensor
from torch.nn import functional

from distill.losses.precision import at_least_float32

GRIDS = (4, 2, 1)


def hierarchical_context(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """HCL: mean squared error of two maps (B, C, H, W) and of their averages over coarser and coarser grids.

    "Distilling Knowledge via Knowledge Review" (Chen et al., CVPR 2021, arXiv 2104.09044), section 3.4: spatial
    pyramid pooling separates the levels of context. The paper gives neither grids nor weights; those of its code are
    taken: grids 4x4, 2x2 and 1x1 as far as they are smaller than the map, each with half the weight of the one before
    (the map itself 1), divided by the sum of the weights. Mean over batch, channels and cells; per-sample terms.
    """
    student, teacher = at_least_float32(student_map), at_least_float32(teacher_map)
    total, weight, weights = functional.mse_loss(student, teacher), 1.0, 1.0
    for grid in GRIDS:
        if grid >= student.shape[2]:
            continue
        weight /= 2
        weights += weight
        ours, theirs = (functional.adaptive_avg_pool2d(side, grid) for side in (student, teacher))
        total = total + weight * functional.mse_loss(ours, theirs)
    return total / weights
