"""Everything that can be wrong with a job is found here, before any work; what passes becomes a plan."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from distill.config.build import (
    Refused,
    build_dataset,
    build_objective,
    build_recipe,
    rehearse,
    sentences,
    try_network,
    usable_device,
)
from distill.config.check import UnknownTarget, check_typed, reduce_alpha, resolve
from distill.config.names import recipe_name, run_names
from distill.config.plan import (
    FirstStage,
    RunPlan,
    first_stage_config,
    join_stages,
    other_source,
    plan_run,
    source_faults,
    split_stages,
    weights_gone,
)
from distill.config.presets import Composed, Presets
from distill.config.rebuild import rebuild_network
from distill.config.schema import Root
from distill.data import SHAPES, ImageDataset
from distill.losses import Objective
from distill.runs.files import StorageError
from distill.runs.layout import FIRST_STAGE
from distill.runs.store import RunRecord, finished_run
from distill.training import Recipe, probe, resolve_precision, why_not_compiled


def engine_faults(engine: Any, device: torch.device | None) -> list[str]:
    """A sentence for each key that `device` cannot honour."""
    if not isinstance(engine, Mapping) or device is None:
        return []
    faults = []
    if engine.get("capture") is True and device.type != "cuda":
        faults.append(
            f"engine.capture=true needs a CUDA device, this run computes on {device.type}: set engine.capture=auto"
        )
    lacking = why_not_compiled(device) if engine.get("compile") is True else None
    if lacking is not None:
        faults.append(f"engine.compile=true cannot be had here, {lacking}: install it, or set engine.compile=false")
    return faults


def precision_notes(asked: str, device: torch.device) -> tuple[str, ...]:
    """What `precision=auto` has become, and why; nothing where a format was named."""
    if asked != "auto":
        return ()
    precision, reason = probe(device)
    return (f"precision=auto is {precision}: {reason}",)


T = TypeVar("T")


def try_recipe(node: Any, path: str, faults: list[str]) -> Recipe | None:
    """The recipe of a node that has no fault so far."""
    return _attempt(build_recipe, node, path, faults)


def try_objective(node: Any, path: str, faults: list[str]) -> Objective | None:
    """The objective of a node that has no fault so far."""
    return _attempt(lambda found: build_objective(found, seed=0), node, path, faults)


def wants_teacher(objective: Objective | None, node: Any) -> bool:
    """What the objective says, or its class where a fault keeps it from being built."""
    if objective is not None:
        return objective.needs_teacher
    try:
        return isinstance(node, Mapping) and bool(getattr(resolve(str(node["_target_"])), "needs_teacher", False))
    except (UnknownTarget, KeyError):
        return False


def try_dataset(node: Any, faults: list[str], *, may_download: bool) -> ImageDataset | None:
    """The data set; None with a fault, and without one where it has to be downloaded later."""
    if not isinstance(node, Mapping) or _has_fault("dataset", faults):
        return None
    later = node.get("download") is True and (faults or not may_download)
    try:
        return build_dataset({**node, "download": False} if later else node)
    except Refused as refused:
        if not (later and any("set dataset.download=true" in fault for fault in refused.faults)):
            faults += refused.faults
        return None


def shape_of(node: Any, dataset: ImageDataset | None, faults: list[str]) -> tuple[int, int] | None:
    """Classes and image size, known of some data sets before they are here."""
    if dataset is not None:
        return dataset.num_classes, dataset.image_size
    if not isinstance(node, Mapping) or _has_fault("dataset", faults):
        return None
    return SHAPES.get(resolve(str(node["_target_"])))


def check_network(node: Any, shape: tuple[int, int], path: str, faults: list[str]) -> None:
    """Build a network for (classes, image size) and give it an image."""
    if isinstance(node, Mapping) and not _has_fault(path, faults):
        tried = _tried(node, shape)
        faults += [f"{path}: {fault}" for fault in tried] if isinstance(tried, tuple) else []


def check_pair(
    objective: Objective,
    student: Mapping[str, Any] | RunRecord | None,
    teacher: Mapping[str, Any] | RunRecord | None,
    shape: tuple[int, int],
    labels: Tensor,
    path: str,
    faults: list[str],
) -> None:
    """Attach an objective that reads more than logits to its networks, and run it once, on shapes alone.

    Args:
        objective: built for this check; it is moved to the meta device.
        student: its node.
        teacher: its node, or a finished run.
        shape: classes and image size.
        labels: (N,) of the training images.
        path: what the objective is, for the sentences.
        faults: what is missing is added here.
    """
    try:
        trained, guide = (_shapes_of(network, shape) for network in (student, teacher))
        if trained is not None:
            rehearse(objective, trained, guide, image_size=shape[1], labels=labels)
    except Exception as error:  # of any objective and any network
        faults += [f"{path}: {fault}" for fault in sentences(error)[:1]]


def _shapes_of(network: Mapping[str, Any] | RunRecord | None, shape: tuple[int, int]) -> nn.Module | None:
    """The network without its values; its own faults have been told before."""
    if isinstance(network, RunRecord):
        return rebuild_network(network)
    tried = None if network is None else _tried(network, shape)
    return None if isinstance(tried, tuple) else tried


def _tried(node: Mapping[str, Any], shape: tuple[int, int]) -> nn.Module | tuple[str, ...]:
    return _network_or_faults(json.dumps(node, sort_keys=True), *shape)


@lru_cache(maxsize=64)
def _network_or_faults(node: str, num_classes: int, image_size: int) -> nn.Module | tuple[str, ...]:
    try:
        return try_network(json.loads(node), num_classes=num_classes, image_size=image_size)
    except Refused as refused:
        return tuple(refused.faults)


def finished_teacher(runs_dir: Path, run: str, num_classes: int, faults: list[str]) -> RunRecord | None:
    """The finished run that `teacher.run` names, if it tells as many classes apart as the data set has."""
    try:
        record = finished_run(runs_dir, run)
    except (ValueError, StorageError) as error:
        faults.append(f"teacher.run: {error}")
        return None
    assert record.result is not None
    classes = record.result["classes"]
    if classes != num_classes:
        faults.append(
            f"teacher.run={run} tells {classes} classes apart where the data set has {num_classes}: "
            "choose a teacher trained on this data set"
        )
        return None
    return record


def try_device(engine: Any, faults: list[str]) -> torch.device | None:
    """The device that `engine.device` names."""
    name = engine.get("device") if isinstance(engine, Mapping) else None
    if not isinstance(name, str):
        return None
    try:
        return usable_device(name, key="engine.device")
    except ValueError as error:
        faults.append(str(error))
        return None


def _attempt(construct: Callable[[Any], T], node: Any, path: str, faults: list[str]) -> T | None:
    if not isinstance(node, Mapping) or _has_fault(path, faults):
        return None
    try:
        return construct(node)
    except Refused as refused:
        own = path.rpartition(".")[2]  # a constructor knows its node as `recipe`, also where that is teacher.recipe
        faults += [re.sub(rf"\b{own}\.", f"{path}.", fault) for fault in refused.faults]
        return None


def _has_fault(path: str, faults: list[str]) -> bool:
    return any(fault.startswith((f"{path}.", f"{path} ")) for fault in faults)


class Faults(ValueError):
    """All that is wrong with a command, one sentence each."""

    def __init__(self, sentences: list[str]) -> None:
        self.sentences = list(dict.fromkeys(sentences))
        super().__init__("\n".join(self.sentences))


class DataAbsent(Exception):
    """Nothing is wrong that can be known before the data set has been downloaded."""


def preflight(
    composed: Composed, presets: Presets, *, may_download: bool = True, uncertain: frozenset[str] = frozenset()
) -> RunPlan:
    """Check one composed job completely and identify it; nothing is written but a download that is allowed.

    Args:
        composed: the job.
        presets: where it came from.
        may_download: whether an absent data set may be fetched.
        uncertain: nodes that are not those asked for, since their option does not exist: they are not looked at.

    Raises:
        Faults: all that is wrong with it.
        DataAbsent: the data set would have to be downloaded first, which was not allowed.
    """
    composed = composed if composed.config else presets.salvaged(composed)
    faults = list(composed.faults)
    uncertain |= composed.uncertain
    config, stage = _checked(composed, uncertain, faults)
    device = try_device(config.get("engine"), faults)
    faults += engine_faults(config.get("engine"), device)
    try_recipe(config.get("recipe"), "recipe", faults)
    objective = try_objective(config.get("loss"), "loss", faults)
    first_objective = try_objective(stage.get("loss"), f"loss.{FIRST_STAGE}.loss", faults)
    needs_teacher = wants_teacher(objective, config.get("loss")) or wants_teacher(first_objective, stage.get("loss"))
    teacher_node: Mapping[str, Any] = config.get("teacher") or {}
    if needs_teacher and "teacher" not in uncertain:
        option = composed.choices.get("loss", "?")
        _check_teacher(teacher_node, (objective, first_objective), option=option, faults=faults)
    _check_teachers_training(teacher_node, faults)
    dataset = try_dataset(config.get("dataset"), faults, may_download=may_download)
    shape = shape_of(config.get("dataset"), dataset, faults)
    finished = None
    if shape is not None:
        check_network(config.get("student"), shape, "student", faults)
        check_network(teacher_node.get("network"), shape, "teacher.network", faults)
        if needs_teacher and teacher_node.get("run") and "runs_dir" in config:
            finished = finished_teacher(Path(config["runs_dir"]), teacher_node["run"], shape[0], faults)
    if shape is not None and not (faults or uncertain):
        guide = (finished or teacher_node.get("network")) if needs_teacher else None
        labels = torch.arange(shape[0]) if dataset is None else torch.tensor(dataset.train_labels)
        trained = guide if stage.get("network") == "teacher" else config["student"]
        for each, network, path in ((objective, config["student"], "loss"), (first_objective, trained, FIRST_STAGE)):
            if each is not None and not each.logits_only:
                check_pair(each, network, guide, shape, labels, path, faults)
    if faults or uncertain:
        raise Faults(faults)
    if dataset is None:
        raise DataAbsent

    assert device is not None
    common = {"runs_dir": Path(config.pop("runs_dir")), "dataset": dataset, "device": device}
    return _identified(config, stage, composed, presets, finished=finished, taught=needs_teacher, **common)


def _identified(
    config: dict[str, Any],
    stage: Mapping[str, Any],
    composed: Composed,
    presets: Presets,
    *,
    finished: RunRecord | None,
    taught: bool,
    **common: Any,
) -> RunPlan:
    """The plan of a configuration without faults; its teacher is the `finished` run, or has a plan of its own."""
    device = common["device"]
    notes = precision_notes(config["precision"], device)
    config |= {"precision": resolve_precision(config["precision"], device), "loss": join_stages(config["loss"], stage)}
    names = run_names(composed, config, presets)
    teacher: RunPlan | RunRecord | None = finished
    if not taught:
        names["teacher"], config["teacher"] = "none", None
    elif finished is not None:
        names["teacher"] = str(finished.names.get("student", finished.run_id))
    else:
        teacher = _teacher(config, names, composed, presets, **common)
    first = _first_stage(config, stage, names, teacher, **common) if stage else None
    plan = plan_run(config, names, recipe=build_recipe(config["recipe"]), teacher=teacher, first_stage=first, **common)
    conflict = other_source(plan) or weights_gone(plan)
    if conflict:
        raise Faults([conflict])
    return replace(plan, notes=notes)


def _check_teacher(
    node: Mapping[str, Any], objectives: Sequence[Objective | None], *, option: str, faults: list[str]
) -> None:
    """What is wrong with the teacher of a loss that needs one, before anything is known of the data."""
    faults += source_faults(node, objectives, option=option)
    if not (node.get("network") or node.get("run")):
        faults.append(f"loss={option} needs a teacher: choose teacher=NAME or teacher.run=ID")


def _check_teachers_training(node: Mapping[str, Any], faults: list[str]) -> None:
    """What is wrong with the run that a teacher without a finished one is trained by."""
    try_recipe(node.get("recipe"), "teacher.recipe", faults)
    loss = try_objective(node.get("loss"), "teacher.loss", faults)
    if loss is not None and loss.needs_teacher:
        faults.append("teacher.loss must not need a teacher itself: set loss@teacher.loss=ce")


def _teacher(
    config: Mapping[str, Any], names: Mapping[str, str], composed: Composed, presets: Presets, **common: Any
) -> RunPlan:
    """The plan of the teacher's own run."""
    own = _teacher_config(config, common["device"])
    recipe = recipe_name(composed, own["recipe"], presets)
    own_names = {**names, "student": names["teacher"], "teacher": "none", "loss": "ce", "recipe": recipe}
    return plan_run(own, own_names, recipe=build_recipe(own["recipe"]), teacher=None, **common)


