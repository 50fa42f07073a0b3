"""Checks one composed job before any work; returns its `RunPlan` or raises `Refused` with everything that is wrong."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from distill.config.build import build_recipe
from distill.config.check import check_typed, reduce_alpha
from distill.config.compose.composer import Composed
from distill.config.compose.names import recipe_name, run_names
from distill.config.compose.presets import UNCHOSEN, Presets
from distill.config.faults import Fault, Refused, correction, key_of, misplaced, nearest
from distill.config.parts import (
    attempt,
    data_of,
    device_of,
    finished_teacher_of,
    method_of,
    needs_teacher,
    precision_notes,
    start_of,
    teacher_key_faults,
    teachers_method,
    without_start,
)
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
from distill.config.rehearsal import BuiltMethod, check_network, check_together, has_fault
from distill.config.schema import FirstStage, Root
from distill.config.teachers import ELSEWHERE, PlannedTeacher, finished_teacher, published_teacher
from distill.data import Dataset
from distill.runs.layout import FIRST_STAGE
from distill.runs.store import RunRecord
from distill.training import Recipe, resolve_precision

STAGE = f"loss.{FIRST_STAGE}"
# the least values of numbers that no constructor checks
AT_LEAST = {"seed": 0, "teacher.seed": 0, "engine.threads": 1, "engine.workers": 1, "engine.checkpoint_seconds": 0}
AT_LEAST |= {"engine.gradient_norms_every": 1}


@dataclass
class _Checked:
    """A job without faults: its configuration and the parts that were built of it.

    `taught` says that a loss of it needs a teacher, `baseline` is the objective which a teacher of its own is trained
    with, `finished` the run that `teacher.run` names, `start` the value of `student.weights`.
    """

    config: dict[str, Any]
    stage: dict[str, Any]
    device: torch.device
    dataset: Dataset
    method: BuiltMethod
    first: BuiltMethod | None
    taught: bool
    baseline: BuiltMethod | None
    finished: RunRecord | None
    start: str | None
    notes: Sequence[str]


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
    if not composed.config:  # nothing could be composed, so there is nothing else to check
        raise Refused(composed.faults)
    job = _check(composed, uncertain | composed.uncertain, may_download=may_download)
    return _identify(job, composed, presets, may_download=may_download)


def _check(composed: Composed, uncertain: frozenset[str], *, may_download: bool) -> _Checked:
    faults = list(composed.faults)
    composed, start = without_start(composed, faults)
    config, stage = _typed(composed, uncertain, faults)
    device = device_of(config.get("engine"), faults)
    recipe = attempt(build_recipe, config.get("recipe"), "recipe", faults)
    method = method_of(config.get("loss"), "loss", faults)
    first = method_of(stage.get("loss"), f"{STAGE}.loss", faults)
    taught = needs_teacher(method, config.get("loss")) or needs_teacher(first, stage.get("loss"))
    teacher: Mapping[str, Any] = config.get("teacher") or {}
    if taught and "teacher" not in uncertain:
        faults += _choice_faults(teacher, [each.flags for each in (method, first) if each], composed.choices)
    faults += teacher_key_faults(teacher, faults)
    baseline = teachers_method(teacher, faults)
    dataset, shape = data_of(config.get("dataset"), faults, may_download=may_download)
    faults += _conflicts(recipe, method, dataset, teacher if taught else {}, composed.choices)
    finished, notes = None, []
    if shape is not None:
        check_network(config.get("student"), shape, "student", faults)
        if start is not None and not has_fault("student", faults) and "runs_dir" in config:
            config[START] = start_of(config["student"], start, Path(config["runs_dir"]), shape[0], faults)
        check_network(teacher.get("network"), shape, "teacher.network", faults)
        if taught and isinstance(teacher.get("run"), str) and "runs_dir" in config:
            finished = finished_teacher_of(Path(config["runs_dir"]), teacher, shape[0], faults)
    if shape is not None and not (faults or uncertain):
        taught_by = (finished or teacher.get("network")) if taught else None
        labels = torch.arange(shape[0]) if dataset is None else torch.tensor(dataset.train_labels)
        trained = taught_by if stage.get("network") == "teacher" else config["student"]
        notes += check_together(method, config["student"], taught_by, shape, labels, "loss", faults)
        notes += check_together(first, trained, taught_by, shape, labels, STAGE, faults)
    if faults or uncertain:
        raise Refused(faults)
    if dataset is None:
        text = "the data set is not here yet, and --cfg downloads nothing: run the command without --cfg"
        raise Refused([Fault("dataset", "download", text)])
    assert device is not None
    assert method is not None
    return _Checked(config, stage, device, dataset, method, first, taught, baseline, finished, start, notes)


def _identify(job: _Checked, composed: Composed, presets: Presets, *, may_download: bool) -> RunPlan:
    """The plan of a job, with its teacher and its first stage. Raises Refused where one of these cannot be used."""
    config = job.config
    notes = precision_notes(config["precision"], job.device)
    config["precision"] = resolve_precision(config["precision"], job.device)
    config["loss"] |= {FIRST_STAGE: job.stage} if job.stage else {}
    names = run_names(composed, config, presets)
    names["student"] += f" weights={Path(job.start).name}" if job.start is not None else ""
    common: dict[str, Any] = {"runs_dir": Path(config.pop("runs_dir")), "dataset": job.dataset, "device": job.device}
    teacher: TeacherSource | None = None
    if not job.taught:
        names["teacher"], config["teacher"] = "none", None
    elif job.finished is not None or any(config["teacher"].get(key) for key in ELSEWHERE):
        stated = _stated(composed, "teacher.expected.")
        teacher = _foreign_teacher(job, names["teacher"], common["runs_dir"], stated, may_download=may_download)
        names["teacher"] = teacher.name
    else:
        assert job.baseline is not None
        flags = job.baseline.flags
        teacher = PlannedTeacher(_teacher_plan(config, names, composed, presets, method=flags, **common))
    stage = None
    if job.first is not None:
        stage = _stage_plan(config, names, job.stage, method=job.first.flags, teacher=teacher, **common)
    plan = plan_run(config, names, method=job.method.flags, teacher=teacher, first_stage=stage, **common)
    if conflict := store_conflict(plan):
        raise Refused([conflict])
    return replace(plan, notes=(*notes, *job.notes, *plan.notes, *job.dataset.notes))


def _foreign_teacher(
    job: _Checked, name: str, runs_dir: Path, stated: set[str], *, may_download: bool
) -> TeacherSource:
    """The teacher of a finished run, or one with published weights; `stated` of `teacher.expected` by the command."""
    node, data = job.config["teacher"], job.dataset.identity()
    common: dict[str, Any] = {
        "precision": resolve_precision(node["precision"] or job.config["precision"], job.device),
        "stated": stated,
    }
    if job.finished is not None:
        return finished_teacher(job.finished, node, job.dataset, job.config["dataset"], data, **common)
    return published_teacher(node, job.dataset, data, name=name, runs_dir=runs_dir, download=may_download, **common)


def _stated(composed: Composed, node: str) -> set[str]:
    """The keys of a node that the command itself sets."""
    keys = set(map(key_of, composed.overrides))
    return {key.removeprefix(node) for key in keys if key.startswith(node)}


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


def _typed(composed: Composed, uncertain: frozenset[str], faults: list[Fault]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The configuration with its values cast, without the uncertain nodes; a first stage apart."""
    given = _stated(composed, "loss.")
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
