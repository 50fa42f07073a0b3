"""What `distill report` does once its command is sound: networks built and asked, files written."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from distill.cli.grammar import UsageError
from distill.config.build import Refused, usable_device
from distill.config.gradients import term_gradients
from distill.config.rebuild import Untrusted, rebuild_network
from distill.data import EvaluationStream, ImageDataset
from distill.exchange.load import run_dataset
from distill.report.finding import has_weights
from distill.report.numbers.embedding import shown_images
from distill.report.place import write_files
from distill.report.subjects import Answers, Found, Images, compared
from distill.report.writing import record as as_record
from distill.report.writing import report_files
from distill.runs.files import StorageError, read_json
from distill.runs.layout import METRICS, PROVENANCE
from distill.runs.lines import read_lines
from distill.runs.store import RunRecord

BATCH = 256


@dataclass(frozen=True)
class Asked:
    """A sound command: which runs, where their data lie now (by run id), and whether the user insists on that place.

    `missing` are sentences known already, `targets` levels of accuracy in percent.
    """

    run: RunRecord
    against: tuple[RunRecord, ...]
    teacher: RunRecord | None
    places: Mapping[str, Mapping[str, Any]]
    insist: bool
    own: str | None
    device: str
    missing: tuple[str, ...] = ()
    targets: tuple[float, ...] = ()


@dataclass(frozen=True, eq=False)
class Built:
    """A run's network on its device, in eval mode, and its data; None for what is not there, and why."""

    record: RunRecord
    network: nn.Module | None
    dataset: ImageDataset | None
    missing: tuple[str, ...]


def report(asked: Asked, folder: Path) -> list[str]:
    """Write the report and return what it cannot show, as sentences.

    Raises:
        UsageError: the device or the data named by the user are not there, or a run names a target that is not trusted.
        StorageError: a run's files are damaged, or the folder cannot be written.
    """
    try:
        device = usable_device(asked.device, key="engine.device")
        run = _built(asked.run, asked, device)
        against = [_built(each, asked, device) for each in asked.against]
        teacher = _built(asked.teacher, asked, device) if asked.teacher else None
    except Untrusted as error:
        raise UsageError([str(error)]) from error
    except Refused as error:
        raise UsageError(error.faults) from error
    except ValueError as error:
        raise UsageError(str(error).splitlines()) from error
    images = _images(run.dataset) if run.dataset is not None else None
    whole = compared(
        _found(run, teacher, images, device),
        [_found(each, teacher, images, device) for each in against],
        _found(teacher, None, images, device) if teacher else None,
        images=images,
        missing=asked.missing,
        targets=asked.targets,
    )
    write_files(folder, report_files(whole), record=as_record(whole))
    return list(whole.missing)


def _built(record: RunRecord, asked: Asked, device: torch.device) -> Built:
    missing = []
    network = None
    if has_weights(record):
        network = rebuild_network(record, own=asked.own).to(device).eval()
    else:
        missing.append("its weights are not here, so its network could not be asked")
    dataset, reason = _dataset(record, asked)
    if reason:
        missing.append(reason)
    return Built(record, network, dataset, tuple(missing))


def _dataset(record: RunRecord, asked: Asked) -> tuple[ImageDataset | None, str]:
    """The run's data, else None with the reason. Refused where the user named their place."""
    try:
        return run_dataset(record, asked.places[record.run_id]), ""
    except Refused as refused:
        if asked.insist:
            raise Refused([f"{record.path}: {refused.faults[0]}"]) from refused
        return None, f"its data are not at hand: {refused.faults[0]}"


def _images(dataset: ImageDataset) -> Images:
    labels = dataset.evaluation_labels
    drawn = shown_images(labels, classes=dataset.num_classes)
    return Images(dataset.evaluation_images, labels, dataset.class_names, dataset.split, drawn)


def _found(built: Built, teacher: Built | None, images: Images | None, device: torch.device) -> Found:
    record, missing = built.record, list(built.missing)
    history = tuple(read_lines(record.path / METRICS))
    answers, gradients = None, None
    if built.network is not None and built.dataset is not None and images is not None:
        if not np.array_equal(built.dataset.evaluation_images, images.pixels):
            missing.append("its images are not those of the run, so its network was not asked")
        else:
            answers = _answers(built.network, built.dataset, images, device)
            if not any(line.get("gradient_norms") for line in history):  # an older run, or one that could not be asked
                try:
                    taught = _teacher_of(record, teacher)
                    gradients = term_gradients(record, built.network, taught, built.dataset, device=device)
                except ValueError as reason:
                    missing.append(f"no gradients of its loss terms: {reason}")
    if not history:
        missing.append("no curves: it has no record of its epochs")
    return Found(record, history, _provenance(record), answers, gradients, tuple(missing))


def _teacher_of(record: RunRecord, teacher: Built | None) -> nn.Module | None:
    """The network that taught the run, if it is the one at hand."""
    assert record.result is not None
    facts = record.result.get("teacher")
    same = teacher is not None and isinstance(facts, Mapping) and facts.get("run_id") == teacher.record.run_id
    return teacher.network if teacher is not None and same else None


@torch.no_grad()
def _answers(network: nn.Module, dataset: ImageDataset, images: Images, device: torch.device) -> Answers:
    logits = []
    for batch in EvaluationStream(dataset, batch_size=BATCH, device=device):
        logits.append(network(batch.images).logits.float().cpu())
    rows = torch.as_tensor(images.drawn, device=device)
    source = dataset.evaluation_on(device)
    embeddings = []
    for some in torch.split(rows, BATCH):
        found = network(source.images(some, torch.zeros_like(some)), taps=True).embedding
        if found is None:
            return Answers(torch.cat(logits).numpy())
        embeddings.append(found.float().cpu())
    return Answers(torch.cat(logits).numpy(), torch.cat(embeddings).numpy() if embeddings else None)


def _provenance(record: RunRecord) -> Mapping[str, Any]:
    try:
        return read_json(record.path / PROVENANCE) or {}
    except StorageError:
        return {}  # damaged notes hide no numbers
