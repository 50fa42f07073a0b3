"""Checks one composed job before any work; returns its `RunPlan` or raises `Refused` with everything that is wrong."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from distill.config.build import (
    build_dataset,
    build_objective,
    build_recipe,
    usable_device,
)
from distill.config.check import check_typed, reduce_alpha, resolve, signature
from distill.config.compose.composer import Composed
from distill.config.compose.names import recipe_name, run_names
from distill.config.compose.presets import UNCHOSEN, Presets
from distill.config.faults import Fault, Refused, correction, misplaced, nearest
from distill.config.plan import (
    START,
    MethodFlags,
    RunPlan,
    TeacherSource,
    first_stage_config,
    plan_run,
    source_faults,
    split_stages,
    store_conflict,
    teacher_config,
)
from distill.config.rebuild import check_trusted
from distill.config.rehearsal import BuiltMethod, check_network, check_together, has_fault
from distill.config.schema import FirstStage, Root
from distill.config.teachers import (
    ELSEWHERE,
    PlannedTeacher,
    class_positions,
    finished_teacher,
    own_class,
    published_teacher,
)
from distill.config.weights import start_network, weights_digest
from distill.data import SHAPES, Dataset
from distill.runs.files import StorageError
from distill.runs.layout import FIRST_STAGE
from distill.runs.store import RunRecord, finished_run
from distill.training import Recipe, probe, resolve_precision, this_world, why_not_compiled

T = TypeVar("T")
STAGE = f"loss.{FIRST_STAGE}"
VIEW_KEYS = ("input", "classes", "mean", "std", "expected")
# the least values of numbers that no constructor checks
AT_LEAST = {"seed": 0, "teacher.seed": 0, "engine.threads": 1, "engine.workers": 1, "engine.checkpoint_seconds": 0}
AT_LEAST |= {"engine.gradient_norms_every": 1}


def preflight(
    composed: Composed, presets: Presets, *, may_download: bool = True, uncertain: frozenset[str] = frozenset()
) -> RunPlan:
    """Check one composed job completely and identify it; nothing is written but a download that is allowed.

    Args:
        composed: the job.
        presets: where it came from.
        may_download: whether a data set that is not here may be downloaded.
        uncertain: nodes that are not those of the command, since their option does not exist: they are not checked.

    Raises:
        Refused: everything that is wrong with it. Where that is only the data set that may not be downloaded yet,
            the one fault is of kind `download`.
    """
    composed = composed if composed.config else presets.salvaged(composed)
    faults = list(composed.faults)
    if not composed.config:  # nothing could be composed, so there is nothing else to check
        raise Refused(faults)
    uncertain |= composed.uncertain
    composed, start = _without_start(composed, faults)
    config, stage = _checked(composed, uncertain, faults)
    device = _device(config.get("engine"), faults)
    recipe = _attempt(build_recipe, config.get("recipe"), "recipe", faults)
    method = _method(config.get("loss"), "loss", faults)
    first = _method(stage.get("loss"), f"{STAGE}.loss", faults)
    taught = _needs_teacher(method, config.get("loss")) or _needs_teacher(first, stage.get("loss"))
    teacher: Mapping[str, Any] = config.get("teacher") or {}
    if taught and "teacher" not in uncertain:
        faults += _choice_faults(teacher, [each.flags for each in (method, first) if each], composed.choices)
    baseline = _teachers_method(teacher, faults)
    dataset, shape = _data(config.get("dataset"), faults, may_download=may_download)
    faults += _conflicts(recipe, method, dataset, teacher if taught else {}, composed.choices)
    finished, elsewhere = None, taught and next((key for key in ELSEWHERE if teacher.get(key)), None)
    if shape is not None:
        check_network(config.get("student"), shape, "student", faults)
        if start is not None and not has_fault("student", faults) and "runs_dir" in config:
            config[START] = _start(config["student"], start, Path(config["runs_dir"]), shape[0], faults)
        check_network(teacher.get("network"), shape, "teacher.network", faults)
        if taught and isinstance(teacher.get("run"), str) and "runs_dir" in config:
            finished = _finished_teacher(Path(config["runs_dir"]), teacher, shape[0], faults)
    if shape is not None and not (faults or uncertain):
        taught_by = (finished or teacher.get("network")) if taught else None
        labels = torch.arange(shape[0]) if dataset is None else torch.tensor(dataset.train_labels)
        trained = taught_by if stage.get("network") == "teacher" else config["student"]
        weak = check_together(method, config["student"], taught_by, shape, labels, "loss", faults)
        weak += check_together(first, trained, taught_by, shape, labels, STAGE, faults)
    if faults or uncertain:
        raise Refused(faults)
    if dataset is None:
        text = "the data set is not here yet, and --cfg downloads nothing: run the command without --cfg"
        raise Refused([Fault("dataset", "download", text)])

    assert device is not None
    assert method is not None
    _check_teacher_keys(teacher)
    notes = _precision_notes(config["precision"], device)
    config["precision"] = resolve_precision(config["precision"], device)
    config["loss"] |= {FIRST_STAGE: stage} if stage else {}
    names = run_names(composed, config, presets)
    names["student"] += f" weights={Path(start).name}" if start is not None else ""
    common: dict[str, Any] = {"runs_dir": Path(config.pop("runs_dir")), "dataset": dataset, "device": device}
    guide: TeacherSource | None = None
    if not taught:
        names["teacher"], config["teacher"] = "none", None
    elif finished is not None or elsewhere:
        own = resolve_precision(teacher["precision"] or config["precision"], device)
        data = dataset.identity()
        if finished is not None:
            guide = finished_teacher(finished, teacher, dataset, config["dataset"], data, precision=own)
        else:
            given = {"name": names["teacher"], "runs_dir": common["runs_dir"], "precision": own}
            guide = published_teacher(teacher, dataset, data, **given, download=may_download)
        names["teacher"] = guide.name
    else:
        assert baseline is not None
        guide = PlannedTeacher(_teacher_plan(config, names, composed, presets, method=baseline.flags, **common))
    stage_plan = None
    if first is not None:
        stage_plan = _stage_plan(config, names, stage, method=first.flags, teacher=guide, **common)
    plan = plan_run(config, names, method=method.flags, teacher=guide, first_stage=stage_plan, **common)
    if conflict := store_conflict(plan):
        raise Refused([conflict])
    return replace(plan, notes=(*notes, *weak, *plan.notes, *dataset.notes))


def _conflicts(
    recipe: Recipe | None,
    method: BuiltMethod | None,
    dataset: Dataset | None,
    teacher: Mapping[str, Any],
    choices: Mapping[str, str],
) -> list[Fault]:
    """Values that are valid alone and not together; `teacher` is empty for a loss without one."""
    faults = []
    if recipe and recipe.label_smoothing and method and not method.objective.ce_weight:
        text = f"recipe.label_smoothing={recipe.label_smoothing} smooths the labels of the cross-entropy term, and "
        text += f"loss={choices.get('loss', '?')} has none: set recipe.label_smoothing=0"
        faults.append(Fault("recipe.label_smoothing", "conflict", text))
    if dataset is not None and dataset.num_views is None and teacher.get("source") == "table":
        text = "teacher.source=table cannot serve this data set: its random crops cannot be enumerated; set "
        faults.append(Fault("teacher.source", "conflict", text + "teacher.source=live or auto"))
    return faults


def _choice_faults(
    teacher: Mapping[str, Any], methods: Sequence[MethodFlags], choices: Mapping[str, str]
) -> list[Fault]:
    """What is wrong with the teacher of a loss that needs one: none is chosen, or its source cannot serve the loss."""
    option = choices.get("loss", "?")
    faults = source_faults(teacher, methods, option=option)
    if not (teacher.get("network") or teacher.get("run")):
        text = f"loss={option} needs a teacher: choose teacher=NAME or teacher.run=ID"
        faults.append(Fault("teacher", "missing", text))
    return faults


def _teacher_plan(
    config: Mapping[str, Any], names: Mapping[str, str], composed: Composed, presets: Presets, **given: Any
) -> RunPlan:
    """The plan of the run in which the teacher is trained; `given` goes on to `plan_run`."""
    own = teacher_config(config, given["device"])
    recipe = recipe_name(composed, own["recipe"], presets)
    own_names = {**names, "student": names["teacher"], "teacher": "none", "loss": "ce", "recipe": recipe}
    return plan_run(own, own_names, teacher=None, **given)


def _stage_plan(
    config: Mapping[str, Any],
    names: Mapping[str, str],
    stage: Mapping[str, Any],
    *,
    teacher: TeacherSource | None,
    **given: Any,
) -> RunPlan:
    """The plan of a first stage's run; `given` goes on to `plan_run`."""
    own = first_stage_config(config, stage, {} if teacher is None else teacher.node)
    student = names["student" if stage["network"] == "student" else "teacher"]
    own_names = {**names, "student": student, "loss": f"{names['loss']} {FIRST_STAGE}"}
    return plan_run(own, own_names, teacher=teacher, **given)


