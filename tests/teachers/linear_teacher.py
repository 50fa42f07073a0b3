"""A teacher that is cheap to ask, and its batches."""

import torch
from torch import Tensor, nn

from distill.data import Batch, ImageDataset, ImageStream
from distill.models import Output
from distill.training import seeded

CPU = torch.device("cpu")


class Linear(nn.Module):
    """One linear layer on the pixels; its logits deviate by about `spread`."""

    def __init__(self, dataset: ImageDataset, *, spread: float = 3.0) -> None:
        super().__init__()
        with seeded(0, "linear"):
            self.layer = nn.Linear(3 * dataset.image_size**2, dataset.num_classes)
        images = dataset.on(CPU)
        index = torch.arange(len(dataset.train_labels))
        with torch.no_grad():
            found = self(images.images(index, index * 7 % dataset.num_views)).logits
            for parameter in self.parameters():
                parameter *= spread / found.std()

    def forward(self, images: Tensor, *, taps: bool = False) -> Output:
        return Output(self.layer(images.contiguous().flatten(1)))


def one_epoch(dataset: ImageDataset, *, seed: int = 1, batch_size: int = 64) -> list[Batch]:
    """The batches of an epoch."""
    return list(ImageStream(dataset, batch_size=batch_size, seed=seed, device="cpu").epoch(1))
