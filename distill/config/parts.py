"""The parts of one job, each built from its checked node: what cannot be built becomes faults of that node."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from distill.config.build import build_dataset, build_objective, build_recipe, usable_device
from distill.config.check import resolve, signature
from distill.config.compose.composer import Composed
from distill.config.faults import Fault, Refused
from distill.config.rebuild import check_trusted
from distill.config.rehearsal import BuiltMethod, has_fault
from distill.config.teacher_view import class_positions
from distill.config.teachers import ELSEWHERE, own_class
from distill.config.weights import start_network, weights_digest
from distill.data import SHAPES, Dataset
from distill.runs.files import StorageError
from distill.runs.store import RunRecord, finished_run
from distill.training import probe, this_world, why_not_compiled

T = TypeVar("T")
VIEW_KEYS = ("input", "classes", "mean", "std", "expected")


def attempt(construct: Callable[[Any], T], node: Any, path: str, faults: list[Fault]) -> T | None:
    """What `construct` makes of a node without faults so far; its refusal becomes faults at `path`."""
    if not isinstance(node, Mapping) or has_fault(path, faults):
        return None
    try:
        return construct(node)
    except Refused as refused:
        # constructors write their remedies as `set recipe.epochs`, also where the node stands at teacher.recipe
        own = path.rpartition(".")[2]
        faults += (replace(f, key=path, text=re.sub(rf"\b{own}\.", f"{path}.", f.text)) for f in refused.faults)
        return None


def device_of(engine: Any, faults: list[Fault]) -> torch.device | None:
    """The device that `engine.device` names, and a fault for each key of the engine that it cannot honour."""
    if not isinstance(engine, Mapping) or not isinstance(engine.get("device"), str):
        return None
    try:
        device = usable_device(engine["device"], key="engine.device")
    except Refused as refused:
        faults += refused.faults
        return None
    if engine.get("capture") is True and device.type != "cuda":
        text = f"engine.capture=true needs a CUDA device, this run computes on {device.type}: set engine.capture=auto"
        faults.append(Fault("engine.capture", "value", text))
    faults += _world_faults(engine, device)
    lacking = why_not_compiled(device) if engine.get("compile") is True else None
    if lacking is not None:
        text = f"engine.compile=true cannot be used here, {lacking}: install it, or set engine.compile=false"
        faults.append(Fault("engine.compile", "value", text))
    return device


def _world_faults(engine: Mapping[str, Any], device: torch.device) -> list[Fault]:
    """What of the engine several processes cannot honour."""
    world, faults = this_world(), []
    if world.size == 1:
        return []
    for key in ("capture", "compile"):
        if engine.get(key) is True:
            text = f"engine.{key}=true cannot be used by several processes yet: set engine.{key}=false"
            faults.append(Fault(f"engine.{key}", "value", text))
    gpus = torch.cuda.device_count()
    if device.index is not None:
        text = f"engine.device={device} is one device for {world.size} processes: leave it out, each takes its own"
        faults.append(Fault("engine.device", "value", text))
    elif device.type == "cuda" and world.local_size > gpus:
        text = f"{world.local_size} processes on this machine have {gpus} GPUs: start one for each GPU at most"
        faults.append(Fault("engine.device", "value", text))
    return faults


def precision_notes(wanted: str, device: torch.device) -> tuple[str, ...]:
    """The format that `precision=auto` has become, and why; nothing where a format was named."""
    if wanted != "auto":
        return ()
    precision, reason = probe(device)
    return (f"precision=auto is {precision}: {reason}",)


def method_of(node: Any, path: str, faults: list[Fault]) -> BuiltMethod | None:
    """The objective of a node without faults so far."""
    objective = attempt(lambda sound: build_objective(sound, seed=0), node, path, faults)
    return None if objective is None else BuiltMethod(node, objective)


def needs_teacher(method: BuiltMethod | None, node: Any) -> bool:
    """The objective's flag, or that of its class where a fault keeps it from being built."""
    if method is not None:
        return method.flags.needs_teacher
    try:
        return isinstance(node, Mapping) and bool(getattr(resolve(str(node["_target_"])), "needs_teacher", False))
    except (Refused, KeyError):
        return False


def teachers_method(node: Mapping[str, Any], faults: list[Fault]) -> BuiltMethod | None:
    """The objective that a teacher without a finished run is trained with."""
    attempt(build_recipe, node.get("recipe"), "teacher.recipe", faults)
    method = method_of(node.get("loss"), "teacher.loss", faults)
    if method is not None and method.flags.needs_teacher:
        text = "teacher.loss must not need a teacher itself: set loss@teacher.loss=ce"
        faults.append(Fault("teacher.loss", "conflict", text))
    return method


