"""Builds objects from configuration nodes; the only module that calls Hydra's `instantiate`."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from hydra.errors import HydraException
from hydra.utils import instantiate
from torch import nn

from distill.config.check import resolve, signature
from distill.config.faults import Fault, Kind, Refused
from distill.data import DataNotFound, Dataset, ImageDataset, PhotoDataset
from distill.losses import Objective
from distill.models import as_network
from distill.models.meta import shapes_of
from distill.runs.target_names import with_current_names
from distill.training import Recipe, seeded

DEVICES = ("cpu", "cuda", "mps")


def usable_device(name: str, *, key: str) -> torch.device:
    """The device called `name`; `auto` is CUDA where there is one. `key` is the key that set it.

    Raises:
        Refused: there is no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        if device.type not in DEVICES:
            raise RuntimeError("nothing can be trained on it")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        text = f"{key}={name} cannot be used here ({reason}): set {key}=cpu or auto"
        raise Refused([Fault(key, "value", text)]) from error
    return device


def build(node: Mapping[str, Any], **given: Any) -> Any:
    """Instantiate a checked `_target_` node with `given` keyword arguments in addition to its own.

    Raises:
        Refused: the constructor's faults, without a key, since a constructor does not get the path of its node.
    """
    try:
        return instantiate(with_current_names(node), **given, _convert_="all")
    except SystemExit as error:
        text = f"{node['_target_']} ended the program instead of returning an object: name another _target_"
        raise Refused([text]) from error
    except HydraException as error:
        cause = error.__cause__ or error
        kind: Kind = "absent" if isinstance(cause, DataNotFound) else "value"
        lines = sentences(cause) if isinstance(cause, ValueError) else sentences(cause)[:1]
        raise Refused(Fault("", kind, line) for line in lines) from error


def sentences(error: BaseException) -> list[str]:
    """The lines of an error's message; an error of a type that is not meant for users begins with its type."""
    if isinstance(error, MemoryError):
        return [f"more memory is needed than there is ({error or 'no details'}): choose smaller numbers"]
    lines = [line for line in str(error).splitlines() if line.strip()]
    if isinstance(error, ValueError | TypeError | OSError | RuntimeError) and lines:
        return lines
    return [": ".join([type(error).__name__, *lines[:1]])]


def build_network(node: Mapping[str, Any], *, num_classes: int, seed: int) -> nn.Module:
    """A network for `num_classes`, initialised from `seed`; one from outside the package is wrapped in our contract.

    Raises:
        Refused: it cannot be built, or has another number of classes.
    """
    takes = signature(resolve(str(node["_target_"])))
    wanted = ("num_classes" in takes.annotations or takes.open_ended) and "num_classes" not in node
    given = {"num_classes": num_classes} if wanted else {}
    with seeded(seed, "student"):
        module = build(node, **given)
        if not isinstance(module, nn.Module):
            text = f"{node['_target_']} must return a torch.nn.Module, it returned {type(module).__name__}"
            raise Refused([f"{text}: name the class of a network, or a function that returns one"])
        network = as_network(module, num_classes=num_classes)
    if network.num_classes != num_classes:
        raise Refused([f"the network has {network.num_classes} classes, the data set has {num_classes}"])
    return network.to(memory_format=torch.channels_last)


def try_network(node: Mapping[str, Any], *, num_classes: int, image_size: int) -> nn.Module:
    """Build a network and run it on one image; returns it on the meta device, with shapes and without values.

    Raises:
        Refused: it cannot be built or used.
    """
    network = build_network(node, num_classes=num_classes, seed=0)
    try:
        with torch.no_grad():
            output = network.eval()(torch.zeros(1, 3, image_size, image_size))
    except Exception as error:  # a network from anywhere: whatever it raises, it cannot be trained
        raise Refused(sentences(error)[:1]) from error
    shape = getattr(getattr(output, "logits", None), "shape", None)
    if shape != (1, num_classes):
        got = f"logits of shape {tuple(shape)}" if shape is not None else f"a {type(output).__name__} without logits"
        raise Refused([f"it must return distill.models.Output with logits of shape (1, {num_classes}), got {got}"])
    return shapes_of(network)


def build_objective(node: Mapping[str, Any], *, seed: int) -> Objective:
    """The objective with its own initial weights, where it has any."""
    with seeded(seed, "objective"):
        objective: Objective = build(node)
    return objective


def build_recipe(node: Mapping[str, Any]) -> Recipe:
    """The recipe; equal nodes share one. Its optimizer is built once here, so that its faults come out early."""
    return _recipe(json.dumps(node, sort_keys=True))


@lru_cache(maxsize=32)
def _recipe(text: str) -> Recipe:
    node = json.loads(text)
    faults = [
        Fault(
            at := f"recipe.optimizer.{key}",
            "value",
            f"{at} must be {'> 0' if key == 'lr' else '>= 0'}, got {value}: change it",
        )
        for key, value in node.get("optimizer", {}).items()
        if isinstance(value, int | float) and (value < 0 or (value == 0 and key == "lr"))
    ]
    try:
        recipe: Recipe = build(node)
    except Refused:
        raise Refused([*faults, *_faults_of_parts(node)]) from None
    if not faults:
        try:
            recipe.optimizer(_parameters(node["optimizer"]))
        except _ValuesAreSound:
            pass
        except Exception as error:  # of any library
            faults = Refused(sentences(error)[:1]).at("recipe.optimizer")
    if faults:
        raise Refused(faults)
    return recipe


class _ValuesAreSound(Exception):
    """An optimizer has checked its values and is about to read its parameters."""


def _parameters(node: Mapping[str, Any]) -> Iterator[nn.Parameter]:
    """The parameters to check an optimizer with.

    torch's own optimizers check their values before they read parameters, except for the four below; what they do
    afterwards imports torch._dynamo, which takes as long as the rest of a command that trains nothing.
    """
    later = ("foreach", "fused", "capturable", "differentiable")
    if str(node.get("_target_")).startswith("torch.optim.") and not any(node.get(key) for key in later):
        raise _ValuesAreSound
    yield nn.Parameter(torch.zeros(1))


def _faults_of_parts(node: Mapping[str, Any]) -> list[Fault]:
    """The faults of each part of a refused node, and of the node with its sound parts only."""
    faults: list[Fault] = []
    sound = dict(node)
    for key, value in node.items():
        if isinstance(value, Mapping) and not value.get("_partial_"):
            try:
                build(value)
            except Refused as error:
                sound[key] = None
                faults += error.faults
    try:
        build(sound)
    except Refused as error:
        faults += error.faults
    return faults


def build_dataset(node: Mapping[str, Any]) -> Dataset:
    """The data set; equal nodes share one in memory."""
    return _dataset(json.dumps(node, sort_keys=True, default=list))


@lru_cache(maxsize=4)
def _dataset(node: str) -> Dataset:
    content = json.loads(node)
    target = content["_target_"]
    try:
        dataset = build(content)
    except Refused as refused:
        if target.startswith("distill."):
            raise
        raise Refused(replace(fault, text=f"{target} failed: {fault.text}") for fault in refused.faults) from refused
    if not isinstance(dataset, ImageDataset | PhotoDataset):
        got = "None" if dataset is None else f"a {type(dataset).__name__}"
        remedy = "return distill.data.ImageDataset(...), as docs/extending.md shows"
        raise Refused([f"{target} must return a data set, got {got}: {remedy}"])
    return dataset
