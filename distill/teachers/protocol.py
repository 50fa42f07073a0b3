"""What an objective and the loop may ask of a teacher."""

from collections.abc import Hashable
from typing import Protocol

from torch import nn

from distill.data import Batch
from distill.models import Output


class Teacher(Protocol):
    """`teacher(batch)` gives its `Output` without a gradient.

    `key` says when two teachers answer alike (same weights, precision, taps, source), so that a cohort asks one of
    them only. `network` is the network behind it, for objectives that read its shapes or take a part of it.
    """

    @property
    def key(self) -> Hashable: ...
    @property
    def network(self) -> nn.Module: ...
    def __call__(self, batch: Batch) -> Output: ...
