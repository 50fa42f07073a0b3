"""Everything that can be wrong with a job is found here, before any work; what passes becomes a plan."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from distill.compose import parts
from distill.compose.check import check_typed
from distill.compose.composed import Composed
from distill.compose.names import recipe_name, run_names
from distill.compose.plan import RunPlan, plan_run
from distill.compose.presets import Presets
from distill.compose.schema import Root
from distill.compose.weights import reduce_alpha
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
    config = _checked(composed, uncertain, faults)
    device = parts.try_device(config.get("engine"), faults)
    recipe = parts.try_recipe(config.get("recipe"), "recipe", faults)
    objective = parts.try_objective(config.get("loss"), "loss", faults)
    needs_teacher = parts.wants_teacher(objective, config.get("loss"))
    teacher_node: Mapping[str, Any] = config.get("teacher") or {}
    teacher_recipe = parts.try_recipe(teacher_node.get("recipe"), "teacher.recipe", faults)
    teacher_loss = parts.try_objective(teacher_node.get("loss"), "teacher.loss", faults)
    if teacher_loss is not None and teacher_loss.needs_teacher:
        faults.append("teacher.loss must not need a teacher itself: set loss@teacher.loss=ce")
    if needs_teacher and not ("teacher" in uncertain or teacher_node.get("network") or teacher_node.get("run")):
        faults.append(
            f"loss={composed.choices.get('loss', '?')} needs a teacher: choose teacher=NAME or teacher.run=ID"
        )
    dataset = parts.try_dataset(config.get("dataset"), faults, may_download=may_download)
    shape = parts.shape_of(config.get("dataset"), dataset, faults)
    if shape is not None:
        parts.check_network(config.get("student"), shape, "student", faults)
        parts.check_network(teacher_node.get("network"), shape, "teacher.network", faults)
    finished = None
    if shape is not None and needs_teacher and teacher_node.get("run") and "runs_dir" in config:
        finished = parts.finished_teacher(Path(config["runs_dir"]), teacher_node["run"], shape[0], faults)
    if faults or uncertain:
        raise Faults(faults)
    if dataset is None:
        raise DataAbsent

    assert device is not None
    assert recipe is not None
    assert objective is not None
    config["precision"] = resolve_precision(config["precision"], device)
    runs_dir = Path(config.pop("runs_dir"))
    names = run_names(composed, config, presets)
    common: dict[str, Any] = {"runs_dir": runs_dir, "dataset": dataset, "device": device}
    teacher: RunPlan | RunRecord | None = finished
    if not objective.needs_teacher:
        names["teacher"], config["teacher"] = "none", None
    elif finished is not None:
        names["teacher"] = str(finished.names.get("student", finished.run_id))
    else:
        assert teacher_recipe is not None
        teacher_config = _teacher_config(config, device)
        own_recipe = recipe_name(composed, teacher_config["recipe"], presets)
        teacher_names = {**names, "student": names["teacher"], "teacher": "none", "loss": "ce", "recipe": own_recipe}
        teacher = plan_run(teacher_config, teacher_names, recipe=teacher_recipe, teacher=None, **common)
    return plan_run(config, names, recipe=recipe, teacher=teacher, **common)


# least values of numbers that no constructor looks at
AT_LEAST = {"seed": 0, "teacher.seed": 0, "engine.threads": 1, "engine.checkpoint_seconds": 0}


def _checked(composed: Composed, uncertain: frozenset[str], faults: list[str]) -> dict[str, Any]:
    """The configuration with its values cast, without the nodes of which nothing is known."""
    given = _weighted(composed, faults)
    if given.pop("experiment", None) is not None:
        faults.append("the first line of an experiment's file must be '# @package _global_': its keys have no effect")
    config = check_typed(given, Root, "", faults)
    about = tuple(f"{node}{mark}" for node in uncertain for mark in (".", " "))
    faults[:] = [fault for fault in faults if not fault.startswith(about)]
    config.pop("sweep", None)
    _check_ranges(config, faults)
    return {key: value for key, value in config.items() if key not in uncertain}


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
