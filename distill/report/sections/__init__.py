"""The sections of the page on a student, a file each: its numbers, its figures and its words."""

from collections.abc import Callable

from distill.report.page import Block, Section, Text
from distill.report.runs import Images, Report
from distill.report.sections import (
    calibration,
    curves,
    embedding,
    errors,
    fidelity,
    gradients,
    logits,
    runs,
    temperature,
    toy,
)

_FROM_RECORDS: dict[str, tuple[str, Callable[[Report], list[Block]]]] = {
    "runs": ("Runs", runs.summary),
    "curves": ("Training", curves.blocks),
    "gradients": ("Gradients of the loss terms", gradients.blocks),
    "toy": (toy.TITLE, toy.blocks),
    "configuration": ("Differences of configuration", runs.configuration),
    "provenance": ("Provenance", runs.provenance),
}
_FROM_OUTPUTS: dict[str, tuple[str, Callable[[Report, Images], list[Block]]]] = {
    "fidelity": ("Agreement with the teacher", fidelity.blocks),
    "calibration": ("Calibration", calibration.blocks),
    "temperature": ("Softmax under temperature", temperature.blocks),
    "logits": ("Logits", logits.blocks),
    "errors": ("Errors by class", errors.blocks),
    "embedding": ("Embeddings", embedding.blocks),
}
_ORDER = ("runs", "curves", *_FROM_OUTPUTS, "gradients", "toy", "configuration", "provenance")


def section(key: str, report: Report) -> Section:
    """One section; a sentence with the reason where the outputs it needs are missing."""
    if key in _FROM_RECORDS:
        title, from_records = _FROM_RECORDS[key]
        return Section(key, title, from_records(report))
    title, from_outputs = _FROM_OUTPUTS[key]
    reason = report.no_outputs(teacher=key == "fidelity")
    if reason or report.images is None:
        return Section(key, title, [Text(reason, missing=True)])
    return Section(key, title, from_outputs(report, report.images))


def sections(report: Report) -> list[Section]:
    """All sections in their order."""
    return [section(key, report) for key in _ORDER]
