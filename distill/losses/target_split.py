"""The target class on one side, all the others on the other."""

import torch
from torch import Tensor

from distill.losses.precision import at_least_float32


def split_target(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The target's logit and the others in their order: (B, K), (B,) -> (B,), (B, K - 1). K must be 2 or more.

    The others are gathered and not masked by a large negative number: nothing of the target is left in them,
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
