"""What a table of logits is a table of: everything that fixes its numbers, as one key."""

import hashlib
import json
import sys
from dataclasses import asdict, dataclass
from typing import Any

from distill.data import ImageDataset
from distill.runs.identity import NUMERICS_VERSION, canonical
from distill.teachers.row_code import row_width

FORMAT = 1  # of the files


@dataclass(frozen=True)
class TableSpec:
    """All logits of one teacher on one training set: N images x V views x K classes, rows in that order.

    weights    digest of the teacher's weights
    data       digest of the training set before its hold-out, `holdout` images of which are left out
    precision  `fp32` or `bf16`, in which the teacher is run
    device     the kind of device it is run on: the two round differently, and fp32 on a GPU may be TF32
    """

    weights: str
    data: str
    holdout: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    pad: int
    flip: bool
    precision: str
    device: str
    images: int
    views: int
    classes: int

    @classmethod
    def of(cls, dataset: ImageDataset, *, weights: str, precision: str, device: str) -> "TableSpec":
        """The table of the teacher with these weights on the training images of `dataset`."""
        return cls(
            weights=weights,
            data=str(dataset.digest["train"]),
            holdout=dataset.holdout,
            mean=tuple(dataset.mean),
            std=tuple(dataset.std),
            pad=dataset.pad,
            flip=dataset.flip,
            precision=precision,
            device=device,
            images=len(dataset.train_labels),
            views=dataset.num_views,
            classes=dataset.num_classes,
        )

    @property
    def rows(self) -> int:
        """N * V."""
        return self.images * self.views

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return 2 * row_width(self.classes)

    @property
    def bytes(self) -> int:
        """Bytes of all rows."""
        return self.rows * self.row_bytes

    @property
    def facts(self) -> dict[str, Any]:
        """What the header of the file says; files with other facts are other tables."""
        machine = {"format": FORMAT, "byteorder": sys.byteorder, "numerics": NUMERICS_VERSION}
        facts = canonical({**machine, **asdict(self)})
        assert isinstance(facts, dict)
        return dict(facts)

    @property
    def key(self) -> str:
        """16 hexadecimal characters: the digest of `facts`."""
        return hashlib.sha256(json.dumps(self.facts, sort_keys=True).encode("ascii")).hexdigest()[:16]
