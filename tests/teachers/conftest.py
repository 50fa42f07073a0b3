"""A teacher that is cheap to ask, and tables of it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from distill.data import Batch, ImageDataset, ImageStream, synthetic
from distill.models import Output
from distill.teachers.table_build import answers, build
from distill.teachers.table_file import TableFile
from distill.teachers.table_spec import TableSpec
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
            found = self(images.images(index, torch.full_like(index, dataset.centre_view))).logits
            for parameter in self.parameters():
                parameter *= spread / found.std()

    def forward(self, images: Tensor, *, taps: bool = False) -> Output:
        return Output(self.layer(images.contiguous().flatten(1)))


@pytest.fixture(scope="session")
def dataset() -> ImageDataset:
    """12 images of 8 pixels in 18 views: 216 rows."""
    return synthetic(classes=5, train_size=12, test_size=5, image_size=8, pad=1)


@pytest.fixture(scope="session")
def linear(dataset: ImageDataset) -> Linear:
    return Linear(dataset)


@pytest.fixture
def made(tmp_path: Path, dataset: ImageDataset, linear: Linear) -> Callable[..., TableFile]:
    """`made(chunk_rows=..., ...)`: a table of `linear` on the disk."""

    def make(*, chunk_rows: int = 50, **options) -> TableFile:
        spec = TableSpec.of(dataset, weights="w", precision="fp32", device="cpu")
        file = TableFile(tmp_path / "tables" / spec.key, spec, chunk_rows=chunk_rows)
        _, missing = file.open()
        build(file, missing, answers(linear, dataset, precision="fp32", device=CPU), batch_size=32, **options)
        return file

    return make


def one_epoch(dataset: ImageDataset, *, seed: int = 1, batch_size: int = 64) -> list[Batch]:
    """The batches of an epoch."""
    return list(ImageStream(dataset, batch_size=batch_size, seed=seed, device="cpu").epoch(1))
