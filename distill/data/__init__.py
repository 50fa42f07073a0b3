"""Data sets of small images, resident on a device, and the streams that draw batches from them.

Knows nothing of configuration files, networks or losses."""

from distill.data.arrays import arrays
from distill.data.batch import Batch
from distill.data.cifar import cifar10, cifar100
from distill.data.dataset import ImageDataset
from distill.data.digits import digits
from distill.data.npz import DataNotFound
from distill.data.resident import DeviceImages
from distill.data.shapes import SHAPES
from distill.data.stream import EvaluationStream, ImageStream, draw_generator
from distill.data.strong import StrongView
from distill.data.synthetic import synthetic

__all__ = [
    "SHAPES",
    "Batch",
    "DataNotFound",
    "DeviceImages",
    "EvaluationStream",
    "ImageDataset",
    "ImageStream",
    "StrongView",
    "arrays",
    "cifar10",
    "cifar100",
    "digits",
    "draw_generator",
    "synthetic",
]