def _first_stage(
    config: Mapping[str, Any],
    stage: Mapping[str, Any],
    names: Mapping[str, str],
    teacher: RunPlan | RunRecord | None,
    **common: Any,
) -> RunPlan:
    """The plan of the run that a two-stage method starts from."""
    network = {} if teacher is None else teacher.config["student"]
    own = first_stage_config(config, stage, network)
    mine = stage["network"] == "student"
    own_names = {**names, "student": names["student" if mine else "teacher"], "loss": f"{names['loss']} {FIRST_STAGE}"}
    return plan_run(own, own_names, recipe=build_recipe(own["recipe"]), teacher=teacher, **common)


# least values of numbers that no constructor looks at
AT_LEAST = {"seed": 0, "teacher.seed": 0, "engine.threads": 1, "engine.checkpoint_seconds": 0}


def _checked(composed: Composed, uncertain: frozenset[str], faults: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The configuration with its values cast, without the nodes of which nothing is known; a first stage apart."""
    given = _weighted(composed, faults)
    given["loss"], stage = split_stages(given.get("loss"))
    if given.pop("experiment", None) is not None:
        faults.append("the first line of an experiment's file must be '# @package _global_': its keys have no effect")
    config = check_typed(given, Root, "", faults)
    stage = check_typed(stage, FirstStage, f"loss.{FIRST_STAGE}", faults) if stage else {}
    if isinstance(stage.get("epochs"), int) and stage["epochs"] < 1:
        faults.append(
            f"loss.{FIRST_STAGE}.epochs must be >= 1, got {stage['epochs']}: set loss.{FIRST_STAGE}.epochs=30"
        )
    about = tuple(f"{node}{mark}" for node in uncertain for mark in (".", " "))
    faults[:] = [fault for fault in faults if not fault.startswith(about)]
    config.pop("sweep", None)
    _check_ranges(config, faults)
    return {key: value for key, value in config.items() if key not in uncertain}, stage


def _check_ranges(config: Mapping[str, Any], faults: list[str]) -> None:
    for path, least in AT_LEAST.items():
        value: Any = config
        for key in path.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        if isinstance(value, int | float) and value < least:
            faults.append(f"{path} must be >= {least}, got {value}: set {path}={least + 1}, say")
    runs_dir = config.get("runs_dir")
    if isinstance(runs_dir, str) and Path(runs_dir).exists() and not Path(runs_dir).is_dir():
        faults.append(f"runs_dir must be a folder, {runs_dir} is a file: set runs_dir=DIR")


def _weighted(composed: Composed, faults: list[str]) -> dict[str, Any]:
    given = {o.lstrip("+").split("=")[0].removeprefix("loss.") for o in composed.overrides}
    loss = composed.config.get("loss")
    if not isinstance(loss, Mapping):
        return dict(composed.config)
    option = composed.choices.get("loss", "?")
    return {**composed.config, "loss": reduce_alpha(loss, given, faults, option=option)}


def _teacher_config(config: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """The teacher's own run: the data set, its network, cross-entropy, its recipe; nothing of the student's."""
    teacher = config["teacher"]
    precision = teacher["precision"] or config["precision"]
    return {
        **config,
        "student": teacher["network"],
        "teacher": None,
        "loss": teacher["loss"],
        "recipe": teacher["recipe"],
        "seed": teacher["seed"],
        "precision": resolve_precision(precision, device),
    }
