"""Data sets, of small images resident on a device or of photographs in files, and the streams that draw batches.

Imports nothing of configuration files, networks or losses."""

from distill.data.builtin_images import digits, synthetic
from distill.data.dataset import ImageDataset
from distill.data.image_folder import PhotoDataset, image_folder, imagenet, imagenette
from distill.data.image_stream import PhotoEvaluation, UnreadableImage, set_workers
from distill.data.resident import DeviceImages
from distill.data.small_images import SHAPES, DataNotFound, arrays, cifar10, cifar100
from distill.data.stream import Batch, EvaluationStream, ImageStream, Part, Stream, draw_generator
from distill.data.strong import StrongView

Dataset = ImageDataset | PhotoDataset
OrderedStream = EvaluationStream | PhotoEvaluation  # of evaluation images
