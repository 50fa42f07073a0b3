"""From a finished run to a teacher that has been measured."""

import contextlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import nn

from distill.config.plan import RunPlan, teacher_precision
from distill.config.rebuild import load_into, rebuild_network
from distill.data import EvaluationStream
from distill.execution.teacher_table import ready_rows, table_file
from distill.models import folded
from distill.runs.files import StorageError, read_json, write_json
from distill.runs.store import RunRecord
from distill.teachers import LiveTeacher, TableTeacher, Teacher
from distill.training import evaluate

EVALUATIONS = "evaluations.json"  # accuracies by (weights, data, precision), beside the weights they belong to
EVALUATION_BATCH = 256


@dataclass(frozen=True)
class MeasuredTeacher:
    """A teacher ready to answer, and what is recorded about it in its students' results."""

    network: Teacher
    facts: Mapping[str, object]


def measured_teacher(plan: RunPlan, record: RunRecord, *, source: str, note: Callable[[str], None]) -> MeasuredTeacher:
    """The frozen network of the finished run `record` as `plan`'s teacher, run `live` or read from its `table`.

    Where logits alone are asked for, it is run with its BatchNorms folded, and measured so.

    Raises:
        StorageError: its weights are damaged, its accuracy is not the one on record, or its table cannot be stored.
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
    if plan.device.type == "cuda":  # as the batches lie: else every convolution rearranges its weights
        network = network.to(memory_format=torch.channels_last)
    taps = not plan.objective().logits_only
    asked = network if taps else folded(network, image_size=plan.dataset.image_size)
    accuracy = _known_accuracy(plan, record, asked, precision, note, changed=asked is not network)
    weights = record.result["weights_sha256"]
    facts = {"run_id": record.run_id, "weights_sha256": weights, "accuracy": accuracy, "source": source}
    if source == "live":
        live = LiveTeacher(network, weights=weights, precision=precision, taps=taps, fast=asked)
        return MeasuredTeacher(live, {**facts, "folded": asked is not network})
    file = table_file(plan, record)
    rows = ready_rows(file, asked, plan, note=note)
    table = TableTeacher(rows, spec=file.spec, network=network, device=plan.device)
    return MeasuredTeacher(table, {**facts, "table": file.spec.key})


def _known_accuracy(
    plan: RunPlan, record: RunRecord, network: nn.Module, precision: str, note: Callable[[str], None], *, changed: bool
) -> float:
    """Measured once per (weights, data, precision) and remembered in the teacher's run directory.

    A network that was `changed`, its BatchNorms folded, rounds differently: one image in thousands may change sides,
    so it is measured for itself.
    """
    assert record.result is not None
    data = plan.identity["data"]
    facts = [record.result["weights_sha256"], data, precision, plan.device.type, *(["folded"] if changed else [])]
    content = json.dumps(facts, sort_keys=True)
    key = sha256(content.encode()).hexdigest()[:16]
    path = record.path / EVALUATIONS
    known = _remembered(path)
    with contextlib.suppress(KeyError, TypeError, ValueError):  # not measured before, or no note of ours
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
    form = f"{precision}, folded" if changed else precision
    note(f"teacher {record.path.name}: {plan.dataset.split} {measured.accuracy:.2f} % ({form})")
    entry = {
        "accuracy": measured.accuracy,
        "split": plan.dataset.split,
        "precision": precision,
        "device": plan.device.type,
        "folded": changed,
    }
    with contextlib.suppress(StorageError):  # a store that cannot be written to is measured again next time
        write_json(path, {**known, key: entry})
    return measured.accuracy


def _remembered(path: Path) -> dict[str, Any]:
    """What was measured before; a damaged note is measured again."""
    try:
        return read_json(path) or {}
    except StorageError:
        return {}
