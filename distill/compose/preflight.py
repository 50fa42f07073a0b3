"""Everything that can be wrong with a job is found here, before any work; what passes becomes a plan."""

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import torch

from distill.compose.build import Refused, build_dataset, build_objective, build_recipe, try_network
from distill.compose.check import check_typed
from distill.compose.device import usable_device
from distill.compose.names import recipe_name, run_names
from distill.compose.plan import RunPlan, plan_run
from distill.compose.presets import Composed, Presets
from distill.compose.schema import Root
from distill.compose.weights import reduce_alpha
from distill.data import ImageDataset
from distill.runs.store import RunRecord, find
from distill.training import resolve_precision

T = TypeVar("T")


class Faults(ValueError):
    """All that is wrong with a command, one sentence each."""

    def __init__(self, sentences: list[str]) -> None:
        self.sentences = list(dict.fromkeys(sentences))
        super().__init__("\n".join(self.sentences))


def preflight(composed: Composed, presets: Presets, *, may_download: bool = True) -> RunPlan:
    """Check one composed job completely and identify it; nothing is written but a download that is allowed.

    Raises:
        Faults: all that is wrong with it.
    """
    faults = list(composed.faults)
    if not composed.config:
        raise Faults(faults)
    config = check_typed(_weighted(composed, faults), Root, "", faults)
    config.pop("sweep", None)
    _check_ranges(config, faults)
    device = _device(config, faults)
    recipe = _attempt(build_recipe, config.get("recipe"), "recipe", faults)
    objective = _attempt(lambda node: build_objective(node, seed=0), config.get("loss"), "loss", faults)
    teacher_node: Mapping[str, Any] = config.get("teacher") or {}
    teacher_recipe = _attempt(build_recipe, teacher_node.get("recipe"), "teacher.recipe", faults)
    if (
        objective is not None
        and objective.needs_teacher
        and not (teacher_node.get("network") or teacher_node.get("run"))
    ):
        faults.append(
            f"loss={composed.choices.get('loss', '?')} needs a teacher: choose teacher=NAME or teacher.run=ID"
        )
    dataset = _dataset(config.get("dataset"), faults, may_download=may_download)
    if dataset is not None:
        _check_network(config.get("student"), dataset, "student", faults)
        _check_network(teacher_node.get("network"), dataset, "teacher.network", faults)
    finished = None
    if dataset is not None and objective is not None and objective.needs_teacher and teacher_node.get("run"):
        finished = _finished_teacher(Path(config["runs_dir"]), teacher_node["run"], dataset, faults)
    if faults:
        raise Faults(faults)

    assert device is not None
    assert recipe is not None
    assert objective is not None
    assert dataset is not None
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


def _check_ranges(config: Mapping[str, Any], faults: list[str]) -> None:
    for path, least in AT_LEAST.items():
        value: Any = config
        for key in path.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        if isinstance(value, int | float) and value < least:
            faults.append(f"{path} must be >= {least}, got {value}: set {path}={least + 1}, say")


def _weighted(composed: Composed, faults: list[str]) -> dict[str, Any]:
    given = {o.lstrip("+").split("=")[0].removeprefix("loss.") for o in composed.overrides}
    loss = composed.config.get("loss")
    if not isinstance(loss, Mapping):
        return composed.config
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


def _attempt(construct: Callable[[Any], T], node: Any, path: str, faults: list[str]) -> T | None:
    """Construct from a node that has no fault so far; what the constructor refuses is a fault."""
    if not isinstance(node, Mapping) or _has_fault(path, faults):
        return None
    try:
        return construct(node)
    except Refused as refused:
        faults += refused.faults
        return None


def _has_fault(path: str, faults: list[str]) -> bool:
    return any(fault.startswith((f"{path}.", f"{path} ")) for fault in faults)


def _dataset(node: Any, faults: list[str], *, may_download: bool) -> ImageDataset | None:
    fetch = may_download and not faults
    if isinstance(node, Mapping) and "download" in node and not fetch:
        node = {**node, "download": False}
    return _attempt(build_dataset, node, "dataset", faults)


def _device(config: Mapping[str, Any], faults: list[str]) -> torch.device | None:
    name = (config.get("engine") or {}).get("device")
    if not isinstance(name, str):
        return None
    try:
        return usable_device(name, key="engine.device")
    except ValueError as error:
        faults.append(str(error))
        return None


def _check_network(node: Any, dataset: ImageDataset, path: str, faults: list[str]) -> None:
    if isinstance(node, Mapping) and not _has_fault(path, faults):
        faults += [
            f"{path}: {fault}"
            for fault in _network_faults(json.dumps(node, sort_keys=True), dataset.num_classes, dataset.image_size)
        ]


@lru_cache(maxsize=64)
def _network_faults(node: str, num_classes: int, image_size: int) -> tuple[str, ...]:
    try:
        try_network(json.loads(node), num_classes=num_classes, image_size=image_size)
    except Refused as refused:
        return tuple(refused.faults)
    return ()


def _finished_teacher(runs_dir: Path, run: str, dataset: ImageDataset, faults: list[str]) -> RunRecord | None:
    try:
        record = find(runs_dir, run)
    except ValueError as error:
        faults.append(f"teacher.run: {error}")
        return None
    if record.status != "finished" or record.result is None:
        faults.append(f"teacher.run={run} is {record.status}, not finished: type its command again to finish it")
        return None
    classes = record.result["classes"]
    if classes != dataset.num_classes:
        faults.append(
            f"teacher.run={run} tells {classes} classes apart where the data set has {dataset.num_classes}: "
            "choose a teacher trained on this data set"
        )
        return None
    return record
