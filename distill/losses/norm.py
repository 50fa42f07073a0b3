"""Euclidean norms and unit vectors whose gradients are finite also at zero.

sqrt has no slope at 0, and a dead map or two equal embeddings put a loss exactly there. Both functions take such
an entry as the constant 0: its value is 0 and no gradient passes. Results are at least float32.
"""

import torch
from torch import Tensor

from distill.losses.precision import at_least_float32

LEAST_NORM = 1e-12


def root(squares: Tensor, *, least: float | Tensor = 0.0) -> Tensor:
    """Square root of non-negative numbers of any shape; entries <= `least` become 0, without a gradient."""
    squares = at_least_float32(squares)
    vanishes = squares <= least
    # Chosen twice on purpose: the outer choice alone would multiply its zero by sqrt's infinite slope (NaN).
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
