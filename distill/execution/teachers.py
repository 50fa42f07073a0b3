"""A run's teacher: the network of a finished run, measured once, run on every batch or read from a table."""

import contextlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor, nn

from distill.config.plan import RunPlan, not_from_a_table, teacher_precision
from distill.config.rebuild import load_into, rebuild_network
from distill.data import EvaluationStream
from distill.execution.progress import duration
from distill.execution.stopping import Interrupted, RunFailed, stop_signals
from distill.models import folded
from distill.runs.files import StorageError, read_json, write_json
from distill.runs.layout import TABLES
from distill.runs.lock import RunLock
from distill.runs.store import RunRecord, size_of
from distill.teachers import LiveTeacher, TableTeacher, Teacher
from distill.teachers.table_build import NonFiniteLogits, Progress, answers, build, missing_room
from distill.teachers.table_file import TableFile
from distill.teachers.table_spec import TableSpec
from distill.training import evaluate

EVALUATIONS = "evaluations.json"  # measured accuracies by (weights, data, precision), in the teacher's run directory
EVALUATION_BATCH = 256
TABLE_PIXELS = {"cpu": 256 * 32**2, "cuda": 2048 * 32**2}  # of a batch while a table is built
REPORTED_SHARE = 0.1  # of the table, between two lines of progress

Note = Callable[[str], None]


@dataclass(frozen=True)
class MeasuredTeacher:
    """A teacher ready to be used, and what its students' results record about it."""

    network: Teacher
    facts: Mapping[str, object]


def measured_teacher(plan: RunPlan, record: RunRecord, *, source: str, note: Note) -> MeasuredTeacher:
    """The frozen network of the finished run `record` as `plan`'s teacher; `source` is `live` or `table`.

    Where the method reads logits alone, BatchNorm is folded into the network, which is measured in that form.

    Raises:
        StorageError: its weights are damaged, its accuracy is not the recorded one, or its table cannot be stored.
        RunFailed, Interrupted: its table could not be finished.
    """
    assert record.result is not None
    if isinstance(plan.teacher, RunPlan):
        network = plan.teacher.network()
        load_into(network, record)
    else:
        network = rebuild_network(record)
    precision = teacher_precision(plan)
    network = network.to(plan.device)
    if plan.device.type == "cuda":  # the memory format of the batches: otherwise every convolution converts its weights
        network = network.to(memory_format=torch.channels_last)
    taps = not plan.method.logits_only
    used = network if taps else folded(network, image_size=plan.dataset.image_size)
    is_folded = used is not network
    accuracy = _accuracy(plan, record, used, precision, note, is_folded=is_folded)
    weights = record.result["weights_sha256"]
    facts = {"run_id": record.run_id, "weights_sha256": weights, "accuracy": accuracy, "source": source}
    if source == "live":
        live = LiveTeacher(network, weights=weights, precision=precision, taps=taps, fast=used)
        return MeasuredTeacher(live, {**facts, "folded": is_folded})
    file = table_file(plan, record)
    rows = ready_rows(file, used, plan, note=note)
    table = TableTeacher(rows, spec=file.spec, network=network, device=plan.device)
    return MeasuredTeacher(table, {**facts, "table": file.spec.key})


def _accuracy(
    plan: RunPlan, record: RunRecord, network: nn.Module, precision: str, note: Note, *, is_folded: bool
) -> float:
    """The teacher's accuracy in percent, measured once per (weights, data, precision) and kept in its directory.

    A folded network rounds differently, and one image in thousands may change class: it is measured separately.
    """
    assert record.result is not None
    data = plan.identity["data"]
    facts = [record.result["weights_sha256"], data, precision, plan.device.type, *(["folded"] if is_folded else [])]
    key = sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    path = record.path / EVALUATIONS
    known: dict[str, Any] = {}
    with contextlib.suppress(StorageError):  # a damaged file is written anew
        known = read_json(path) or {}
    with contextlib.suppress(KeyError, TypeError, ValueError):  # not measured yet
        return float(known[key]["accuracy"])
    stream = EvaluationStream(plan.dataset, batch_size=EVALUATION_BATCH, device=plan.device)
    measured = evaluate(network, stream, precision=precision)
    if record.identity.get("data") == data:
        recorded = record.result["last"]["accuracy"]
        if not measured.agrees(recorded):
            raise StorageError(
                f"the teacher {record.path} has {measured.accuracy:.2f} % where its record says {recorded:.2f} %: "
                "its weights or the data have changed; delete its folder to train it again"
            )
    form = f"{precision}, folded" if is_folded else precision
    note(f"teacher {record.path.name}: {plan.dataset.split} {measured.accuracy:.2f} % ({form})")
    entry = {
        "accuracy": measured.accuracy,
        "split": plan.dataset.split,
        "precision": precision,
        "device": plan.device.type,
        "folded": is_folded,
    }
    with contextlib.suppress(StorageError):  # a read-only store is measured again next time
        write_json(path, {**known, key: entry})
    return measured.accuracy


def choose_source(plan: RunPlan, record: RunRecord, *, kept: str | None, epochs: int, note: Note) -> str:
    """`live` or `table`: the pinned source, else the one the run began with, else the one with fewer forwards.

    Args:
        plan: a run with a teacher.
        record: the teacher's run.
        kept: the source in the run's checkpoint, where there is one.
        epochs: of forwards of a live teacher, of all runs of this command.
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
    source, reason = _cheaper(plan, record, epochs)
    note(f"teacher {record.path.name}: source {source}, {reason}")
    return source


def _cheaper(plan: RunPlan, record: RunRecord, epochs: int) -> tuple[str, str]:
    """The source that takes fewer forwards, and why."""
    unfit = not_from_a_table(plan.method)
    if unfit is not None:
        return "live", f"since no table can serve {plan.names['loss']}: {unfit}"
    file = table_file(plan, record)
    _, missing = file.open()
    if not missing:
        return "table", f"which exists already ({file.folder})"
    cost = sum(len(file.span(chunk)) for chunk in missing)
    images, views = file.spec.images, file.spec.views
    worth_it = -(-cost // images)
    reason = (
        f"{epochs * images:,} forwards in {epochs} epochs of {images:,} images against {cost:,} to build a table of "
        f"its logits ({views} views): the table pays off from {worth_it} epochs on"
    )
    if epochs * images <= cost:
        return "live", reason
    if not os.access(record.path, os.W_OK):
        return "live", f"since {record.path} cannot be written to"
    room = missing_room(file, missing)
    return ("live", f"since {room}") if room else ("table", reason)


def table_file(plan: RunPlan, record: RunRecord) -> TableFile:
    """The table that would serve `plan`, in the run directory of its teacher; it may not exist yet."""
    assert record.result is not None
    spec = TableSpec.of(
        plan.dataset,
        weights=record.result["weights_sha256"],
        precision=teacher_precision(plan),
        device=plan.device.type,
    )
    return TableFile(record.path / TABLES / spec.key, spec)


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
