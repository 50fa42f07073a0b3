"""What is said of a data set without loading it is true of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from distill.data import SHAPES, cifar10, cifar100, digits


def test_shapes_are_those_of_the_data(tmp_path: Path) -> None:
    for factory, classes in ((cifar10, 10), (cifar100, 100)):
        labels = np.arange(classes)
        images = np.zeros((classes, 32, 32, 3), dtype=np.uint8)
        np.savez(tmp_path / "data.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
        data = factory(npz=str(tmp_path / "data.npz"))
        assert SHAPES[factory] == (data.num_classes, data.image_size)
    data = digits()
    assert SHAPES[digits] == (data.num_classes, data.image_size)
    assert SHAPES.keys() == {cifar10, cifar100, digits}
