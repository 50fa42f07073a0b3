"""Losses on one pair of feature maps: pure, differentiable functions, student first, teacher second.

Maps are (B, C, H, W); B is the batch. Every function computes in at least float32 and returns a scalar, the mean
over the batch of per-sample terms: none is relational. Both arguments are differentiable; an objective detaches
the teacher.
"""

from torch import Tensor

from distill.losses.norm import unit
from distill.losses.precision import at_least_float32
from distill.losses.resize import to_common_size


def hint(predicted: Tensor, teacher_map: Tensor) -> Tensor:
    """Mean squared error of a hint: the average over batch, channels and positions. Both (B, C, H, W).

    "FitNets: Hints for Thin Deep Nets" (Romero et al., ICLR 2015, arXiv 1412.6550), Eq. 3, as the field runs it:
    without the factor 1/2, and with the mean in place of the sum over the map. `predicted` is what a regressor
    makes of the student's map.
    """
    return (at_least_float32(predicted) - at_least_float32(teacher_map)).square().mean()


def attention_transfer(student_map: Tensor, teacher_map: Tensor, *, power: float = 2) -> Tensor:
    """Squared distance of the attention maps, averaged over batch and positions: (B, C, H, W) each.

    "Paying More Attention to Attention" (Zagoruyko and Komodakis, ICLR 2017, arXiv 1612.03928), Eq. 2 for one
    pair: the map is sum_c |A_c|^p, flattened and divided by its Euclidean norm. Two differences from the letter
    of Eq. 2, both of the authors' code: the distance is squared, and beta / 2 becomes a weight on the mean over
    the map. Channels may differ in number; of maps of different sizes the larger is pooled before the power.
    A map of zeros has zero attention and passes no gradient.
    """
    student, teacher = to_common_size(at_least_float32(student_map), at_least_float32(teacher_map))
    return (_attention(student, power) - _attention(teacher, power)).square().mean()


def _attention(feature_map: Tensor, power: float) -> Tensor:
    # The mean over channels, not the sum: the same after the division, and no overflow for wide maps.
    return unit(feature_map.abs().pow(power).mean(dim=1).flatten(1))  # (B, HW)


def neuron_selectivity(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Squared maximum mean discrepancy of the channels' unit patterns, mean over the batch: (B, C, H, W) each.

    "Like What You Like: Knowledge Distill via Neuron Selectivity Transfer" (Huang and Wang 2017, arXiv
    1707.01219), section 4, with the polynomial kernel k(x, y) = (x . y + c)^d, d = 2, c = 0; the paper's factor
    1/2 is not inside. A sample's patterns are its C flattened channels, each divided by its norm: rows of S
    (C_s, N) and T (C_t, N), N = HW. With this kernel the mean of k over pairs of patterns is
    |S T'|_F^2 / (C_s C_t) = <S'S / C_s, T'T / C_t>_F, so

        MMD^2 = |S'S / C_s - T'T / C_t|_F^2

    and (N, N) takes the place of the (C, C) matrices wherever it is smaller. Nothing of size C^2 N is made.
    Channels may differ in number; of maps of different sizes the larger is pooled first.
    """
    student, teacher = to_common_size(at_least_float32(student_map), at_least_float32(teacher_map))
    s, t = unit(student.flatten(2)), unit(teacher.flatten(2))  # (B, C, N)
    (s_channels, positions), t_channels = s.shape[1:], t.shape[1]
    if 2 * positions**2 <= s_channels**2 + t_channels**2 + s_channels * t_channels:
        difference = s.mT @ s / s_channels - t.mT @ t / t_channels  # (B, N, N)
        return difference.square().sum(dim=(1, 2)).mean()
    return _kernel_mean(s, s) + _kernel_mean(t, t) - 2 * _kernel_mean(s, t)


def _kernel_mean(a: Tensor, b: Tensor) -> Tensor:
    return (a @ b.mT).square().mean()


def gaussian_information(predicted: Tensor, teacher_map: Tensor, *, variance: Tensor) -> Tensor:
    """Negative log-likelihood of the teacher's map under a Gaussian around `predicted`, both (B, C, H, W).

    "Variational Information Distillation for Knowledge Transfer" (Ahn et al., CVPR 2019, arXiv 1904.05835),
    Eq. 5: ((t - mu)^2 / variance + log variance) / 2, without the constant log(2 pi) / 2, averaged over batch,
    channels and positions (the paper sums). `variance` (C,) is positive; the value may be negative.
    """
    variance = at_least_float32(variance)[:, None, None]
    error = (at_least_float32(predicted) - at_least_float32(teacher_map)).square()
    return (error / variance + variance.log()).mean() / 2
