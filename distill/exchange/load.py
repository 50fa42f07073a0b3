"""A finished run in Python: its network, the normalisation of its images, its data, and its accuracy measured again."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from distill.config.faults import Refused
from distill.config.identity import without_code
from distill.config.rebuild import normalisation, rebuild_dataset, rebuild_network
from distill.data import Dataset, UnreadableImage
from distill.data.small_images import evaluation_part, has_training_part
from distill.models import Network
from distill.models.inputs import Channels
from distill.runs.identity import canonical
from distill.runs.store import RunRecord, averaged, finished_run
from distill.tables.values import PLACES
from distill.training import Evaluation, evaluate

BATCH = 256  # images at once when an accuracy is measured
WEIGHTS = ("last", "ema")  # of a run, by name


@dataclass(frozen=True)
class Normalisation:
    """`(pixels / 255 - mean) / std` per channel, as the network's training images were normalised."""

    mean: Channels
    std: Channels

    def __call__(self, pixels: Any) -> Tensor:
        """(B, 3, H, W) float32 from RGB images (B, H, W, 3) or one image (H, W, 3): uint8 array, tensor or PIL image.

        A tensor's result is on the tensor's device. The values equal those of training bit for bit. Raises ValueError
        for another shape or type.
        """
        given = pixels if isinstance(pixels, Tensor) else torch.from_numpy(np.array(pixels))
        if given.dtype != torch.uint8 or given.ndim not in (3, 4) or given.shape[-1] != 3:
            raise ValueError(
                f"pixels must be uint8 of shape (B, H, W, 3) or (H, W, 3), got {given.dtype} {tuple(given.shape)}: "
                'give RGB values 0..255, of a PIL image by .convert("RGB")'
            )
        deviation = torch.tensor(self.std, dtype=torch.float64)
        scale = (1 / (255 * deviation)).float().to(given.device)
        shift = (-torch.tensor(self.mean, dtype=torch.float64) / deviation).float().to(given.device)
        values = given.to(torch.float32).mul_(scale).add_(shift)
        return values.view(-1, *given.shape[-3:]).permute(0, 3, 1, 2)


class LoadedNetwork(Network):
    """The type of `distill.load`'s result, for type checkers: a network of its own class, with `normalise`."""

    normalise: Normalisation


def load_run(
    run: str | os.PathLike[str], *, weights: str, runs_dir: str | os.PathLike[str] | None, own: str | None
) -> LoadedNetwork:
    """See `distill.load`."""
    if weights not in WEIGHTS:
        raise ValueError(
            f"weights must be one of {', '.join(WEIGHTS)}, got {weights!r}: leave it out for the last ones"
        )
    store = Path(runs_dir or os.environ.get("DISTILL_RUNS") or "runs")
    record = finished_run(store, os.fspath(run))
    return load_record(averaged(record) if weights == "ema" else record, own=own)


def load_record(record: RunRecord, *, own: str | None) -> LoadedNetwork:
    """The network of a finished run on the CPU, in eval mode, with `normalise`.

    Raises:
        Untrusted: its class is neither one of distill's, nor code that the run recorded, nor `own`.
        StorageError: the run's files are damaged.
        ValueError: a network of the user's already has an attribute `normalise`.
    """
    normalise = Normalisation(*normalisation(record))
    network = cast(LoadedNetwork, rebuild_network(record, own=own).eval())
    if hasattr(network, "normalise"):
        name = type(network).__name__
        raise ValueError(f"{name} has an attribute normalise of its own, which would be lost: give it another name")
    network.normalise = normalise
    return network


def run_dataset(record: RunRecord, places: Mapping[str, Any], *, strict: bool = True) -> Dataset:
    """The data set of a finished run, read from `places` (`npz`, `root`, `shards`, `download`) where they are given.

    Without `strict` a file with test images alone will do.

    Raises:
        Refused: the data are not there, or have another number of classes than the run; with `strict` also if their
            digests differ from the recorded ones.
        Untrusted: the run names a data set that is not one of distill's.
    """
    assert record.result is not None
    classes = record.result["classes"]
    npz, data = places.get("npz"), record.identity["data"]
    if npz and not strict and not data["holdout"] and not has_training_part(npz):
        size = record.result.get("image_size")
        return evaluation_part(
            npz, num_classes=classes, image_size=size, mean=tuple(data["mean"]), std=tuple(data["std"])
        )
    dataset = rebuild_dataset(record, places)
    if dataset.num_classes != classes:
        raise Refused([f"the data have {dataset.num_classes} classes, the run in {record.path} has {classes}"])
    if strict and same_data(record, dataset) is False:
        raise Refused([f"the data are not those of the run {record.run_id}: set {_places(record)}"])
    return dataset


def _places(record: RunRecord) -> str:
    """The keys of the data set that say where it lies."""
    keys = [key for key in PLACES if key != "download" and key in record.config["dataset"]]
    return " or ".join(f"dataset.{key}" for key in keys)


def data_at_hand(construct: Callable[[], Dataset], *, needed: bool) -> Dataset | None:
    """The data set; None if its files are not where it looks by default. If it is `needed`, they must be there.

    Raises Refused: the data are damaged, or not at the place that the command gives.
    """
    try:
        return construct()
    except Refused as refused:
        if needed or any(fault.kind != "absent" for fault in refused.faults):
            raise
        return None


def same_data(record: RunRecord, dataset: Dataset) -> bool | None:
    """Whether the data have the digests that the run recorded; None for a run that was imported without its data.

    Of data without training images the test images and the normalisation are compared.
    """
    recorded = record.identity.get("data")
    if isinstance(recorded, Mapping) and recorded.get("train") is None:
        return None
    found = dataset.identity()
    if found["train"] is None and isinstance(recorded, Mapping):
        keys = ("test", "holdout", "mean", "std")
        recorded, found = ({key: data.get(key) for key in keys} for data in (recorded, found))
    try:
        return canonical(without_code(recorded)) == canonical(found)
    except ValueError:  # the config was edited by hand
        return False


def measure_accuracy(network: nn.Module, dataset: Dataset, *, device: torch.device, precision: str) -> Evaluation:
    """Accuracy and loss on the evaluation images; the network is moved to `device`.

    Raises Refused if the device has too little memory.
    """
    stream = dataset.evaluation_stream(batch_size=BATCH, device=device)
    try:
        return evaluate(network.to(device), stream, precision=precision)
    except UnreadableImage as error:
        raise Refused([str(error)]) from error
    except torch.OutOfMemoryError as error:
        raise Refused([f"{device} has too little free memory to measure it: set engine.device=cpu"]) from error
