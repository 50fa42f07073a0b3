"""A finished run exported to a folder: models that were read back and compared, a model card, and the run's record."""

import hashlib
import importlib.metadata
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import distill
from distill.config.faults import Refused
from distill.data import SHAPES, Dataset
from distill.exchange.card import card
from distill.exchange.folder import CARD, FORMS, check_folder, publish, staged
from distill.exchange.forms import READ, WRITE, OnlyLogits, Source, halved, with_weights
from distill.exchange.load import load_record, measure_accuracy, run_dataset
from distill.models import profile
from distill.runs.files import finite, read_record, write_synced
from distill.runs.layout import CONFIG, EXPORT, RESULT, STUDENT
from distill.runs.store import RunRecord

IMAGES = 256  # on which an exported model is compared with the run's network
_BATCHES = (1, 7, 64)  # of several sizes: an export may accept only the batch size that it was traced with


@dataclass(frozen=True)
class Agreement:
    """Two networks compared on the same `count` images.

    `largest` is the largest difference between two logits, `tolerance` what it may be. `equal` predictions are the
    same; `ties` is whether every other one is a tie within the tolerance.
    """

    largest: float
    tolerance: float
    equal: int
    count: int
    ties: bool

    @property
    def holds(self) -> bool:
        """Whether the networks agree; False if a logit is not finite."""
        return self.largest <= self.tolerance and self.ties

    def __str__(self) -> str:
        return (
            f"largest difference of a logit {self.largest:.2g} (tolerance {self.tolerance:.2g}), "
            f"{self.equal} of {self.count} predictions equal"
        )


