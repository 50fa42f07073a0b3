"""Loads a run's teacher, measures its accuracy once, and runs it on every batch or reads its logits from a table."""

import contextlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, cast

import torch
from torch import Tensor, nn

from distill.config.plan import RunPlan, TeacherFacts, TeacherSource, not_from_a_table
from distill.data import OrderedStream
from distill.execution.progress import duration
from distill.execution.stopping import Interrupted, RunFailed, stop_signals
from distill.models import AsTrained, folded
from distill.runs.files import StorageError, read_json, refuse_links, write_json
from distill.runs.layout import TABLES, up_to_store
from distill.runs.lock import RunLock
from distill.runs.store import size_of
from distill.teachers import LiveTeacher, TableTeacher, Teacher
from distill.teachers.table import TableFile, TableSpec
from distill.teachers.table_build import NonFiniteLogits, Progress, answers, build, missing_room
from distill.training import Evaluation, World, evaluate
from distill.training.device import autocast
from distill.training.evaluation import Tally, evaluating

EVALUATIONS = "evaluations.json"  # measured accuracies by (weights, data, precision), in the teacher's run directory
MEASURED = ("accuracy", "crop_accuracy", "mass_outside")  # in percent
EVALUATION_BATCH, EVALUATION_PIXELS = 256, 1000 * 32**2  # of a batch; on a GPU one may have as many pixels
FOREIGN_BATCH = 64  # of teachers that may read larger images than their students
TABLE_PIXELS = {"cpu": 256 * 32**2, "cuda": 2048 * 32**2}  # of a batch while a table is built
REPORTED_SHARE = 0.1  # of the table, between two lines of progress

Note = Callable[[str], None]


@dataclass(frozen=True)
class MeasuredTeacher:
    """A teacher ready to be used, and what its students' results record about it."""

    network: Teacher
    facts: Mapping[str, object]


def measured_teacher(
    plan: RunPlan, teacher: TeacherSource, known: TeacherFacts, *, source: str, note: Note, world: World
) -> MeasuredTeacher:
    """The frozen network of `teacher`, which `plan` has; `source` is `live` or `table`.

    Every process of `world` has it; rank 0 measures it and builds its table.

    Where the method reads logits alone, BatchNorm is folded into the network, which is measured in that form.

    Raises:
        StorageError: its weights are damaged, its accuracy is not the recorded one, or its table cannot be stored.
        RunFailed, Interrupted: its table could not be finished.
    """
    precision = teacher.precision
    network = teacher.network().to(plan.device)
    if plan.device.type == "cuda":  # the memory format of the batches: otherwise every convolution converts its weights
        network = network.to(memory_format=torch.channels_last)
    taps = not plan.method.logits_only
    unfolded = taps or plan.method.teacher_batch_statistics  # BatchNorm cannot be folded where each batch decides it
    used = network if unfolded else folded(network, image_size=plan.dataset.image_size)
    is_folded = used is not network
    measured = world.first(lambda: _measured(plan, known, used, network, precision, note))
    facts = {"run_id": known.run_id, "weights_sha256": known.weights, **measured, "source": source}
    if source == "live":
        live = LiveTeacher(
            network,
            weights=known.key,
            precision=precision,
            taps=taps,
            fast=used,
            batch_statistics=plan.method.teacher_batch_statistics,
        )
        return MeasuredTeacher(live, {**facts, "folded": is_folded})
    file = table_file(plan, known)
    world.first(lambda: len(ready_rows(file, used, plan, note=note)))
    rows = ready_rows(file, used, plan, note=note)
    table = TableTeacher(rows, spec=file.spec, network=network, device=plan.device)
    return MeasuredTeacher(table, {**facts, "table": file.spec.key})


