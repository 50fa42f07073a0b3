"""Data sets of small images, resident on a device, and the streams that draw batches from them.

Knows nothing of configuration files, networks or losses."""

from distill.data.dataset import ImageDataset
from distill.data.resident import DeviceImages
from distill.data.small_images import SHAPES, DataNotFound, arrays, cifar10, cifar100, digits, synthetic
from distill.data.stream import Batch, EvaluationStream, ImageStream, Part, draw_generator
from distill.data.strong import StrongView

__all__ = [
    "SHAPES",
    "Batch",
    "DataNotFound",
    "DeviceImages",
    "EvaluationStream",
    "ImageDataset",
    "ImageStream",
    "Part",
    "StrongView",
    "arrays",
    "cifar10",
    "cifar100",
    "digits",
    "draw_generator",
    "synthetic",
]
