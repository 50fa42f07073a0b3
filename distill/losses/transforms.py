"""Transforms of logits before a divergence compares them: the z-score, and its parts for ablations.

Every function takes logits (..., K) and works on each row of K classes separately, never across the batch.
Results are at least float32. K must be 2 or more. B is the batch, K the number of classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from distill.losses.numeric import at_least_float32


def identity(logits: Tensor) -> Tensor:
    """The logits (..., K), unchanged: the untransformed side of an ablation."""
    return logits


def center(logits: Tensor) -> Tensor:
    """Subtract each row's mean: (..., K) -> (..., K). It changes no softmax, hence no KL."""
    logits = at_least_float32(logits)
    return logits - logits.mean(dim=-1, keepdim=True)


def scale(logits: Tensor, *, unbiased: bool = True, eps: float = 1e-7) -> Tensor:
    """Divide each row by its standard deviation without subtracting the mean: (..., K) -> (..., K).

    The column z/sigma of the ablation, table 4 of "Logit Standardization in Knowledge Distillation" (Sun et
    al., CVPR 2024, arXiv 2403.01427). `unbiased`, `eps` and the treatment of constant rows are those of
    `standardize`.
    """
    logits = at_least_float32(logits)
    _, deviation = _mean_and_deviation(logits, unbiased=unbiased)
    return logits / (deviation + eps)


def standardize(logits: Tensor, *, unbiased: bool = True, eps: float = 1e-7) -> Tensor:
    """The z-score of each row, (z - mean(z)) / (std(z) + eps): (..., K) -> (..., K).

    Algorithm 1 of "Logit Standardization in Knowledge Distillation" (Sun et al., CVPR 2024, arXiv
    2403.01427). The algorithm writes the population standard deviation (1/K), the authors' code and the paper's toy
    case use the unbiased one (1/(K-1)): `unbiased` defaults to the latter; the two differ by the factor
    sqrt(K/(K-1)) of the temperature. `eps` is added to the deviation; it is not a lower bound. The gradient runs
    through mean and deviation. With `unbiased`, no entry exceeds (K-1)/sqrt(K) in magnitude.

    A constant row becomes zeros. `sqrt` has no slope at 0, so the gradient takes the deviation of such a row
    as the constant 0: finite, though as large as 1/eps = 1e7 times the incoming one. That fits float32 and
    bfloat16 but overflows float16 (largest 65504), where it leaves this function through the cast of float16
    logits: under float16, raise the logits first and keep the gradient in float32, or initialise the
    classifier away from zero.
    """
    logits = at_least_float32(logits)
    mean, deviation = _mean_and_deviation(logits, unbiased=unbiased)
    return (logits - mean) / (deviation + eps)


def _mean_and_deviation(logits: Tensor, *, unbiased: bool) -> tuple[Tensor, Tensor]:
    # One running pass for both: its mean of a constant row is exact, where sum/K may miss by more than eps.
    variance, mean = torch.var_mean(logits, dim=-1, correction=int(unbiased), keepdim=True)  # (..., 1) each
    # The smallest normal number gives the root of 0 a slope; beside any larger variance, and beside `eps`, it vanishes.
    return mean, (variance + torch.finfo(variance.dtype).tiny).sqrt()
