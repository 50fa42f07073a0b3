"""Classes and image size of the data sets that have always the same: known without loading them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from distill.data.cifar import IMAGE_SIZE, cifar10, cifar100
from distill.data.dataset import ImageDataset
from distill.data.digits import IMAGE_SIZE as DIGITS_SIZE
from distill.data.digits import digits

# (K, H) by factory; a factory that is not here has to be called
SHAPES: Mapping[Callable[..., ImageDataset], tuple[int, int]] = MappingProxyType(
    {cifar10: (10, IMAGE_SIZE), cifar100: (100, IMAGE_SIZE), digits: (10, DIGITS_SIZE)}
)
