"""The runs of a report: what their folders say, what their networks said, and how each is called and drawn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from distill.report.looks import TEACHER, Look, look_of
from distill.runs.store import RunRecord
from distill.tables.values import preset_name

Role = Literal["teacher", "baseline", "student"]


@dataclass(frozen=True, eq=False)
class Answers:
    """What a network said of the N evaluation images.

    logits      (N, K) float32
    embeddings  (M, D) float32 of the images that are drawn, None for a network without an embedding
    """

    logits: NDArray[np.float32]
    embeddings: NDArray[np.float32] | None = None


@dataclass(frozen=True, eq=False)
class Images:
    """The evaluation images: uint8 (N, H, W, 3), labels (N,), names of the K classes, `test` or `holdout`.

    `drawn` are the rows whose embeddings are drawn.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    split: str
    drawn: NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class Found:
    """A run before it has a name in the report: its record, its files, its answers, and what is missing of them.

    `gradients` are the numbers of `distill.config.gradients`; `missing` are sentences without the run's name.
    """

    record: RunRecord
    history: tuple[Mapping[str, Any], ...]
    provenance: Mapping[str, Any]
    answers: Answers | None = None
    gradients: Mapping[str, Any] | None = None
    missing: tuple[str, ...] = ()

    @property
    def preset(self) -> str:
        """The loss preset, whatever was changed in it."""
        return preset_name(str(self.record.names.get("loss", "?")))

    @property
    def result(self) -> Mapping[str, Any]:
        """What the run recorded at its end."""
        assert self.record.result is not None
        return self.record.result


@dataclass(frozen=True, eq=False)
class Subject:
    """A run in a report: what it is there, a label that no other has, and its look."""

    found: Found
    role: Role
    label: str
    look: Look


@dataclass(frozen=True, eq=False)
class Compared:
    """What a report is about: the student `run`, the runs it is held against, their teacher.

    `images` is None where the data are not at hand; `missing` says what the report cannot show and why.
    """

    run: Subject
    against: tuple[Subject, ...]
    teacher: Subject | None
    images: Images | None
    missing: tuple[str, ...] = ()
    targets: tuple[float, ...] = field(default=())

    @property
    def students(self) -> tuple[Subject, ...]:
        """The baselines in their order, then the run itself."""
        return (*self.against, self.run)

    @property
    def everyone(self) -> tuple[Subject, ...]:
        """Teacher, baselines, run."""
        return (*((self.teacher,) if self.teacher else ()), *self.students)

    @property
    def looks(self) -> dict[str, Look]:
        """By label."""
        return {each.label: each.look for each in self.everyone}

    @property
    def logits(self) -> dict[str, NDArray[np.float32]]:
        """By label, of those whose networks were asked."""
        return {each.label: each.found.answers.logits for each in self.everyone if each.found.answers is not None}

    @property
    def told(self) -> Subject | None:
        """The teacher where it was asked, None elsewhere."""
        return self.teacher if self.teacher and self.teacher.found.answers else None


def compared(
    run: Found,
    against: Sequence[Found],
    teacher: Found | None,
    *,
    images: Images | None,
    missing: Sequence[str] = (),
    targets: Sequence[float] = (),
) -> Compared:
    """Give every run its label and its look; what is missing of a run is told under its label."""
    labels = _labels([*against, run])
    looks: list[Look] = []
    for each in (*against, run):
        looks.append(
            look_of(each.preset, occurrence=sum(o.preset == each.preset for o in (*against, run)[: len(looks)]))
        )
    subjects = [
        Subject(found, "student" if found is run else "baseline", label, look)
        for found, label, look in zip((*against, run), labels, looks, strict=True)
    ]
    name = f"teacher {teacher.record.names.get('student', '')}".strip() if teacher else ""
    above = Subject(teacher, "teacher", name, TEACHER) if teacher else None
    gaps = [f"{each.label}: {gap}" for each in (*([above] if above else []), *subjects) for gap in each.found.missing]
    return Compared(subjects[-1], tuple(subjects[:-1]), above, images, (*missing, *gaps), tuple(targets))


def _labels(runs: Sequence[Found]) -> list[str]:
    """The loss of each; where that is not enough the student, the recipe, the seed and at last the id."""
    facts = (
        lambda run: str(run.record.names.get("loss", "?")),
        lambda run: str(run.record.names.get("student", "?")),
        lambda run: str(run.record.names.get("recipe", "?")),
        lambda run: f"seed {run.record.identity.get('seed', '?')}",
        lambda run: run.record.run_id,
    )
    words = [[facts[0](run)] for run in runs]
    for fact in facts[1:]:
        if len({tuple(each) for each in words}) == len(runs):
            break
        values = [fact(run) for run in runs]
        if len(set(values)) > 1:
            words = [[*each, value] for each, value in zip(words, values, strict=True)]
    return [", ".join(each) for each in words]
