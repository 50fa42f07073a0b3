"""The peer: the training loop of the field's public code bases, written from their common recipe.

One PIL image at a time through torchvision's transforms and a DataLoader; eager fp32 in NCHW (on a GPU with TF32 as
torch has it by default); the unfolded teacher in eval mode for every student; loss and top-1, top-5 read back after
every step; validation in batches of 64. Nothing of it is slowed down on purpose, and it writes no files.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets.folder import default_loader
from torchvision.transforms import Compose, Normalize, RandomCrop, RandomHorizontalFlip, RandomResizedCrop, ToTensor
from torchvision.transforms import functional as pil

from distill.data import ImageDataset, PhotoDataset
from distill.data.resident import split_view

VALIDATION_BATCH = 64
Item = tuple[Tensor, int]
Loader = DataLoader[Item]


class PilImages(Dataset[Item]):
    """Images as torchvision's CIFAR serves them: a PIL image of each array, then the transforms."""

    def __init__(self, images: NDArray[np.uint8], labels: NDArray[np.int64], transform: Compose) -> None:
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


def train_loader(data: ImageDataset, *, batch_size: int, workers: int) -> Loader:
    """The training images: shuffled, padded and cropped, flipped."""
    steps = [RandomCrop(data.image_size, padding=data.pad), *([RandomHorizontalFlip()] if data.flip else [])]
    transform = Compose([*steps, ToTensor(), Normalize(data.mean, data.std)])
    images = PilImages(data.train_images, data.train_labels, transform)
    # kept between epochs: the windows are shorter than an epoch of the field, and would count the start of workers more
    return DataLoader(images, batch_size, shuffle=True, num_workers=workers, persistent_workers=workers > 0)


def validation_loader(data: ImageDataset, *, workers: int) -> Loader:
    """The evaluation images as they are, in their order."""
    transform = Compose([ToTensor(), Normalize(data.mean, data.std)])
    images = PilImages(data.evaluation_images, data.evaluation_labels, transform)
    return DataLoader(images, VALIDATION_BATCH, num_workers=workers, persistent_workers=workers > 0)


def photo_loader(data: PhotoDataset, *, batch_size: int, workers: int) -> Loader:
    """Photographs as ImageFolder serves them: decoded by Pillow, RandomResizedCrop, flipped, normalised."""
    how = data.preparation
    steps = [RandomResizedCrop(how.size, scale=how.scale, ratio=how.ratio), RandomHorizontalFlip()]
    images = PhotoFiles(data, Compose([*steps, ToTensor(), Normalize(how.mean, how.std)]))
    return DataLoader(images, batch_size, shuffle=True, num_workers=workers, persistent_workers=workers > 0)


class PhotoFiles(Dataset[Item]):
    """The training photographs, by torchvision's own loader."""

    def __init__(self, data: PhotoDataset, transform: Compose) -> None:
        self.paths = [str(data.train.root / name) for name in data.train.files]
        self.labels, self.transform = data.train_labels, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(default_loader(self.paths[index])), int(self.labels[index])


def cropped(data: ImageDataset, index: Sequence[int], view: Tensor) -> list[Image.Image]:
    """What RandomCrop and RandomHorizontalFlip make of images when they draw the views `view` (B,)."""
    images = []
    for row, one in zip(index, view, strict=True):
        dy, dx, flip = (int(part) for part in split_view(one, pad=data.pad, flip=data.flip))
        image = pil.pad(Image.fromarray(data.train_images[row]), data.pad)
        image = pil.crop(image, dy, dx, data.image_size, data.image_size)
        images.append(pil.hflip(image) if flip else image)
    return images


def normalised(images: Sequence[Image.Image], data: ImageDataset) -> Tensor:
    """PIL images as the transforms and the DataLoader hand them on: (B, 3, H, W) float32 in NCHW memory."""
    return torch.stack([pil.normalize(pil.to_tensor(image), data.mean, data.std) for image in images])


def in_nchw(network: nn.Module) -> nn.Module:
    """The network with its weights in NCHW memory, also those of 1x1 convolutions, whose layout is ambiguous."""
    for parameter in network.parameters():
        parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)
    return network


def top_k(logits: Tensor, labels: Tensor) -> list[float]:
    """Top-1 and top-5 accuracy in percent."""
    best = logits.topk(5, dim=1).indices
    return [(best[:, :k] == labels[:, None]).any(dim=1).float().mean().item() * 100 for k in (1, 5)]


@dataclass
class Distillation:
    """(1 - a) CE + a T^2 KL as two weights; without a teacher cross-entropy alone."""

    temperature: float
    ce_weight: float
    kd_weight: float

    def __call__(self, student: Tensor, teacher: Tensor | None, labels: Tensor) -> Tensor:
        if teacher is None:
            return functional.cross_entropy(student, labels)
        log_student = functional.log_softmax(student / self.temperature, dim=1)
        softened = functional.softmax(teacher / self.temperature, dim=1)
        divergence = functional.kl_div(log_student, softened, reduction="batchmean") * self.temperature**2
        return self.ce_weight * functional.cross_entropy(student, labels) + self.kd_weight * divergence


@dataclass
class PeerLoop:
    """One student in that loop."""

    student: nn.Module
    teacher: nn.Module | None
    loss: Distillation
    optimizer: torch.optim.Optimizer
    device: torch.device

    def step(self, images: Tensor, labels: Tensor) -> tuple[float, list[float]]:
        """Train on one batch; its loss and accuracies, read back."""
        images, labels = self._moved(images), labels.to(self.device)
        self.student.train()
        logits = self.student(images).logits
        taught = self.ask(images) if self.teacher is not None else None
        loss = self.loss(logits, taught, labels)
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        self.optimizer.step()
        return loss.item(), top_k(logits, labels)

    @torch.no_grad()
    def ask(self, images: Tensor) -> Tensor:
        """The teacher's logits (B, K)."""
        assert self.teacher is not None
        logits: Tensor = self.teacher.eval()(self._moved(images)).logits
        return logits

    def train(self, batches: Iterator[tuple[Tensor, Tensor]], steps: int) -> None:
        """Train on the next `steps` batches."""
        for _ in range(steps):
            self.step(*next(batches))

    @torch.no_grad()
    def validate(self, loader: Loader) -> tuple[int, float]:
        """Correct answers and mean loss; both are read back batch by batch, top-5 too."""
        self.student.eval()
        correct = count = 0
        total = 0.0
        for images, labels in loader:
            labels = labels.to(self.device)
            logits = self.student(self._moved(images)).logits
            loss, (top1, _) = functional.cross_entropy(logits, labels).item(), top_k(logits, labels)
            correct += round(top1 * len(labels) / 100)
            total += loss * len(labels)
            count += len(labels)
        return correct, total / count

    def _moved(self, images: Tensor) -> Tensor:
        return images.to(self.device, memory_format=torch.contiguous_format)
