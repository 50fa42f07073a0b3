"""Noise-contrastive estimation on scores: which of a set of images is the anchor itself?

B is the batch, K the number of negatives, M the number of images in the data set. Scores are similarities divided by
the temperature. Every function computes in at least float32 (float64 stays float64).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from distill.losses.checks import refuse, temperature_faults, weight_faults
from distill.losses.networks import embeddings, outlines
from distill.losses.numeric import at_least_float32, unit
from distill.losses.objective import Objective, Task

if TYPE_CHECKING:
    from distill.data import Batch
    from distill.models import Output

# Far above any number of images, so that the remainder of a draw is nearly uniform.
DRAWS = 2**62


def noise_contrastive(positive: Tensor, negatives: Tensor, *, images: int, log_normalizer: float | Tensor) -> Tensor:
    """-log h(positive) - sum over the K negatives of log(1 - h(negative)), mean over the batch.

    "Contrastive Representation Distillation" (Tian, Krishnan, Isola, ICLR 2020, arXiv 1910.10699), section 3.1:
    h = P / (P + K/M) is the probability that a pair is the positive one among one positive and K negatives;
    maximising E log h + K E log(1 - h) maximises a bound on the mutual information. P = exp(score) / Z, with the
    constant Z of noise-contrastive estimation; the paper's formula is Z = 1.

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


