"""DIST: what has to match is how predictions vary, over the classes of a sample and over the samples of a class.

"Knowledge Distillation from A Stronger Teacher" (Huang et al., NeurIPS 2022, arXiv 2205.10536): the distance
1 - rho, rho Pearson's correlation of softened probabilities. It sees neither scale nor shift of
them, so a student need not copy its teacher's numbers. B is the batch, K the number of classes; logits are
(B, K). Scalars; T^2 inside, as in the authors' code; student first, teacher second.
"""

import torch
from torch import Tensor

from distill.losses.softened import log_softened

EPS = 1e-8  # of the authors' code


def pearson(first: Tensor, second: Tensor) -> Tensor:
    """Pearson's correlation of every row: (N, M), (N, M) -> (N,), in -1..1.

    EPS is added to the product of the two norms: the correlation with a constant row is 0, and so is that of
    rows whose spread is below 1e-4. The gradient at a constant row is finite, at most |other| / EPS.
    """
    first = first - first.mean(dim=-1, keepdim=True)
    second = second - second.mean(dim=-1, keepdim=True)
    norms = torch.linalg.vector_norm(first, dim=-1) * torch.linalg.vector_norm(second, dim=-1)
    return (first * second).sum(dim=-1) / (norms + EPS)


def inter_class(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float | Tensor) -> Tensor:
    """T^2 times the mean over samples of 1 - rho over the sample's K classes, L_inter: per-sample terms."""
    student, teacher = (log_softened(logits, temperature).exp() for logits in (student_logits, teacher_logits))
    return (1 - pearson(student, teacher)).mean() * temperature * temperature


def intra_class(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float | Tensor) -> Tensor:
    """T^2 times the mean over classes of 1 - rho over the class's B samples, L_intra.

    Relational; a batch written twice has the same correlations. A batch of one has none: 1, without gradient.
    """
    student, teacher = (log_softened(logits, temperature).exp() for logits in (student_logits, teacher_logits))
    return (1 - pearson(student.T, teacher.T)).mean() * temperature * temperature
