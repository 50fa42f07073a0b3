"""Tables of a teacher that is cheap to ask."""

from collections.abc import Callable
from pathlib import Path

import pytest
from linear_teacher import CPU, Linear

from distill.data import ImageDataset, synthetic
from distill.teachers.table import TableFile, TableSpec
from distill.teachers.table_build import answers, build


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
