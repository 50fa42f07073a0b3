"""Images to check an export on: the run's own evaluation images where its data are at hand."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from distill.config.build import Refused
from distill.config.plan import data_identity
from distill.config.rebuild import rebuild_dataset
from distill.data import SHAPES, ImageDataset
from distill.runs.identity import canonical
from distill.runs.store import RunRecord

IMAGES = 256


@dataclass(frozen=True, eq=False)
class Sample:
    """`images` (N, 3, S, S), normalised. `dataset` is None where they are synthetic, and `reason` says why."""

    images: Tensor
    dataset: ImageDataset | None = None
    reason: str = ""

    @property
    def image_size(self) -> int:
        """S in pixels."""
        return int(self.images.shape[-1])

    @property
    def told(self) -> str:
        """`256 test images`, or what stands in for them."""
        if self.dataset is None:
            return f"{len(self.images)} synthetic standard-normal images"
        kind = "held-out images" if self.dataset.split == "holdout" else "test images"
        return f"{len(self.images)} {kind}"


def find_sample(record: RunRecord, places: Mapping[str, Any], *, asked: bool) -> Sample:
    """Images evenly spaced over the run's evaluation split; synthetic ones where the data are not at hand.

    Args:
        record: a finished run.
        places: where the data lie now, keys of the data set's node.
        asked: whether the user named such a place: then data that cannot be used are an error.

    Raises:
        ValueError: as said of `asked`, or there is nothing that tells the size of the images.
        Untrusted: the run asks for a data set that is not ours.
    """
    assert record.result is not None
    try:
        dataset = rebuild_dataset(record, places)
        reason = unlike(record, dataset)
    except Refused as refused:
        dataset, reason = None, refused.faults[0]
    if dataset is not None and not reason:
        return Sample(_spread(dataset), dataset)
    if asked:
        raise ValueError(reason)
    size = dataset.image_size if dataset is not None else _known_size(record)
    if size is None:
        raise ValueError(f"the size of the images of {record.path} is not known without its data: {reason}")
    random = torch.Generator().manual_seed(0)
    return Sample(torch.randn(IMAGES, 3, size, size, generator=random), reason=reason)


def unlike(record: RunRecord, dataset: ImageDataset) -> str:
    """Why these data are not the run's; empty where they are."""
    assert record.result is not None
    classes = record.result["classes"]
    if dataset.num_classes != classes:
        return f"the data have {dataset.num_classes} classes where {record.path} tells {classes} apart"
    recorded = record.identity.get("data")
    if not isinstance(recorded, Mapping) or recorded.get("train") is None:  # imported where the data were not at hand
        return ""
    try:
        same = canonical(recorded) == canonical(data_identity(dataset))
    except ValueError:  # edited by hand
        same = False
    return "" if same else f"the data are not those of the run {record.run_id}: set dataset.npz or dataset.root"


def _spread(dataset: ImageDataset) -> Tensor:
    count = len(dataset.evaluation_labels)
    rows = torch.linspace(0, count - 1, min(count, IMAGES)).round().long()
    return dataset.evaluation_on("cpu").images(rows, torch.zeros_like(rows))


def _known_size(record: RunRecord) -> int | None:
    assert record.result is not None
    if isinstance(size := record.result.get("image_size"), int):
        return size
    target = record.config["dataset"].get("_target_")
    sizes = {f"distill.data.{factory.__name__}": size for factory, (_, size) in SHAPES.items()}
    return sizes.get(target)