def data_of(node: Any, faults: list[Fault], *, may_download: bool) -> tuple[Dataset | None, tuple[int, int] | None]:
    """The data set, and its classes and image size.

    Where it has to be downloaded later there is none and no fault; of some data sets the shape is known all the same.
    """
    if not isinstance(node, Mapping) or has_fault("dataset", faults):
        return None, None
    later = node.get("download") is True and (faults or not may_download)
    try:
        dataset = build_dataset({**node, "download": False} if later else node)
    except Refused as refused:
        if not (later and all(fault.kind == "absent" for fault in refused.faults)):
            faults += (replace(fault, key="dataset") for fault in refused.faults)
            return None, None
        return None, SHAPES.get(resolve(str(node["_target_"])))
    return dataset, (dataset.num_classes, dataset.image_size)


def without_start(composed: Composed, faults: list[Fault]) -> tuple[Composed, str | None]:
    """The job without `student.weights`, and its value; a network that has a key of this name keeps it."""
    node = composed.config.get("student")
    if not isinstance(node, Mapping) or "weights" not in node:
        return composed, None
    try:
        if "weights" in signature(resolve(str(node["_target_"]))).annotations:
            return composed, None
    except (Refused, KeyError):  # reported where the node is checked
        return composed, None
    rest = {**composed.config, "student": {key: value for key, value in node.items() if key != "weights"}}
    given = node["weights"]
    if given is not None and (not isinstance(given, str) or not given):
        text = f"student.weights must be a file or a finished run, got {given!r}: name one, or leave it out"
        faults.append(Fault("student.weights", "type", text))
        given = None
    return replace(composed, config=rest), given


def start_of(
    node: Mapping[str, Any], weights: str, runs_dir: Path, num_classes: int, faults: list[Fault]
) -> dict[str, str] | None:
    """What a configuration holds of the weights that its student starts from."""
    try:
        network = start_network(node, weights, runs_dir, classes=num_classes)
    except Refused as refused:
        faults += refused.at("student.weights")
    except StorageError as error:
        faults.append(Fault("student.weights", "absent", f"student.weights: {error}"))
    else:
        return {"weights": weights, "sha256": weights_digest(network)}
    return None


def teacher_key_faults(teacher: Mapping[str, Any], faults: Sequence[Fault]) -> list[Fault]:
    """A fault where keys of `teacher`, sound in themselves, contradict each other, or need a teacher from elsewhere."""
    origins = [key for key in ("run", *ELSEWHERE) if teacher.get(key)]
    if len(origins) > 1:
        text = f"teacher.{origins[0]} and teacher.{origins[1]} both name a teacher: give one of them"
        return [Fault(f"teacher.{origins[1]}", "conflict", text)]
    set_keys = [key for key in VIEW_KEYS if teacher.get(key) not in (None, "stream")]
    given = [key for key in set_keys if not has_fault(f"teacher.{key}", faults)]
    if given and not origins:
        text = f"teacher.{given[0]} is for a teacher that was trained elsewhere: add teacher.pretrained=true, "
        text += f"teacher.weights=FILE or teacher.run=ID, or leave teacher.{given[0]} out"
        return [Fault(f"teacher.{given[0]}", "conflict", text)]
    return []


def finished_teacher_of(
    runs_dir: Path, teacher: Mapping[str, Any], num_classes: int, faults: list[Fault]
) -> RunRecord | None:
    """The finished run that `teacher.run` names, if it has as many classes as the data set, or `teacher.classes` says
    which of them are the data set's.
    """
    run = teacher["run"]
    if Path(run).is_file():
        command = f"distill import {run} student=NAME dataset=NAME"
        text = f"teacher.run={run} is a file, not a run: `{command}` makes a run of it"
        faults.append(Fault("teacher.run", "value", text))
        return None
    try:
        record = finished_run(runs_dir, run)
        check_trusted(record, own=own_class(teacher))
    except (ValueError, StorageError) as error:
        remedy = "; `distill import FILE` makes a run of a file of weights" if Path(run).suffix else ""
        faults.append(Fault("teacher.run", "absent", f"teacher.run: {error}{remedy}"))
        return None
    assert record.result is not None
    classes = record.result["classes"]
    try:
        names = [str(number) for number in range(num_classes)]
        if teacher.get("classes") is not None or classes == num_classes:
            class_positions(teacher.get("classes"), names, own=(), count=classes)
            return record
    except Refused as refused:
        faults += refused.faults
        return None
    text = (
        f"teacher.run={run} has {classes} classes, the data set has {num_classes}: "
        "choose a teacher trained on this data set"
    )
    faults.append(Fault("teacher.run", "conflict", text))
    return None
