"""What an epoch of a run costs here: from the timings of runs like it, else in proportion to multiply-adds."""

import json
import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from distill.config.build import Refused, build_network
from distill.config.plan import RunPlan
from distill.config.rebuild import TRUSTED
from distill.models import profile
from distill.runs.files import StorageError, read_json
from distill.runs.layout import METRICS, PROVENANCE, TIMING
from distill.runs.lines import read_lines
from distill.runs.provenance import device_name
from distill.runs.store import RunRecord, scan
from distill.training import autocast

FORWARD_AND_BACKWARD = 3  # in forwards
RECENT = 10  # epochs of a run that are looked at
PROBE_SECONDS, PROBE_BATCH = 2.0, 64

ALIKE = "from the times of runs like them"
SCALED = "by multiply-adds, from the times of other runs here"
PROBED = "by multiply-adds, from a probe of the first student"
UNKNOWN = "unknown until the first of its kind has run"


@dataclass(frozen=True)
class Sample:
    """What a run on this machine took: seconds per training image, and per evaluated image."""

    student: str
    teacher: str
    method: str
    image: float
    evaluation: float
    work: float | None  # multiply-adds of one trained image


class Costs:
    """Estimates for runs on one device; what has been trained meanwhile counts after `refresh`."""

    def __init__(self, runs_dir: Path, plan: RunPlan) -> None:
        self._runs_dir, self._device, self._precision = runs_dir, plan.device, plan.precision
        self._threads = plan.config["engine"]["threads"] or torch.get_num_threads()
        self._probed: float | None = None
        self.refresh()

    def refresh(self) -> None:
        """Look at the store again."""
        try:
            self._samples = list(self._read())
        except StorageError:
            self._samples = []

    def epoch(self, plan: RunPlan) -> tuple[float | None, str]:
        """Seconds of an epoch, its evaluation included, and what that rests on; None where nothing is known."""
        dataset = plan.dataset
        images, evaluated = len(dataset.train_labels), len(dataset.evaluation_labels)
        alike = self._alike(plan)
        if alike:
            image, evaluation = (statistics.median(values) for values in zip(*alike, strict=True))
            return images * image + evaluated * evaluation, ALIKE
        student, teacher = (_macs(text, dataset.num_classes, dataset.image_size) for text in _networks(plan))
        if student is None or teacher is None:
            return None, UNKNOWN
        work = images * (FORWARD_AND_BACKWARD * student + teacher) + evaluated * student
        rates = [sample.image / sample.work for sample in self._samples if sample.work]
        if rates:
            return work * statistics.median(rates), SCALED
        if self._probed is None:
            self._probed = probe(plan) / (FORWARD_AND_BACKWARD * student)
        return work * self._probed, PROBED

    def _alike(self, plan: RunPlan) -> list[tuple[float, float]]:
        """Seconds per image of runs of the same networks, and of the same method where there are some."""
        student, teacher = _networks(plan)
        same = [sample for sample in self._samples if (sample.student, sample.teacher) == (student, teacher)]
        method = _method(plan.identity)
        closest = [sample for sample in same if sample.method == method] or same
        return [(sample.image, sample.evaluation) for sample in closest]

    def _read(self) -> Iterator[Sample]:
        here = device_name(self._device)
        for record in scan(self._runs_dir):
            if record.status == "damaged" or record.identity.get("precision") != self._precision:
                continue
            try:
                provenance = read_json(record.path / PROVENANCE) or {}
                same_threads = self._device.type != "cpu" or provenance.get("threads") == self._threads
                if provenance.get("device") == here and same_threads:
                    yield from _samples(record)
            except (StorageError, KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError):
                continue  # a damaged record of times is no reason not to train


def _samples(record: RunRecord) -> Iterator[Sample]:
    timing, metrics = read_lines(record.path / TIMING)[-RECENT:], read_lines(record.path / METRICS)
    if not timing or not metrics:
        return
    split = "test" if "test" in metrics[-1] else "holdout"
    evaluated = metrics[-1][split]["count"]
    student, teacher = _node(record.config["student"]), _teacher_node(record.config, record.names.get("teacher"))
    size, classes = (record.result or {}).get("image_size"), (record.result or {}).get("classes")
    works = [_macs(text, classes, size) for text in (student, teacher)] if size and classes else [None]
    yield Sample(
        student=student,
        teacher=teacher,
        method=_method(record.identity),
        image=statistics.median(1 / line["images_per_second"] for line in timing),
        evaluation=statistics.median(line["evaluation_seconds"] / evaluated for line in timing),
        work=None if None in works else FORWARD_AND_BACKWARD * (works[0] or 0) + (works[1] or 0),
    )


def _networks(plan: RunPlan) -> tuple[str, str]:
    return _node(plan.config["student"]), _teacher_node(plan.config, plan.names.get("teacher"))


def _teacher_node(config: Mapping[str, Any], name: object) -> str:
    """The teacher's network as text, empty where there is none."""
    teacher = config.get("teacher")
    return _node(teacher["network"]) if isinstance(teacher, Mapping) and name != "none" else ""


def _node(node: Mapping[str, Any]) -> str:
    return json.dumps(node, sort_keys=True)


def _method(identity: Mapping[str, Any]) -> str:
    objective = identity["objective"]
    parts = [objective.get("target"), *((objective.get(key) or {}).get("target") for key in ("divergence", "distance"))]
    return json.dumps(parts)


@lru_cache(maxsize=256)
def _macs(node: str, classes: int, image_size: int) -> int | None:
    """Multiply-adds of one image, 0 for no network; None for one that is not ours or cannot be counted."""
    if not node:
        return 0
    content = json.loads(node)
    if content.get("_target_") not in TRUSTED or content.get("pretrained") or content.get("weights"):
        return None
    try:
        with torch.device("meta"):
            network: Any = build_network(content, num_classes=classes, seed=0)
        return profile(network, image_size=image_size).macs
    except (Refused, RuntimeError, ValueError):
        return None


def probe(plan: RunPlan) -> float:
    """Seconds in which the plan's student is trained on one image here, timed for a moment; nothing is kept."""
    network = plan.network().to(plan.device).train()
    batch = min(PROBE_BATCH, plan.recipe.batch_size)
    images = torch.randn(batch, 3, plan.dataset.image_size, plan.dataset.image_size, device=plan.device)
    threads = plan.config["engine"]["threads"]
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    times: list[float] = []
    begin = time.monotonic()
    try:
        while len(times) < 4 and time.monotonic() - begin < PROBE_SECONDS:
            start = time.monotonic()
            with autocast(plan.precision, plan.device):
                logits = network(images).logits
            logits.float().square().mean().backward()
            float(logits.detach().sum())  # waits for the device
            times.append(time.monotonic() - start)
    finally:
        torch.set_num_threads(before)
    return min(times) / batch
