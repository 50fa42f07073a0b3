"""Losses on logits: pure, differentiable functions, student first, teacher second.

B is the batch, K the number of classes; logits are (B, K) and may be of any floating type, student's and
teacher's alike or not. Every function computes in at least float32 (float64 stays float64) and returns a
scalar, the mean over the batch of per-sample terms: none is relational. Both arguments are differentiable; an
objective detaches the teacher. `temperature` is a number or a 0-d tensor (which may be learned); T^2 is
multiplied onto the finished mean, factor by factor, so that a half-typed tensor is not squared in its own few
digits. Ranges are the objectives' to check.
"""

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional

from distill.losses.precision import at_least_float32
from distill.losses.softened import log_softened
from distill.losses.transform import center, identity, scale, standardize

__all__ = [
    "center",
    "cross_entropy",
    "identity",
    "kd",
    "logit_mse",
    "scale",
    "soft_cross_entropy",
    "standardize",
    "transformed_kd",
    "zscore_kd",
]


def cross_entropy(student_logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of raw logits (B, K) with hard labels (B,) int64: mean over the batch, temperature 1."""
    return functional.cross_entropy(at_least_float32(student_logits), labels)


def kd(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float | Tensor) -> Tensor:
    """Vanilla knowledge distillation: T^2 KL(softmax(t/T) || softmax(s/T)), mean over the batch.

    "Distilling the Knowledge in a Neural Network" (Hinton et al. 2015, arXiv 1503.02531): the softened
    softmax is Eq. 1, the gradient Eq. 2; T^2 (section 2) is inside, so the gradient's scale hardly depends on
    T. Eq. 4 is the limit: for T -> infinity the value is the mean squared distance of centred logits / 2K.
    """
    log_student = log_softened(student_logits, temperature)  # (B, K)
    log_teacher = log_softened(teacher_logits, temperature)
    divergence = functional.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)
    return divergence * temperature * temperature


def zscore_kd(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float | Tensor) -> Tensor:
    """Z-score KD: vanilla KD between standardised logits, so that only the logits' relations have to match.

    "Logit Standardization in Knowledge Distillation" (Sun et al., CVPR 2024, arXiv 2403.01427), algorithms 1
    and 2: T^2 of the base temperature is inside, and no further factor. Per-sample terms, mean over the
    batch. Unbiased deviation, 1e-7 added to it. The gradient grows as 1 / std(student logits); see
    `standardize` for constant rows.
    """
    return kd(standardize(student_logits), standardize(teacher_logits), temperature=temperature)


def transformed_kd(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    temperature: float | Tensor,
    student_transform: Callable[[Tensor], Tensor],
    teacher_transform: Callable[[Tensor], Tensor],
) -> Tensor:
    """Vanilla KD between transformed logits, each side by its function (B, K) -> (B, K).

    The parts of the z-score (Sun et al., CVPR 2024, table 4) and one-sided variants. T^2 is inside, as in
    `kd`; the mean over the batch of per-sample terms. `standardize` on both sides is `zscore_kd`.
    """
    student, teacher = student_transform(student_logits), teacher_transform(teacher_logits)
    return kd(student, teacher, temperature=temperature)


def soft_cross_entropy(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float | Tensor) -> Tensor:
    """Cross-entropy with softened targets: -T^2 sum_k softmax(t/T)_k log softmax(s/T)_k, mean over the batch.

    The form in which Hinton et al. (2015, arXiv 1503.02531) state the objective (section 2, gradient Eq. 2),
    T^2 inside. It exceeds `kd` by T^2 times the teacher's entropy, so for the student both have one gradient.
    """
    log_student = log_softened(student_logits, temperature)  # (B, K)
    teacher = log_softened(teacher_logits, temperature).exp()
    return -(teacher * log_student).sum(dim=-1).mean() * temperature * temperature


def logit_mse(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Logit regression: squared distance of raw logits, summed over the K classes, mean over the batch.

    "Do Deep Nets Really Need to be Deep?" (Ba and Caruana 2014, arXiv 1312.6184), the L2 loss on logits; the
    paper's factor 1/2 is not inside. Neither centred nor softened, no temperature. Per-sample terms.
    """
    return (at_least_float32(student_logits) - at_least_float32(teacher_logits)).square().sum(dim=-1).mean()
