"""Batches and outputs at addresses that stay, so that what was captured finds the next ones there."""

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, TypeVar

from torch import Tensor

from distill.data import Batch, DeviceImages

T = TypeVar("T")


def copied(value: T) -> T:
    """A batch or an output, or whatever is made of tensors, tuples and dataclasses, with tensors of its own."""
    made: T = _mapped(value, Tensor.clone)
    return made


def written(into: object, value: object) -> None:
    """Write every tensor of `value` into that of `into`, which has the same structure."""
    for mine, new in zip(_tensors(into), _tensors(value), strict=True):
        mine.copy_(new)


@dataclass(frozen=True)
class Gather:
    """Fills a batch with the images and labels of its own `index` and `view`, as a stream does."""

    source: DeviceImages
    batch: Batch

    def __call__(self) -> None:
        self.batch.images.copy_(self.source.images(self.batch.index, self.batch.view))
        self.batch.labels.copy_(self.source.labels.index_select(0, self.batch.index))


def _tensors(value: object) -> list[Tensor]:
    found: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    _mapped(value, note)
    return found


def _mapped(value: Any, each: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return each(value)
    if isinstance(value, tuple):
        return tuple(_mapped(part, each) for part in value)
    if is_dataclass(value) and not isinstance(value, type):
        return type(value)(**{field.name: _mapped(getattr(value, field.name), each) for field in fields(value)})
    return value