@torch.no_grad()
def logits_of(model: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """(N, K) float32, computed in batches of several sizes."""
    batches: list[Tensor] = []
    for size in _BATCHES:
        batches.append(images[:size])
        images = images[size:]
    batches += torch.split(images, _BATCHES[-1])
    return torch.cat([model(batch).float() for batch in batches if len(batch)])


def compare(found: Tensor, original: Tensor, *, tolerance: float) -> Agreement:
    """Compare logits (N, K); `tolerance` is a share of the original's largest logit (of 1 where all are smaller).

    ValueError if the shapes differ.
    """
    if found.shape != original.shape:
        raise ValueError(f"it gives logits of shape {tuple(found.shape)} instead of {tuple(original.shape)}")
    absolute = tolerance * max(1.0, float(original.abs().max()))
    predicted = found.argmax(dim=1)
    lost = original.max(dim=1).values - original.gather(1, predicted.unsqueeze(1)).squeeze(1)
    return Agreement(
        largest=float((found - original).abs().max()),
        tolerance=absolute,
        equal=int((predicted == original.argmax(dim=1)).sum()),
        count=len(original),
        ties=bool((lost <= absolute).all()),
    )


@dataclass(frozen=True)
class Written:
    """A file that was read back and agrees with the network it was written from."""

    form: str
    file: str
    title: str
    size: int
    sha256: str
    agreement: Agreement


@dataclass(frozen=True)
class Rounded:
    """What rounding the weights to fp16 changed, on `count` images.

    `accuracy` (percent), `correct` and `total` are measured with the rounded weights, in fp32 arithmetic, on the whole
    evaluation split; None without the data.
    """

    difference: float
    equal: int
    count: int
    accuracy: float | None = None
    correct: int | None = None
    total: int | None = None

    def __str__(self) -> str:
        change = (
            f"rounding the weights to fp16 changes a logit by at most {self.difference:.2g}, "
            f"{self.equal} of {self.count} predictions stay"
        )
        if self.accuracy is None:
            return f"{change}; their accuracy was not measured again, because the data were not at hand"
        return f"{change}; accuracy with the rounded weights {self.accuracy:.2f} % ({self.correct} of {self.total})"


@dataclass(frozen=True, eq=False)
class Sample:
    """`images` (N, 3, S, S), normalised. `dataset` is None if they are synthetic, and `reason` is why."""

    images: Tensor
    dataset: Dataset | None = None
    reason: str = ""

    def __str__(self) -> str:
        if self.dataset is None:
            return f"{len(self.images)} synthetic standard-normal images"
        kind = "held-out images" if self.dataset.split == "holdout" else "test images"
        return f"{len(self.images)} {kind}"


@dataclass(frozen=True)
class Exported:
    """The folder (None if no model passed its check), its models, and a sentence for each that is left out.

    `checked_on` describes the images of the checks; `reason` is why they are synthetic, empty if they are not.
    """

    folder: Path | None
    written: tuple[Written, ...]
    failures: tuple[str, ...]
    checked_on: str
    reason: str
    rounded: Rounded | None = None


def export_run(
    record: RunRecord,
    folder: Path,
    *,
    forms: Sequence[str],
    half: bool,
    places: Mapping[str, Any],
    own: str | None,
    note: Callable[[str], None],
) -> Exported:
    """Write the network of a finished run in each of `forms`, read each back and compare; replaces an older export.

    A form that cannot be written, or does not agree with the network it was written from, is left out.

    Args:
        record: a finished run with its weights.
        folder: where to write; see `check_folder`.
        forms: names of `FORMS`.
        half: whether the weights in the safetensors file are rounded to fp16.
        places: the places of the data that the user gives (`npz`, `root`, `download`); unusable data are then an
            error.
        own: the target of a network from outside the package, named by the user.
        note: called with a line before each slow step.

    Raises:
        ValueError: the folder or the data cannot be used, or the image size is unknown.
        StorageError: the run is damaged or names a target that is not trusted, or the folder cannot be written.
    """
    check_folder(folder, record.run_id)
    network = load_record(record, own=own)
    sample = find_sample(record, places)
    source = Source(record, network, int(sample.images.shape[-1]), half)
    with staged(folder) as staging:
        written, failures = _write_all(forms, source, sample, staging, note)
        if not written:
            return Exported(None, (), tuple(failures), str(sample), sample.reason)
        rounded = _rounded(source, sample, note) if half else None
        facts = _facts(source, sample, written, rounded)
        write_synced(staging / CARD, card(source, facts, written, rounded, reason=sample.reason).encode())
        write_synced(staging / EXPORT, (json.dumps(finite(facts), indent=2, ensure_ascii=False) + "\n").encode())
        # averaged weights are not the run's: nothing may restore it with them
        for name in (CONFIG, RESULT) if record.weights == STUDENT else ():
            write_synced(staging / name, read_record(record.path / name))
        publish(staging, folder, record.run_id)
    return Exported(folder, tuple(written), tuple(failures), str(sample), sample.reason, rounded)


def find_sample(record: RunRecord, places: Mapping[str, Any]) -> Sample:
    """Images evenly spaced over the run's evaluation split; synthetic ones if the data are not at hand.

    Raises ValueError if the user named `places` and the data there cannot be used, or if the image size is unknown.
    """
    assert record.result is not None
    try:
        dataset = run_dataset(record, places)
    except Refused as refused:
        if places:
            raise
        reason = refused.sentences[0]
    else:
        count = len(dataset.evaluation_labels)
        rows = torch.linspace(0, count - 1, min(count, IMAGES)).round().long()
        stream = dataset.evaluation_stream(batch_size=len(rows), device="cpu", rows=rows.tolist())
        return Sample(next(iter(stream)).images, dataset)
    sizes = {f"distill.data.{factory.__name__}": size for factory, (_, size) in SHAPES.items()}
    size = record.result.get("image_size", sizes.get(record.config["dataset"].get("_target_")))
    if not isinstance(size, int):
        raise ValueError(f"the size of the images of {record.path} is not known without its data: {reason}")
    random = torch.Generator().manual_seed(0)
    return Sample(torch.randn(IMAGES, 3, size, size, generator=random), reason=reason)


def _write_all(
    forms: Sequence[str], source: Source, sample: Sample, staging: Path, note: Callable[[str], None]
) -> tuple[list[Written], list[str]]:
    """The forms that agree with what they were written from, and a sentence for each that was left out."""
    written, failures = [], []
    for form in forms:
        path = staging / FORMS[form].file
        note(f"writing {path.name}")
        try:
            expected = logits_of(OnlyLogits(WRITE[form](source, path)), sample.images)
            found = logits_of(READ[form](path, source.network), sample.images)
            agreement = compare(found, expected, tolerance=FORMS[form].tolerance)
            if not agreement.holds:
                raise ValueError(f"read back, it differs from the run's network on {sample}: {agreement}")
        except OSError:
            raise
        except Exception as error:  # any error of the format's library
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            failures.append(f"{path.name} is left out: {reason}")
            path.unlink(missing_ok=True)
            continue
        data = path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        written.append(Written(form, path.name, FORMS[form].title, len(data), digest, agreement))
    return written, failures


def _rounded(source: Source, sample: Sample, note: Callable[[str], None]) -> Rounded:
    """How far the rounded weights are from the run's."""
    other = with_weights(source.network, halved(source.network.state_dict()))
    before, after = (logits_of(OnlyLogits(network), sample.images) for network in (source.network, other))
    distance = compare(after, before, tolerance=1.0)
    if sample.dataset is None:
        return Rounded(distance.largest, distance.equal, distance.count)
    note(f"measuring the rounded weights on {len(sample.dataset.evaluation_labels)} images")
    found = measure_accuracy(other, sample.dataset, device=torch.device("cpu"), precision="fp32")
    return Rounded(distance.largest, distance.equal, distance.count, found.accuracy, found.correct, found.count)


def _facts(source: Source, sample: Sample, written: Sequence[Written], rounded: Rounded | None) -> dict[str, Any]:
    """The content of export.json: the facts of the card, for programs. The file also marks a folder as an export."""
    assert source.record.result is not None
    result, size, normalise = source.record.result, source.image_size, source.network.normalise
    packages = {"torch", "safetensors"}.union(*(FORMS[model.form].needs for model in written))
    try:
        macs = profile(source.network, image_size=size).macs
    except Exception:  # a network of the user's that cannot be counted on the meta device
        macs = None
    names = sample.dataset.class_names if sample.dataset is not None else ()
    numbered = names == tuple(str(number) for number in range(len(names)))
    return {
        "run_id": source.record.run_id,
        "weights_sha256": result["weights_sha256"],
        "input": {
            "name": "images",
            "shape": ["batch", 3, size, size],
            "channels": "RGB",
            "mean": normalise.mean,
            "std": normalise.std,
        },
        "output": {"name": "logits", "shape": ["batch", result["classes"]]},
        "class_names": names if names and not numbered else None,
        "parameters": sum(parameter.numel() for parameter in source.network.parameters()),
        "macs": macs,
        "checked_on": str(sample),
        "files": {
            model.file: {
                "sha256": model.sha256,
                "largest_difference": model.agreement.largest,
                "tolerance": model.agreement.tolerance,
                "equal_predictions": model.agreement.equal,
                "images": model.agreement.count,
            }
            for model in written
        },
        "rounded": None if rounded is None else asdict(rounded),
        "versions": {
            "distill": distill.__version__,
            **{package: importlib.metadata.version(package) for package in sorted(packages)},
        },
    }
