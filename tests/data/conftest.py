"""Small data sets written to files, as a user would have them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Arrays = dict[str, Any]


@pytest.fixture
def small_arrays() -> Arrays:
    """200 + 40 random images of 32 x 32 in 100 classes, with the keys of an .npz data set."""
    random = np.random.RandomState(3)
    return {
        "x_train": random.randint(0, 256, (200, 32, 32, 3), dtype=np.uint8),
        "y_train": random.permutation(np.arange(200) % 100).astype(np.uint8),
        "x_test": random.randint(0, 256, (40, 32, 32, 3), dtype=np.uint8),
        "y_test": random.randint(0, 100, 40).astype(np.uint8),
    }


@pytest.fixture
def write_npz(tmp_path: Path) -> Callable[..., str]:
    """Writes arrays to a new .npz and returns its path."""
    written: list[Path] = []

    def write(arrays: Arrays, **changed: Any) -> str:
        path = tmp_path / f"images{len(written)}.npz"
        np.savez(path, **{key: value for key, value in (arrays | changed).items() if value is not None})
        written.append(path)
        return str(path)

    return write
