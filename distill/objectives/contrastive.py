"""Contrastive representation distillation."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from distill.losses.contrastive import log_mean_exp, noise_contrastive
from distill.losses.norm import unit
from distill.losses.precision import at_least_float32
from distill.objectives.checks import refuse, temperature_faults, weight_faults
from distill.objectives.feature_terms import embeddings, label_term, outlines
from distill.objectives.memory_bank import MemoryBank, OtherClasses
from distill.objectives.objective import Objective, Task

if TYPE_CHECKING:
    from distill.data import Batch
    from distill.models import Output


class ContrastiveRepresentation(Objective):
    """`crd`: `ce` + `feature`, feature_weight * (NCE of the student against the teacher's bank, and the other way).

    "Contrastive Representation Distillation" (Tian, Krishnan, Isola, ICLR 2020, arXiv 1910.10699), section 3.1 and the
    appendix, as its CIFAR-100 numbers were made: both embeddings go through a linear layer of their own to `dim`
    numbers of length 1; each side keeps a bank of all M training images, whose rows follow the embeddings with
    `momentum`; the positive of an anchor is its own row of the other side's bank, its `negatives` are drawn there
    among images of other classes. The term is the sum of both directions, mean over the batch.

    As others have it: the constant Z of each direction is estimated on the first batch, as M times the mean of
    exp(score / temperature), and kept (a buffer). Other than others: negatives are drawn with replacement, one set for
    both directions (noise-contrastive estimation asks for independent draws), and no small number is added inside the
    logarithms. Banks and Z change in training mode only.

    Raises ValueError where `dim` or `negatives` < 1, `temperature` <= 0, `momentum` is outside [0, 1), or the weights
    are negative or all zero; from `attach` where a network gives no embedding or the data set has one class.
    """

    logits_only = False
    relational = (
        "Per sample up to what it remembers and draws: negatives are random, so a batch written twice has the same "
        "loss only on average over draws."
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
        """Size the linear layers to the embeddings and the banks to the data set, on the device of the student."""
        if not self.needs_teacher:
            return
        widths = [embedding.shape[1] for embedding in embeddings(*outlines(student, teacher, task))]
        self.others = OtherClasses(task.labels)
        with next(student.parameters()).device:
            self.student_embed, self.teacher_embed = (nn.Linear(width, self.dim) for width in widths)
            self.student_bank, self.teacher_bank = (
                MemoryBank(len(task.labels), self.dim, momentum=self.momentum) for _ in widths
            )
            self.register_buffer("log_normalizer", torch.zeros(2))
            self.register_buffer("estimated", torch.zeros((), dtype=torch.bool))

    def forward(self, student: Output, teacher: Output | None, batch: Batch, progress: Tensor) -> dict[str, Tensor]:
        """The terms `ce` and `feature`, each only where its weight is positive; progress is not read."""
        terms = label_term(student, batch, ce_weight=self.ce_weight)
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
        """log Z (2,) of both directions: what the first batch said. Chosen on the device, which nobody waits for."""
        here = torch.stack([log_mean_exp(score) for score in scores]) + math.log(len(self.student_bank.rows))
        normalizers = torch.where(self.estimated, self.log_normalizer, here.to(self.log_normalizer.dtype))
        if self.training:
            self.log_normalizer.copy_(normalizers)
            self.estimated.fill_(True)
        return normalizers
