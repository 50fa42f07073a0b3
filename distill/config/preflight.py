"""Everything that can be wrong with a job is found here, before any work; what passes becomes a plan."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from distill.config import parts
from distill.config.build import build_recipe
from distill.config.check import check_typed
from distill.config.composed import Composed
from distill.config.engine import engine_faults, precision_notes
from distill.config.names import recipe_name, run_names
from distill.config.plan import RunPlan, plan_run
from distill.config.presets import Presets
from distill.config.schema import Root
from distill.config.source import other_source, source_faults, weights_gone
from distill.config.stages import FirstStage, first_stage_config, join_stages, split_stages
from distill.config.weights import reduce_alpha
from distill.objectives import Objective
from distill.runs.layout import FIRST_STAGE
from distill.runs.store import RunRecord
from distill.training import resolve_precision


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
    device = parts.try_device(config.get("engine"), faults)
    faults += engine_faults(config.get("engine"), device)
    parts.try_recipe(config.get("recipe"), "recipe", faults)
    objective = parts.try_objective(config.get("loss"), "loss", faults)
    first_objective = parts.try_objective(stage.get("loss"), f"loss.{FIRST_STAGE}.loss", faults)
    needs_teacher = parts.wants_teacher(objective, config.get("loss")) or parts.wants_teacher(
        first_objective, stage.get("loss")
    )
    teacher_node: Mapping[str, Any] = config.get("teacher") or {}
    if needs_teacher and "teacher" not in uncertain:
        option = composed.choices.get("loss", "?")
        _check_teacher(teacher_node, (objective, first_objective), option=option, faults=faults)
    _check_teachers_training(teacher_node, faults)
    dataset = parts.try_dataset(config.get("dataset"), faults, may_download=may_download)
    shape = parts.shape_of(config.get("dataset"), dataset, faults)
    finished = None
    if shape is not None:
        parts.check_network(config.get("student"), shape, "student", faults)
        parts.check_network(teacher_node.get("network"), shape, "teacher.network", faults)
        if needs_teacher and teacher_node.get("run") and "runs_dir" in config:
            finished = parts.finished_teacher(Path(config["runs_dir"]), teacher_node["run"], shape[0], faults)
    if shape is not None and not (faults or uncertain):
        guide = (finished or teacher_node.get("network")) if needs_teacher else None
        labels = torch.arange(shape[0]) if dataset is None else torch.tensor(dataset.train_labels)
        trained = guide if stage.get("network") == "teacher" else config["student"]
        for each, network, path in ((objective, config["student"], "loss"), (first_objective, trained, FIRST_STAGE)):
            if each is not None and not each.logits_only:
                parts.check_pair(each, network, guide, shape, labels, path, faults)
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
    parts.try_recipe(node.get("recipe"), "teacher.recipe", faults)
    loss = parts.try_objective(node.get("loss"), "teacher.loss", faults)
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
