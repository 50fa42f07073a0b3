"""Noise-contrastive estimation on scores: which of a set of images is the anchor itself?

B is the batch, K the number of negatives, M the number of images in the data set. Scores are similarities divided by
the temperature. Every function computes in at least float32 (float64 stays float64).
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from distill.losses.precision import at_least_float32


def noise_contrastive(positive: Tensor, negatives: Tensor, *, images: int, log_normalizer: float | Tensor) -> Tensor:
    """-log h(positive) - sum over the K negatives of log(1 - h(negative)), mean over the batch.

    "Contrastive Representation Distillation" (Tian, Krishnan, Isola, ICLR 2020, arXiv 1910.10699), section 3.1:
    h = P / (P + K/M) says how likely a pair is a positive one among one positive and K negatives, and maximising
    E log h + K E log(1 - h) maximises a bound on the mutual information. P = exp(score) / Z, with the constant Z of
    noise-contrastive estimation; the paper's formula is Z = 1.

    h is a sigmoid of score - log Z - log(K/M), so the terms are computed as softplus: exact where exp(score) would
    overflow or log(1 - h) cancel, and without the small number that others add to the denominators. Per-sample terms.

    Args:
        positive: (B,) score of each anchor with itself on the other side.
        negatives: (B, K) scores with the negatives, K >= 1.
        images: M.
        log_normalizer: log Z, a number or a 0-d tensor.
    """
    offset = log_normalizer + math.log(negatives.shape[1] / images)
    of_positive = functional.softplus(offset - at_least_float32(positive))
    of_negatives = functional.softplus(at_least_float32(negatives) - offset)
    return (of_positive + of_negatives.sum(dim=1)).mean()


def log_mean_exp(scores: Tensor) -> Tensor:
    """Log of the mean of exp(score) over all entries: a scalar. Times M inside the logarithm, an estimate of log Z."""
    return torch.logsumexp(at_least_float32(scores).flatten(), dim=0) - math.log(scores.numel())
