"""Bringing two feature maps to one size."""

from torch import Tensor
from torch.nn import functional


def to_common_size(student_map: Tensor, teacher_map: Tensor) -> tuple[Tensor, Tensor]:
    """Maps (B, C, H, W) of any sizes, the larger averaged down to the smaller (adaptive average pooling).

    Height and width by themselves. A map that has the common size already comes back as it is.
    """
    height = min(student_map.shape[2], teacher_map.shape[2])
    width = min(student_map.shape[3], teacher_map.shape[3])
    return _to_size(student_map, height, width), _to_size(teacher_map, height, width)


def _to_size(feature_map: Tensor, height: int, width: int) -> Tensor:
    if feature_map.shape[2:] == (height, width):
        return feature_map
    return functional.adaptive_avg_pool2d(feature_map, (height, width))