def _checked(
    composed: Composed, uncertain: frozenset[str], faults: list[Fault]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The configuration with its values cast, without the uncertain nodes; a first stage apart."""
    given = {override.lstrip("+").partition("=")[0].removeprefix("loss.") for override in composed.overrides}
    nodes, loss = dict(composed.config), composed.config.get("loss")
    if isinstance(loss, Mapping):
        loss = reduce_alpha(loss, given, faults, option=composed.choices.get("loss", "?"))
    nodes["loss"], stage = split_stages(loss)
    if nodes.pop("experiment", None) is not None:
        text = "the first line of an experiment's file must be '# @package _global_': its keys have no effect"
        faults.append(Fault("experiment", "value", text))
    _refuse_unknown(nodes, faults)
    config = check_typed(nodes, Root, "", faults)
    _require_recipe(config, composed, faults)
    _require_student(config, composed, faults)
    stage = check_typed(stage, FirstStage, STAGE, faults) if stage else {}
    faults[:] = [fault for fault in faults if fault.kind == "option" or not any(map(fault.within, uncertain))]
    config.pop("sweep", None)
    for path, least in {**AT_LEAST, f"{STAGE}.epochs": 1}.items():
        value: Any = {**config, "loss": {FIRST_STAGE: stage}}
        for key in path.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        if isinstance(value, int | float) and value < least:
            text = f"{path} must be >= {least}, got {value}: set {path}={max(1, least)}, for example"
            faults.append(Fault(path, "value", text))
    runs_dir = config.get("runs_dir")
    if isinstance(runs_dir, str) and Path(runs_dir).exists() and not Path(runs_dir).is_dir():
        text = f"runs_dir must be a folder, {runs_dir} is a file: set runs_dir=DIR"
        faults.append(Fault("runs_dir", "value", text))
    return {key: value for key, value in config.items() if key not in uncertain}, stage


def _refuse_unknown(nodes: dict[str, Any], faults: list[Fault]) -> None:
    """Take out the keys that a configuration does not have, with a fault for each that says where it belongs."""
    known = [field.name for field in fields(Root)]
    for key in [key for key in nodes if key not in known]:
        value = nodes.pop(key)
        text = correction(key, value) or misplaced(key, value, nodes) or f"{key} is not a key{nearest(key, known)}"
        faults.append(Fault(key, "key", text))


def _require_recipe(config: dict[str, Any], composed: Composed, faults: list[Fault]) -> None:
    """One fault for a recipe that neither the data set nor the command has chosen; the empty nodes are taken out."""
    if composed.choices.get("recipe") != "none" or (config.get("recipe") or {}).get("_target_"):
        return
    del config["recipe"]
    config["teacher"] = {key: value for key, value in (config.get("teacher") or {}).items() if key != "recipe"}
    text = (
        f"dataset={composed.choices.get('dataset', '?')} chooses no recipe: add recipe=NAME, for example recipe=cifar "
        "(240 epochs for images of 32 pixels), recipe=imagenette (20 epochs for photographs) or recipe=demo (6 epochs)"
    )
    faults[:] = [fault for fault in faults if not (fault.within("recipe") or fault.within("teacher.recipe"))]
    faults.append(Fault("recipe", "missing", text))


def _require_student(config: dict[str, Any], composed: Composed, faults: list[Fault]) -> None:
    """One fault for a student that neither the data set nor the command has chosen."""
    node = config.get("student")
    if composed.choices.get("student") != UNCHOSEN or (isinstance(node, Mapping) and node.get("_target_")):
        return
    text = (
        f"dataset={composed.choices.get('dataset', '?')} chooses no student: add student=NAME, for example "
        "student=torchvision student.name=resnet18, or student=mobilenet_v1"
    )
    faults[:] = [fault for fault in faults if not fault.within("student")]
    faults.append(Fault("student", "missing", text))


def _device(engine: Any, faults: list[Fault]) -> torch.device | None:
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


def _precision_notes(wanted: str, device: torch.device) -> tuple[str, ...]:
    """The format that `precision=auto` has become, and why; nothing where a format was named."""
    if wanted != "auto":
        return ()
    precision, reason = probe(device)
    return (f"precision=auto is {precision}: {reason}",)


def _method(node: Any, path: str, faults: list[Fault]) -> BuiltMethod | None:
    """The objective of a node without faults so far."""
    objective = _attempt(lambda sound: build_objective(sound, seed=0), node, path, faults)
    return None if objective is None else BuiltMethod(objective, MethodFlags.of(objective))


def _needs_teacher(method: BuiltMethod | None, node: Any) -> bool:
    """The objective's flag, or that of its class where a fault keeps it from being built."""
    if method is not None:
        return method.flags.needs_teacher
    try:
        return isinstance(node, Mapping) and bool(getattr(resolve(str(node["_target_"])), "needs_teacher", False))
    except (Refused, KeyError):
        return False


def _teachers_method(node: Mapping[str, Any], faults: list[Fault]) -> BuiltMethod | None:
    """The objective that a teacher without a finished run is trained with."""
    _attempt(build_recipe, node.get("recipe"), "teacher.recipe", faults)
    method = _method(node.get("loss"), "teacher.loss", faults)
    if method is not None and method.flags.needs_teacher:
        text = "teacher.loss must not need a teacher itself: set loss@teacher.loss=ce"
        faults.append(Fault("teacher.loss", "conflict", text))
    return method


def _data(node: Any, faults: list[Fault], *, may_download: bool) -> tuple[Dataset | None, tuple[int, int] | None]:
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


def _without_start(composed: Composed, faults: list[Fault]) -> tuple[Composed, str | None]:
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


def _start(
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


def _check_teacher_keys(teacher: Mapping[str, Any]) -> None:
    """Raise Refused for keys of `teacher` that contradict each other, or are for a teacher from elsewhere."""
    origins = [key for key in ("run", *ELSEWHERE) if teacher.get(key)]
    if len(origins) > 1:
        text = f"teacher.{origins[0]} and teacher.{origins[1]} both name a teacher: give one of them"
        raise Refused([Fault(f"teacher.{origins[1]}", "conflict", text)])
    given = [key for key in VIEW_KEYS if teacher.get(key) not in (None, "stream")]
    if given and not origins:
        text = f"teacher.{given[0]} is for a teacher that was trained elsewhere: add teacher.pretrained=true, "
        text += f"teacher.weights=FILE or teacher.run=ID, or leave teacher.{given[0]} out"
        raise Refused([Fault(f"teacher.{given[0]}", "conflict", text)])


def _finished_teacher(
    runs_dir: Path, teacher: Mapping[str, Any], num_classes: int, faults: list[Fault]
) -> RunRecord | None:
    """The finished run that `teacher.run` names, if it has as many classes as the data set, or `teacher.classes` says
    which of them are the data set's.
    """
    run = teacher["run"]
    if not run:
        text = "teacher.run is empty (an unset variable?): name a finished run, or leave teacher.run out"
        faults.append(Fault("teacher.run", "value", text))
        return None
    if Path(run).is_file():
        command = f"distill import {run} student=NAME dataset=NAME"
        text = f"teacher.run={run} is a file, not a run: `{command}` makes a run of it"
        faults.append(Fault("teacher.run", "value", text))
        return None
    try:
        record = finished_run(runs_dir, run)
        check_trusted(record, own=own_class(teacher))
    except (ValueError, StorageError) as error:
        faults.append(Fault("teacher.run", "absent", f"teacher.run: {error}"))
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


def _attempt(construct: Callable[[Any], T], node: Any, path: str, faults: list[Fault]) -> T | None:
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