def evaluation_batch(device: torch.device, image_size: int) -> int:
    """Images of a batch of an evaluation: more on a GPU, where small ones take as long to launch as large ones."""
    return max(EVALUATION_BATCH, EVALUATION_PIXELS // image_size**2) if device.type == "cuda" else EVALUATION_BATCH


def _measured(
    plan: RunPlan, known: TeacherFacts, used: nn.Module, network: nn.Module, precision: str, note: Note
) -> dict[str, float]:
    """A teacher's accuracies on its students' data in percent, measured once per (teacher, data, precision) and kept.

    accuracy        on the evaluation images
    crop_accuracy   on the training crops of one epoch, where it was not trained on such crops
    mass_outside    the mean probability of its classes that the data set does not have, if there are any

    `used` is the network, or the network folded, which rounds differently: one image in thousands may change class, so
    it is measured separately. Raises StorageError where an accuracy is not what it must be.
    """
    is_folded = used is not network
    facts = [known.key, plan.identity["data"], precision, plan.device.type, *(["folded"] if is_folded else [])]
    key = sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    path = known.folder / EVALUATIONS
    kept: dict[str, Any] = {}
    with contextlib.suppress(StorageError):  # a damaged file is written anew
        kept = read_json(path) or {}
    classes, images = plan.dataset.num_classes, len(plan.dataset.evaluation_labels)
    with contextlib.suppress(KeyError, TypeError, ValueError):  # not measured yet
        found = {name: float(value) for name, value in kept[key].items() if name in MEASURED}
        # what is stated for it may be newer than the measurement
        _check(Evaluation(0, images, found["accuracy"], 0.0), known, precision, classes=classes)
        return found
    batch_size = FOREIGN_BATCH if known.on_crops else evaluation_batch(plan.device, plan.dataset.image_size)
    stream = plan.dataset.evaluation_stream(batch_size=batch_size, device=plan.device)
    evaluation = evaluate(used, stream, precision=precision)
    name = known.folder.name
    _check(evaluation, known, precision, classes=classes)
    form = f"{precision}, folded" if is_folded else precision
    note(f"teacher {name}: {plan.dataset.split} {evaluation.accuracy:.2f} % ({form})")
    found = {"accuracy": evaluation.accuracy}
    if known.on_crops:
        note(f"teacher {name}: one epoch of training crops is measured, since it was not trained on them")
        crops = _on_crops(plan, used, precision)
        _check(crops, replace(known, reference=None), precision, classes=classes)
        found["crop_accuracy"] = crops.accuracy
    if known.chooses:
        found["mass_outside"] = _mass_outside(cast(AsTrained, network), stream, precision)
    if len(found) > 1:
        said = {"crop_accuracy": "training crops", "mass_outside": "probability of its other classes"}
        note(f"teacher {name}: " + ", ".join(f"{said[k]} {found[k]:.2f} %" for k in said if k in found))
    where = {"split": plan.dataset.split, "precision": precision, "device": plan.device.type, "folded": is_folded}
    with contextlib.suppress(StorageError, OSError):  # in a read-only store the teacher is measured again next time
        refuse_links(*up_to_store(known.folder))
        known.folder.mkdir(parents=True, exist_ok=True)
        write_json(path, {**kept, key: {**found, **where}})
    return found


def _on_crops(plan: RunPlan, network: nn.Module, precision: str) -> Evaluation:
    """The accuracy on the crops of one epoch, of the same epoch for every student."""
    stream = plan.dataset.stream(batch_size=FOREIGN_BATCH, seed=0, device=plan.device)
    tally = Tally(network, precision=precision, device=plan.device)
    with evaluating(network):
        for batch in stream.epoch(1):
            tally.add(batch)
    return tally.read(stream.count)


@torch.no_grad()
def _mass_outside(network: AsTrained, stream: OrderedStream, precision: str) -> float:
    with evaluating(network), autocast(precision, stream.device):
        found = torch.cat([network.mass_outside(batch.images).float() for batch in stream])
    return 100 * float(found.mean())


def _check(measured: Evaluation, known: TeacherFacts, precision: str, *, classes: int) -> None:
    """Raise StorageError where a teacher's accuracy is not what it must be."""
    reference, found = known.reference, f"the teacher {known.folder} has {measured.accuracy:.2f} %"
    if reference is not None:
        coarser = "bf16" if "bf16" in (precision, reference.precision) else precision
        if not measured.agrees(reference.accuracy, precision=coarser, tolerance=reference.tolerance):
            raise StorageError(f"{found} where {reference.states} {reference.accuracy:.2f} %: {reference.remedy}")
        return
    # three times chance; with fewer than five classes the middle between chance and 100 %
    least = min(300 / classes, 50 + 50 / classes)
    if measured.accuracy < least:
        raise StorageError(
            f"{found} on the evaluation images, and no accuracy is stated for it: a teacher of {classes} classes "
            f"must have {least:.1f} % at least; is its normalisation right, and the order of its classes?"
        )


def choose_source(plan: RunPlan, known: TeacherFacts, *, kept: str | None, epochs: int, note: Note) -> str:
    """`live` or `table`: the pinned source, else the one the run began with, else the one with fewer forwards.

    Args:
        plan: a run with a teacher.
        known: the facts of its teacher.
        kept: the source in the run's checkpoint, where there is one.
        epochs: how many epochs of forwards a live teacher needs for all runs of this command.
        note: receives the reason.

    Raises:
        RunFailed: the run began with another source than the one now pinned.
    """
    pinned = plan.config["teacher"]["source"]
    if kept is not None:
        if pinned not in ("auto", kept):
            raise RunFailed(
                f"{plan.directory} began with teacher.source={kept}: leave the source out to finish it so, "
                f"or repeat it with teacher.source={pinned} under another runs_dir"
            )
        return kept
    if pinned != "auto":
        return str(pinned)
    source, reason = _cheaper(plan, known, epochs)
    note(f"teacher {known.folder.name}: source {source}, {reason}")
    return source


def _cheaper(plan: RunPlan, known: TeacherFacts, epochs: int) -> tuple[str, str]:
    """The source that takes fewer forwards, and why."""
    unfit = not_from_a_table(plan.method)
    if unfit is not None:
        return "live", f"since no table can serve {plan.names['loss']}: {unfit}"
    if plan.dataset.num_views is None:
        return "live", "since random crops of photographs cannot be enumerated for a table"
    file = table_file(plan, known)
    _, missing = file.open()
    if not missing:
        return "table", f"which exists already ({file.folder})"
    cost = sum(len(file.span(chunk)) for chunk in missing)
    images, views = file.spec.images, file.spec.views
    worth_it = -(-cost // images)
    reason = (
        f"{epochs * images:,} forwards in {epochs} epochs\n"
        f"  a table of its logits takes {cost:,} ({views} views) and pays off from {worth_it} epochs on"
    )
    if epochs * images <= cost:
        return "live", reason
    if not os.access(next(each for each in (known.folder, *known.folder.parents) if each.exists()), os.W_OK):
        return "live", f"since {known.folder} cannot be written to"
    room = missing_room(file, missing)
    return ("live", f"since {room}") if room else ("table", reason)


def table_file(plan: RunPlan, known: TeacherFacts) -> TableFile:
    """The table that would serve `plan`, in the folder of its teacher; it may not exist yet."""
    assert plan.teacher is not None
    precision = plan.teacher.precision
    spec = TableSpec.of(plan.dataset, weights=known.key, precision=precision, device=plan.device.type)
    return TableFile(known.folder / TABLES / spec.key, spec)


def ready_rows(file: TableFile, network: nn.Module, plan: RunPlan, *, note: Note) -> Tensor:
    """The memory-mapped rows of the table, which is built or finished first where rows are missing.

    Raises:
        StorageError: there is no room, or the folder cannot be written to.
        RunFailed: the teacher's logits are not finite.
        Interrupted: stopped on request; the finished part is kept.
    """
    rows, missing = file.open()
    if rows is not None:
        return rows
    with RunLock(file.folder) as lock:
        lock.wait(lambda who: note(f"waiting for the table in {file.folder}: {who} is building it"))
        rows, missing = file.open()
        if rows is None:
            room = missing_room(file, missing)
            if room:
                raise StorageError(f"{room}: free some, or set teacher.source=live")
            _build(file, missing, network, plan, note)
            rows, missing = file.open()
    if rows is None:
        raise StorageError(
            f"the table in {file.folder} does not read back as it was written: check the disk, or set "
            "teacher.source=live"
        )
    return rows


def _build(file: TableFile, missing: list[int], network: nn.Module, plan: RunPlan, note: Note) -> None:
    spec = file.spec
    note(
        f"building a table of the teacher's logits: {spec.images:,} images x {spec.views} views x {spec.classes} "
        f"classes, {size_of(spec.bytes)} in {file.folder}"
    )
    reported = -1.0

    def report(progress: Progress) -> None:
        nonlocal reported
        share = progress.done / progress.rows
        if progress.done == progress.rows or share >= reported + REPORTED_SHARE:
            reported = share
            note(f"table: {progress.done:,} of {progress.rows:,} rows, {duration(progress.seconds_left)} left")

    answer = answers(network, plan.dataset, precision=spec.precision, device=plan.device)
    pixels = TABLE_PIXELS["cuda" if plan.device.type == "cuda" else "cpu"]
    batch_size = max(1, pixels // plan.dataset.image_size**2)
    with stop_signals() as stop_requested:
        try:
            done = build(file, missing, answer, batch_size=batch_size, progress=report, stop_requested=stop_requested)
        except NonFiniteLogits as error:
            raise RunFailed(f"there is no table of the teacher: {error}") from error
    if not done:
        raise Interrupted("stopped while the teacher's table was built: type the command again to go on")
