"""Softened distributions and their divergence, sample by sample; the target class against all the others."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from distill.losses.numeric import at_least_float32


def log_softened(logits: Tensor, temperature: float | Tensor) -> Tensor:
    """log softmax(z / T) of every row: (B, K) -> (B, K), at least float32.

    `temperature` is a number, a 0-d tensor or (B, 1): one for every sample.
    """
    return functional.log_softmax(at_least_float32(logits) / temperature, dim=-1)


def kl_rows(log_student: Tensor, log_teacher: Tensor) -> Tensor:
    """KL(teacher || student) of every row of log-probabilities: (B, K), (B, K) -> (B,). No T^2 inside."""
    return functional.kl_div(log_student, log_teacher, reduction="none", log_target=True).sum(dim=-1)


def cross_entropy_rows(log_student: Tensor, log_teacher: Tensor) -> Tensor:
    """-sum_k p_k log q_k of every row, p the teacher's and q the student's: (B, K), (B, K) -> (B,)."""
    return -(log_teacher.exp() * log_student).sum(dim=-1)


def split_target(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The target's logit and the others in their order: (B, K), (B,) -> (B,), (B, K - 1). K must be 2 or more.

    The others are gathered and not masked by a large negative number: so the target does not affect them,
    whatever the logits' magnitude.
    """
    logits = at_least_float32(logits)
    target = labels[:, None]  # (B, 1)
    place = torch.arange(logits.shape[-1] - 1, device=labels.device)  # (K - 1,)
    others = place + (place >= target)  # (B, K - 1): from the label on, one further
    return logits.gather(-1, target)[:, 0], logits.gather(-1, others)


def log_target_and_rest(target: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """log p_t and log(1 - p_t) of softmaxed rows, from their logits split by `split_target`: (B,) and (B,).

    The second one from the other classes' sum and not from 1 - p_t, which is 0 long before its logarithm ends.
    """
    rest = others.logsumexp(dim=-1)
    whole = torch.logaddexp(target, rest)
    return target - whole, rest - whole
