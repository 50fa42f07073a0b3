"""Number formats, square roots and norms that stay finite in value and gradient."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function_unary

LEAST_NORM = 1e-12


def at_least_float32(tensor: Tensor) -> Tensor:
    """Raise half types (float16, bfloat16) to float32; float32 and float64 are returned unchanged.

    A softmax over 100 classes, and a deviation most of all, is too coarse in 8 or 11 significant bits. The
    gradient returns through the same cast, so it is rounded once, to the format of `tensor`.
    """
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def root(squares: Tensor, *, least: float | Tensor = 0.0) -> Tensor:
    """Square root of non-negative numbers of any shape; entries <= `least` become 0, without a gradient."""
    squares = at_least_float32(squares)
    vanishes = squares <= least
    # Two `where` on purpose: the outer one alone would multiply its zero by the infinite slope of sqrt (NaN).
    return torch.where(vanishes, 0.0, torch.where(vanishes, 1.0, squares).sqrt())


def unit(vectors: Tensor, *, dim: int = -1) -> Tensor:
    """`vectors` over their Euclidean norm along `dim`; those no longer than 1e-12 become zeros.

    The gradient is 1 / norm steep, up to 1e12: float32 and bfloat16 hold that, float16 overflows where vectors
    are shorter than about 1e-5.
    """
    vectors = at_least_float32(vectors)
    squares = vectors.square().sum(dim=dim, keepdim=True)
    vanishes = squares <= LEAST_NORM**2
    length = torch.where(vanishes, 1.0, squares).sqrt()
    return torch.where(vanishes, 0.0, vectors / length)


def batch_sum(tensor: Tensor, *, dim: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """The sum over `dim`, which includes the batch's, as `torch.sum`: for an objective that remembers batches.

    Where several processes share a batch it is the sum over all of them, which `distill.training` provides.
    """
    if has_torch_function_unary(tensor):
        return handle_torch_function(batch_sum, (tensor,), tensor, dim=dim, dtype=dtype)
    return tensor.sum(dim=dim, dtype=dtype)


def values_per_channel(maps: Tensor) -> int:
    """The number of values that each channel of a batch of maps (B, C, ...) has.

    Where several processes share a batch it counts the values of all of them, which `distill.training` provides.
    """
    if has_torch_function_unary(maps):
        count: int = handle_torch_function(values_per_channel, (maps,), maps)
        return count
    return maps.numel() // maps.shape[1]
