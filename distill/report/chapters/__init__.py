"""The page's chapters: each makes its figures and tables of what is there, and says what is missing."""

from distill.report.blocks import Chapter
from distill.report.chapters import (
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
from distill.report.subjects import Compared

_ORDER = (
    runs.summary,
    curves.chapter,
    fidelity.chapter,
    calibration.chapter,
    temperature.chapter,
    logits.chapter,
    errors.chapter,
    embedding.chapter,
    gradients.chapter,
    toy.chapter,
    runs.configuration,
    runs.provenance,
)


def chapters(compared: Compared) -> list[Chapter]:
    """All chapters in their order."""
    return [make(compared) for make in _ORDER]
