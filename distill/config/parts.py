"""The parts of a job built once, to hear what their constructors say; every refusal becomes a fault."""

import json
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from distill.config.build import Refused, build_dataset, build_objective, build_recipe, sentences, try_network
from distill.config.device import usable_device
from distill.config.rebuild import rebuild_network
from distill.config.rehearsal import rehearse
from distill.config.targets import UnknownTarget, resolve
from distill.data import SHAPES, ImageDataset
from distill.objectives import Objective
from distill.runs.files import StorageError
from distill.runs.store import RunRecord, finished_run
from distill.training import Recipe

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
