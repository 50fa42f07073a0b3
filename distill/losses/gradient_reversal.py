"""Gradient reversal: a value as it is, its gradient turned round."""

from torch import Tensor


def reverse_gradient(value: Tensor, *, strength: float | Tensor) -> Tensor:
    """`value` itself, with its gradient times -`strength`.

    "Unsupervised Domain Adaptation by Backpropagation" (Ganin and Lempitsky, ICML 2015, arXiv 1409.7495): what
    minimises the loss downstream maximises it upstream. The difference added is exactly zero, so that the
    value is kept to the last bit.
    """
    return value.detach() - strength * (value - value.detach())
