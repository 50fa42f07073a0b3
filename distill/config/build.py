"""Configuration to objects: the only caller of Hydra's `instantiate`."""

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch
from hydra.errors import HydraException
from hydra.utils import instantiate
from torch import nn

from distill.config.targets import resolve, signature
from distill.data import ImageDataset
from distill.models import as_network
from distill.models.meta import shapes_of
from distill.objectives import Objective
from distill.training import Recipe, seeded


class Refused(ValueError):
    """A constructor refused its arguments; `faults` are its sentences."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        super().__init__("\n".join(faults))


def build(node: Mapping[str, Any], **given: Any) -> Any:
    """Instantiate a checked `_target_` node with `given` keyword arguments beside its own.

    Raises:
        Refused: what the constructor raised, as sentences.
    """
    try:
        return instantiate(dict(node), **given, _convert_="all")
    except HydraException as error:
        cause = error.__cause__ or error
        raise Refused(sentences(cause) if isinstance(cause, ValueError) else sentences(cause)[:1]) from error


def sentences(error: BaseException) -> list[str]:
    """An error's lines; what is no sentence of ours gets its type in front."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    if isinstance(error, ValueError | TypeError | OSError | RuntimeError) and lines:
        return lines
    return [": ".join([type(error).__name__, *lines[:1]])]


def build_network(node: Mapping[str, Any], *, num_classes: int, seed: int) -> nn.Module:
    """A network for `num_classes`, initialised from `seed`; one from outside the package is given our contract.

    Raises:
        Refused: it cannot be built, or has another number of classes.
    """
    takes = signature(resolve(str(node["_target_"])))
    wanted = ("num_classes" in takes.annotations or takes.open_ended) and "num_classes" not in node
    given = {"num_classes": num_classes} if wanted else {}
    with seeded(seed, "student"):
        network = as_network(build(node, **given), num_classes=num_classes)
    if network.num_classes != num_classes:
        raise Refused([f"it tells {network.num_classes} classes apart where the data set has {num_classes}"])
    return network.to(memory_format=torch.channels_last)


def try_network(node: Mapping[str, Any], *, num_classes: int, image_size: int) -> nn.Module:
    """Build a network and look at the logits it gives for one image; returns it without its values.

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
    """The recipe; equal nodes share one. Its optimizer is built here once, for what it says of its numbers."""
    return _recipe(json.dumps(node, sort_keys=True))


@lru_cache(maxsize=32)
def _recipe(text: str) -> Recipe:
    node = json.loads(text)
    faults = [
        f"recipe.optimizer.{key} must be {'> 0' if key == 'lr' else '>= 0'}, got {value}: change it"
        for key, value in node.get("optimizer", {}).items()
        if isinstance(value, int | float) and (value < 0 or (value == 0 and key == "lr"))
    ]
    try:
        recipe: Recipe = build(node)
    except Refused:
        raise Refused([*faults, *_faults_of_parts(node)]) from None
    if not faults:
        try:
            recipe.optimizer([nn.Parameter(torch.zeros(1))])
        except Exception as error:  # of any library
            faults = [f"recipe.optimizer: {sentence}" for sentence in sentences(error)[:1]]
    if faults:
        raise Refused(faults)
    return recipe


def _faults_of_parts(node: Mapping[str, Any]) -> list[str]:
    """What each part of a refused node says by itself, and the node with the sound ones only."""
    faults: list[str] = []
    sound = dict(node)
    for key, value in node.items():
        if isinstance(value, Mapping) and not value.get("_partial_"):
            try:
                build(value)
            except Refused as refused:
                sound[key] = None
                faults += refused.faults
    try:
        build(sound)
    except Refused as refused:
        faults += refused.faults
    return faults


def build_dataset(node: Mapping[str, Any]) -> ImageDataset:
    """The data set; equal nodes share one in memory."""
    return _dataset(json.dumps(node, sort_keys=True, default=list))


@lru_cache(maxsize=4)
def _dataset(node: str) -> ImageDataset:
    dataset: ImageDataset = build(json.loads(node))
    return dataset
