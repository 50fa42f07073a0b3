"""Class attention transfer: class activation maps and their distance."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from distill.losses.checks import refuse, weight_faults
from distill.losses.networks import need_final_map, need_pooled_head, need_teacher, outlines, require_output
from distill.losses.numeric import at_least_float32, unit
from distill.losses.objective import Objective, Task

if TYPE_CHECKING:
    from distill.data import Batch
    from distill.models import Output


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
        normalize: brings each map (..., P) to a common scale, such as `unit_map`; `distill.losses.identity`
            leaves them as they are.
    """
    return functional.mse_loss(normalize(student_cam), normalize(teacher_cam))


def unit_map(cam: Tensor) -> Tensor:
    """Each map (..., P) divided by its Euclidean norm; a map of zeros stays zero."""
    return unit(cam)


class ClassAttention(Objective):
    """`cat_kd`: `ce` + `feature`, feature_weight * distance of the class activation maps of all classes.

    "Class Attention Transfer Based Knowledge Distillation" (Guo et al., CVPR 2023, arXiv 2304.12777): the class
    activation maps of both networks, that is the last map times each class's weights in the linear classifier, averaged
    to grid x grid cells (the paper: 2), brought to unit length and compared by mean squared error (see
    `class_attention`). The classifier's bias is no part of a map; the paper's code trains networks without one, here
    networks stay as they are. The student's last map and its classifier both learn from it.

    `normalize` is `unit_map`, the paper's formula; its code leaves it out for pairs of one family, which is
    `distill.losses.identity` here.

    Raises ValueError if `grid` < 1 or the weights are negative or all zero; from `attach` if a network has no
    linear classifier that reads the average of its last map, or the networks have different numbers of classes.
    """

    family = "cat_kd"
    reads = ("final_map", "embedding", "head")

    def __init__(
        self,
        *,
        grid: int = 2,
        normalize: Callable[[Tensor], Tensor] = unit_map,
        ce_weight: float = 1.0,
        feature_weight: float,
    ) -> None:
        super().__init__()
        faults = [] if grid >= 1 else [f"grid must be >= 1, got {grid}: set loss.grid=2"]
        refuse([*faults, *weight_faults(ce_weight=ce_weight, feature_weight=feature_weight)])
        self.grid, self.normalize = grid, normalize
        self.ce_weight, self.feature_weight = ce_weight, feature_weight
        self.needs_teacher = feature_weight > 0

    def attach(self, student: nn.Module, teacher: nn.Module | None, task: Task) -> None:
        """Remember both classifiers; nothing is built."""
        if not self.needs_teacher:
            return
        networks = student, need_teacher(teacher)
        sides = zip(networks, outlines(*networks, task), ("the student", "the teacher"), strict=True)
        heads = [need_pooled_head(n, output, of=of, image_size=task.image_size) for n, output, of in sides]
        if heads[0].out_features != heads[1].out_features:
            raise ValueError(
                f"the teacher must have the student's {heads[0].out_features} classes, got "
                f"{heads[1].out_features}: choose a teacher trained on this data set"
            )
        self._heads = tuple(heads)  # no submodules: they belong to the networks

    def forward(self, student: Output, teacher: Output | None, batch: Batch, progress: Tensor) -> dict[str, Tensor]:
        """The terms `ce` and `feature`, each only if its weight is positive; `progress` is unused."""
        terms = self.label_term(student, batch)
        if self.feature_weight > 0:
            ours = self._class_maps(student, self._heads[0].weight, of="the student")
            theirs = self._class_maps(require_output(teacher), self._heads[1].weight, of="the teacher").detach()
            terms["feature"] = self.feature_weight * class_attention(ours, theirs, normalize=self.normalize)
        return terms

    def _class_maps(self, output: Output, weight: Tensor, *, of: str) -> Tensor:
        final_map = need_final_map(output, of=of)
        # The devices differ only when shapes are tried on the meta device.
        return class_activation(final_map, weight.to(final_map.device), grid=self.grid)
