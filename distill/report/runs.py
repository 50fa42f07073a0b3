"""The runs of a report: how they are found, what is known of each, and their labels.

Imports neither torch nor matplotlib.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from distill.report.softmax import Labels, Logits
from distill.runs.files import StorageError, read_json
from distill.runs.layout import PROVENANCE
from distill.runs.store import RunRecord, finished_run
from distill.tables.values import dataset_name, preset_name

if TYPE_CHECKING:
    from distill.data.image_stream import KeptPixels


@dataclass(frozen=True, eq=False)
class Outputs:
    """What a network computes for the N evaluation images.

    logits      (N, K) float32
    embeddings  (M, D) float32 of the images in `Images.embedded`, None for a network without an embedding
    """

    logits: NDArray[np.float32]
    embeddings: NDArray[np.float32] | None = None


@dataclass(frozen=True, eq=False)
class Images:
    """The evaluation images: labels (N,), names of the K classes, `test` or `holdout`.

    `pixels[rows]` are uint8 (n, H, W, 3), `embedded` the rows whose embeddings are drawn; equal `content` means equal
    images in the same order.
    """

    pixels: "NDArray[np.uint8] | KeptPixels"
    labels: Labels
    class_names: tuple[str, ...]
    split: str
    embedded: NDArray[np.integer]
    content: Hashable = None


@dataclass(frozen=True, eq=False)
class ReportedRun:
    """A finished run: its record and files, the outputs of its network, and what is missing (without its label).

    `make_report` sets `role` and `label`.
    """

    record: RunRecord
    history: tuple[Mapping[str, Any], ...]  # the lines of metrics.jsonl
    provenance: Mapping[str, Any]
    outputs: Outputs | None = None
    missing: tuple[str, ...] = ()
    role: Literal["teacher", "baseline", "student"] = "student"
    label: str = ""

    @property
    def preset(self) -> str:
        """The loss preset, without the values changed in it."""
        return preset_name(str(self.record.names.get("loss", "?")))

    @property
    def result(self) -> Mapping[str, Any]:
        """The run's result.json."""
        assert self.record.result is not None
        return self.record.result


@dataclass(frozen=True, eq=False)
class Report:
    """A student `run`, the baselines it is compared with, and their teacher.

    `images` is None where the data are not here. `missing` are sentences on what the report cannot show, `targets`
    the levels of accuracy (percent) whose first epochs are listed.
    """

    run: ReportedRun
    baselines: tuple[ReportedRun, ...]
    teacher: ReportedRun | None
    images: Images | None
    missing: tuple[str, ...] = ()
    targets: tuple[float, ...] = ()

    @property
    def students(self) -> tuple[ReportedRun, ...]:
        """The baselines in their order, then the run itself."""
        return (*self.baselines, self.run)

    @property
    def everyone(self) -> tuple[ReportedRun, ...]:
        """Teacher, baselines, run."""
        return (*((self.teacher,) if self.teacher else ()), *self.students)

    @property
    def outputs(self) -> dict[str, Outputs]:
        """By label, of the runs whose networks could be evaluated."""
        return {each.label: each.outputs for each in self.everyone if each.outputs is not None}

    @property
    def logits(self) -> dict[str, Logits]:
        """The logits of `outputs`."""
        return {label: each.logits for label, each in self.outputs.items()}

    def no_outputs(self, *, teacher: bool = False) -> str:
        """Why the outputs of the run, or with `teacher` those of its teacher, are missing; empty where they are not."""
        if self.images is None:
            return "The data of these runs are not here, so their networks could not be evaluated: see above."
        if self.run.outputs is None:
            return f"The network of {self.run.label} could not be evaluated: see above."
        if teacher and self.teacher is None:
            return "There is no teacher to compare with: the run has none, or the run of its teacher is not here."
        if teacher and self.teacher and self.teacher.outputs is None:
            return "The network of the teacher could not be evaluated: see above."
        return ""

    @property
    def title(self) -> str:
        """Student, loss and data set."""
        names = self.run.record.names
        dataset = dataset_name(str(names.get("dataset", "?")))
        return f"{names.get('student', '?')} by {names.get('loss', '?')} on {dataset}"

    @property
    def about(self) -> str:
        """The line under the title."""
        baselines = ", ".join(each.label for each in self.baselines)
        return f"Run {self.run.record.run_id}{f', compared with {baselines}' if baselines else ''}."

    @property
    def contents(self) -> dict[str, Any]:
        """What report.json holds: the subject, the runs, and what is missing."""
        return {
            "subject": f"run {self.run.record.run_id}",
            "runs": [
                {
                    "id": each.record.run_id,
                    "label": each.label,
                    "role": each.role,
                    "names": {**names, "dataset": dataset_name(str(names.get("dataset", "?")))},
                    "seed": each.record.identity.get("seed"),
                    "last": dict(each.result["last"]),
                    "weights_sha256": each.result.get("weights_sha256"),
                }
                for each in self.everyone
                for names in [each.record.names]
            ],
            "missing": list(self.missing),
        }


