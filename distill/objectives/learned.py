"""Learned parts that carry a student's map to the teacher's shape."""

from torch import Tensor, nn

Shape = tuple[int, ...]


def apply(module: nn.Module, tensor: Tensor) -> Tensor:
    """`module(tensor)` in the number format of the module's weights.

    Networks may hand over half-typed maps (autocast); learned parts run outside of it, in their own float32.
    """
    result: Tensor = module(tensor.to(next(module.parameters()).dtype))
    return result


def resizing_convolution(student: Shape, teacher: Shape, *, bias: bool = True) -> nn.Module:
    """A learned map from the student's (B, C, H, W) to the teacher's: its channels, height and width.

    equal sizes                   1x1 convolution
    student r times as large      convolution with stride r, kernel 2r - 1 (3x3 for r = 2)
    teacher r times as large      transposed convolution with stride r, kernel r + 2 [r/2] (4x4 for r = 2)
    anything else                 adaptive average pooling to the teacher's size, then a 1x1 convolution

    The first three are those of the field's code for r = 1 and 2, continued to every whole r; height and width must
    have the same r.
    """
    channels, size = (student[1], teacher[1]), (teacher[2], teacher[3])
    smaller, larger = sorted([(student[2], student[3]), size])
    ratio = larger[0] // smaller[0]
    if larger != (ratio * smaller[0], ratio * smaller[1]):
        return nn.Sequential(nn.AdaptiveAvgPool2d(size), nn.Conv2d(*channels, 1, bias=bias))
    if larger == size and ratio > 1:
        padding = ratio // 2
        return nn.ConvTranspose2d(*channels, ratio + 2 * padding, stride=ratio, padding=padding, bias=bias)
    return nn.Conv2d(*channels, 2 * ratio - 1, stride=ratio, padding=ratio - 1, bias=bias)