class MemoryBank(nn.Module):
    """M vectors (M, D), addressed by `Batch.index`; a buffer, so that they survive a kill and follow the device.

    Their initial values are uniform in +-sqrt(3 / D), of length 1 on average, as in Wu et al. (CVPR 2018, arXiv
    1805.01978), who introduced the memory bank.
    """

    rows: Tensor

    def __init__(self, images: int, dim: int, *, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        bound = math.sqrt(3 / dim)
        self.register_buffer("rows", torch.empty(images, dim).uniform_(-bound, bound))

    def scores(self, embeddings: Tensor) -> Tensor:
        """Inner products (B, M) of embeddings (B, D) with every row; the rows have no gradient.

        One product with the whole bank costs less than gathering the K rows of each anchor while M < K D: at batch 64
        and 50,000 images 12.8 MB, where 16,384 gathered rows of 128 numbers would be 537 MB.
        """
        # A copy, since `update` changes rows before the backward pass reads them.
        return embeddings @ self.rows.clone().mT

    @torch.no_grad()
    def update(self, index: Tensor, embeddings: Tensor) -> None:
        """The rows `index` (B,) become unit(momentum * old + (1 - momentum) * new); no other row changes."""
        old = self.rows.index_select(0, index)
        new = unit(torch.lerp(embeddings.detach().to(old.dtype), old, self.momentum))
        self.rows.index_copy_(0, index, new)


class OtherClasses(nn.Module):
    """Draws images of other classes than the anchor's, uniformly, with replacement, without a device synchronisation.

    Its tables follow from the data set's labels, so they are not saved.
    """

    order: Tensor
    start: Tensor
    count: Tensor

    def __init__(self, labels: Tensor) -> None:
        """`labels` (M,) of all images. ValueError if there is one class only."""
        super().__init__()
        count = torch.bincount(labels)
        classes = int((count > 0).sum())
        if classes < 2:
            raise ValueError(
                f"the training labels must hold 2 classes or more, got {classes}: "
                "negatives are images of other classes, choose another data set"
            )
        self.register_buffer("order", labels.argsort(stable=True), persistent=False)  # (M,) images, class by class
        self.register_buffer("start", count.cumsum(0) - count, persistent=False)  # (K,) where a class begins in it
        self.register_buffer("count", count, persistent=False)

    def draw(self, labels: Tensor, draws: int) -> Tensor:
        """Positions (B, draws) in the data set for anchors of classes `labels` (B,)."""
        start, count = self.start[labels][:, None], self.count[labels][:, None]
        random = torch.randint(DRAWS, (len(labels), draws), device=labels.device)
        place = random % (len(self.order) - count)
        return self.order[place + count * (place >= start)]  # skips the anchor's own class


class ContrastiveRepresentation(Objective):
    """`crd`: `ce` + `feature`, feature_weight * (NCE of the student against the teacher's bank, and the other way).

    "Contrastive Representation Distillation" (Tian, Krishnan, Isola, ICLR 2020, arXiv 1910.10699), section 3.1 and the
    appendix, as its CIFAR-100 numbers were made: each embedding goes through a linear layer to a vector of `dim`
    numbers and length 1; each side keeps a bank of all M training images, whose rows follow the embeddings with
    `momentum`; the positive of an anchor is its own row of the other side's bank, its `negatives` are drawn there
    among images of other classes. The term is the sum of both directions, mean over the batch.

    As in public code, the constant Z of each direction is estimated on the first batch, as M times the mean of
    exp(score / temperature), and kept in a buffer. Unlike public code, negatives are drawn with replacement, one set
    for both directions (noise-contrastive estimation assumes independent draws), and no small number is added inside
    the logarithms. Banks and Z change in training mode only.

    Raises ValueError if `dim` or `negatives` < 1, `temperature` <= 0, `momentum` is outside [0, 1), or the weights
    are negative or all zero; from `attach` if a network has no embedding or the data set has one class.
    """

    family = "crd"
    reads = ("embedding", "index")
    relational = (
        "Per-sample terms, except for the memory and the draws: negatives are random, so a batch written twice has the "
        "same loss only on average over draws."
    )
    log_normalizer: Tensor
    estimated: Tensor

    def __init__(
        self,
        *,
        dim: int = 128,
        negatives: int = 16384,
        temperature: float = 0.07,
        momentum: float = 0.5,
        ce_weight: float = 1.0,
        feature_weight: float = 0.8,
    ) -> None:
        super().__init__()
        counts = {"dim": dim, "negatives": negatives}
        faults = [f"{k} must be >= 1, got {v}: set loss.{k} to a positive integer" for k, v in counts.items() if v < 1]
        if not 0 <= momentum < 1:
            faults.append(f"momentum must be in [0, 1), got {momentum}: set loss.momentum=0.5, say")
        weights = weight_faults(ce_weight=ce_weight, feature_weight=feature_weight)
        refuse([*faults, *temperature_faults(temperature), *weights])
        self.dim, self.negatives, self.temperature, self.momentum = dim, negatives, temperature, momentum
        self.ce_weight, self.feature_weight = ce_weight, feature_weight
        self.needs_teacher = feature_weight > 0

    def attach(self, student: nn.Module, teacher: nn.Module | None, task: Task) -> None:
        """Size the linear layers to the embeddings and the banks to the data set."""
        if not self.needs_teacher:
            return
        widths = [embedding.shape[1] for embedding in embeddings(*outlines(student, teacher, task))]
        self.others = OtherClasses(task.labels)
        device = next(student.parameters()).device
        # only the CPU's generator has the run's seed; on `meta` nothing is drawn
        with device if device.type == "meta" else torch.device("cpu"):
            self.student_embed, self.teacher_embed = (nn.Linear(width, self.dim) for width in widths)
            self.student_bank, self.teacher_bank = (
                MemoryBank(len(task.labels), self.dim, momentum=self.momentum) for _ in widths
            )
            self.register_buffer("log_normalizer", torch.zeros(2))
            self.register_buffer("estimated", torch.zeros((), dtype=torch.bool))

    def forward(self, student: Output, teacher: Output | None, batch: Batch, progress: Tensor) -> dict[str, Tensor]:
        """The terms `ce` and `feature`, each only if its weight is positive; `progress` is unused."""
        terms = self.label_term(student, batch)
        if self.feature_weight > 0:
            terms["feature"] = self.feature_weight * self._contrast(*embeddings(student, teacher), batch)
        return terms

    def _contrast(self, student: Tensor, teacher: Tensor, batch: Batch) -> Tensor:
        anchors = (
            unit(self.student_embed(at_least_float32(student))),
            unit(self.teacher_embed(at_least_float32(teacher))),
        )
        drawn = self.others.draw(batch.labels, self.negatives)
        columns = torch.cat([batch.index[:, None], drawn], dim=1)  # (B, 1 + negatives), the positive first
        banks = self.teacher_bank, self.student_bank
        pairs = zip(banks, anchors, strict=True)
        scores = [bank.scores(anchor / self.temperature).gather(1, columns) for bank, anchor in pairs]
        normalizers = self._normalizers(scores)
        if self.training:
            self.student_bank.update(batch.index, anchors[0])
            self.teacher_bank.update(batch.index, anchors[1])
        images = len(self.student_bank.rows)
        losses = [
            noise_contrastive(score[:, 0], score[:, 1:], images=images, log_normalizer=normalizer)
            for score, normalizer in zip(scores, normalizers, strict=True)
        ]
        return losses[0] + losses[1]

    @torch.no_grad()
    def _normalizers(self, scores: list[Tensor]) -> Tensor:
        """log Z (2,) of both directions, estimated on the first batch, without a device synchronisation."""
        here = torch.stack([log_mean_exp(score) for score in scores]) + math.log(len(self.student_bank.rows))
        normalizers = torch.where(self.estimated, self.log_normalizer, here.to(self.log_normalizer.dtype))
        if self.training:
            self.log_normalizer.copy_(normalizers)
            self.estimated.fill_(True)
        return normalizers