def make_report(
    run: ReportedRun,
    baselines: Sequence[ReportedRun],
    teacher: ReportedRun | None,
    *,
    images: Images | None,
    missing: Sequence[str] = (),
    targets: Sequence[float] = (),
) -> Report:
    """A report in which every run has its role and a label of its own; what a run lacks is listed under its label."""
    *labels, label = _labels([*baselines, run])
    run = replace(run, role="student", label=label)
    baselines = [replace(each, role="baseline", label=label) for each, label in zip(baselines, labels, strict=True)]
    if teacher:
        name = f"teacher {teacher.record.names.get('student', '')}".strip()
        teacher = replace(teacher, role="teacher", label=name)
    report = Report(run, tuple(baselines), teacher, images, targets=tuple(targets))
    gaps = [f"{each.label}: {gap}" for each in report.everyone for gap in each.missing]
    return replace(report, missing=(*missing, *gaps))


def _labels(runs: Sequence[ReportedRun]) -> list[str]:
    """The loss of each run; where losses are equal also the student, the recipe, the seed or the id."""
    names, ids = [run.record.names for run in runs], [run.record.run_id for run in runs]
    parts = [[str(each.get("loss", "?"))] for each in names]
    facts = [[str(each.get(key, "?")) for each in names] for key in ("student", "recipe")]
    facts += [[f"seed {run.record.identity.get('seed', '?')}" for run in runs], ids]
    for values in facts:
        if len(set(map(tuple, parts))) == len(runs):
            break
        if len(set(values)) > 1:
            parts = [[*each, value] for each, value in zip(parts, values, strict=True)]
    return [", ".join(each) for each in parts]


def teacher_of(record: RunRecord, runs_dir: Path) -> tuple[RunRecord | None, str]:
    """The finished run of a run's teacher, from the folder of `record` or from `runs_dir`.

    Without it, the reason as a sentence; empty where the run has no teacher, or one whose weights belong to no run.
    Raises StorageError if it is damaged.
    """
    facts = (record.result or {}).get("teacher")
    if not isinstance(facts, Mapping) or facts.get("run_id") is None:
        return None, ""
    teacher = str(facts.get("run_id"))
    folders = list(dict.fromkeys((record.path.parent, runs_dir)))
    for folder in folders:
        try:
            found = finished_run(folder, teacher, weights=False)
        except ValueError:
            continue
        if found.result and found.result["weights_sha256"] != facts.get("weights_sha256"):
            return None, f"the weights of the teacher's run {teacher} have changed since {record.run_id} was trained"
        return found, ""
    searched = " or ".join(map(str, folders))
    return None, f"the run of the teacher, {teacher}, is not in {searched}: bring it by distill import"


def read_provenance(record: RunRecord) -> Mapping[str, Any]:
    """The run's provenance.json, empty where it is missing or damaged: the report does not need it."""
    try:
        return read_json(record.path / PROVENANCE) or {}
    except StorageError:
        return {}


def unlike_images(record: RunRecord, other: RunRecord) -> bool:
    """Whether two runs are known to be evaluated on different images."""
    mine, theirs = (_evaluated(each) for each in (record, other))
    return mine is not None and theirs is not None and mine != theirs


def _evaluated(record: RunRecord) -> Any:
    """What identifies the evaluation images: the test set's digest, or the training set's and the hold-out."""
    data = record.identity.get("data")
    if not isinstance(data, Mapping) or data.get("train") is None:
        return None
    return (data["train"], data["holdout"]) if data.get("holdout") else data.get("test")
