"""What a student says of a training batch."""

from collections.abc import Callable
from dataclasses import replace

from distill.data import Batch
from distill.models import Output
from distill.training.precision import autocast


def student_output(network: Callable[..., Output], batch: Batch, *, taps: bool, precision: str) -> Output:
    """The network's output on a batch, and on its strong view where there is one."""
    with autocast(precision, batch.images.device):
        output = network(batch.images, taps=taps)
        if batch.strong is None:
            return output
        return replace(output, strong=network(batch.strong, taps=taps))
