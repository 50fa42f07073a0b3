"""The work of `distill models`: build and count the student presets, and lay out the list."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch

from distill.cli.arguments import OWN
from distill.config.build import build_dataset, build_network
from distill.config.check import MISSING, check_target, resolve
from distill.config.compose.composer import Composed
from distill.config.compose.presets import Presets
from distill.config.faults import Fault, Refused
from distill.data import SHAPES
from distill.models import Network, profile
from distill.tables.rendering import Content, TextTable
from distill.tables.values import flatten, natural_key

DATASET = "cifar100"  # the field's


@dataclass(frozen=True)
class Counted:
    """A network: its parameters, multiply-adds of one image, width of the embedding (0: none), (C, H, W) of taps."""

    name: str
    parameters: int
    macs: int
    embedding: int
    features: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class Listing:
    """Networks for `classes` classes and square images of `image_size` pixels; notes on those that are not there."""

    dataset: str
    classes: int
    image_size: int
    models: tuple[Counted, ...]
    notes: tuple[str, ...]


def count(pairs: Mapping[str, str], *, config_dir: Path | None) -> Listing:
    """Count the networks that `dataset`, `student` and their dotted keys name, every preset by default.

    A preset that cannot be counted becomes a note, or a fault if the command names it.

    Raises:
        Refused: everything wrong with the command.
    """
    presets = Presets(config_dir)
    named, overrides = _read(pairs, presets)
    keys = (key for key in pairs if key.startswith("student.") and (named or key != OWN))
    changes = [f" {key.removeprefix('student.')}={pairs[key]}" for key in keys]
    if not named and OWN in pairs:
        jobs = {pairs[OWN].rpartition(".")[2]: presets.compose(overrides)}
    else:
        names = named or sorted(presets.groups["student"], key=natural_key)
        jobs = {name: presets.compose([*overrides, f"student={name}"]) for name in names}
    found: list[Counted] = []
    faults: list[Fault] = []
    notes: list[str] = []
    shape: tuple[int, int] | None = None
    try:
        composed = [job for job in jobs.values() if job.config]
        shape = _shape((composed or [*jobs.values()])[0])
    except Refused as error:
        faults += error.faults
    for name, job in jobs.items():
        try:
            node = _checked_node(job, "student")
            if shape is not None:
                found.append(_counted("".join([name, *changes]), node, *shape))
        except Refused as error:
            if named or OWN in pairs:
                faults += error.faults
            else:
                notes.append(_how(name, job) or f"{name} is not counted: {'; '.join(error.sentences)}")
    _refuse_any(faults)
    assert shape is not None
    return Listing(pairs.get("dataset", DATASET), *shape, tuple(found), tuple(notes))


def _read(pairs: Mapping[str, str], presets: Presets) -> tuple[list[str], list[str]]:
    """The students that the command names, and the overrides for all of them."""
    named = pairs["student"].split(",") if "student" in pairs else []
    dataset = f"dataset={pairs.get('dataset', DATASET)}"
    values = [f"{key}={value}" for key, value in pairs.items() if "." in key]
    parsed, faults = presets.parse([dataset, *(f"student={name}" for name in named), *values])
    several = (o for o in parsed if o.is_sweep_override())
    faults += (Fault(o.key_or_group, "value", f"{o.input_line} names several values: choose one") for o in several)
    _refuse_any(faults)
    return named, [dataset, *(presets.text(o) for o in parsed if not presets.is_group(o))]


def _refuse_any(faults: Iterable[Fault]) -> None:
    refused = Refused(faults)
    if refused.faults:
        raise refused


def _checked_node(job: Composed, group: str) -> dict[str, Any]:
    """A group's node with its values cast. Raises Refused."""
    if not job.config:
        raise Refused(job.faults)
    _refuse_any(fault for fault in job.faults if fault.within(group))
    node = job.config.get(group)
    if not isinstance(node, Mapping) or "_target_" not in node:
        raise Refused([f"{group}={job.choices.get(group)} has no _target_: choose another"])
    faults: list[Fault] = []
    checked = check_target(node, group, faults)
    _refuse_any(faults)
    return checked


def _shape(job: Composed) -> tuple[int, int]:
    """Classes and image size of a data set, without loading it where these are always the same."""
    node = _checked_node(job, "dataset")
    known = SHAPES.get(resolve(str(node["_target_"])))
    if known is not None:
        return known
    data = build_dataset(node)
    return data.num_classes, data.image_size


def _counted(name: str, node: Mapping[str, Any], classes: int, image_size: int) -> Counted:
    try:
        network = _without_values(node, classes)
        counted = profile(network, image_size=image_size)
    except Refused as error:
        raise Refused([f"{name}: {fault}" for fault in error.faults]) from error
    # any network may fail on images of this size, or on the meta device
    except (RuntimeError, ValueError, TypeError, AssertionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise Refused([f"{name} does not take images of {image_size} x {image_size} pixels: {reason}"]) from error
    return Counted(name, counted.parameters, counted.macs, network.embedding_dim, counted.feature_shapes)


def _without_values(node: Mapping[str, Any], classes: int) -> Network:
    """The network on the meta device, which costs no time; a real one where its constructor reads values."""
    try:
        with torch.device("meta"):
            return cast(Network, build_network(node, num_classes=classes, seed=0))
    except (Refused, RuntimeError):
        return cast(Network, build_network(node, num_classes=classes, seed=0))


def _how(name: str, job: Composed) -> str | None:
    """How to use a preset that leaves something open."""
    unfilled = [
        path for path, value in flatten(job.config.get("student"), prefix="student").items() if value == MISSING
    ]
    words = " ".join(f"{path}={path.rpartition('.')[2].upper()}" for path in unfilled)
    return f"{name} is any network you name: distill models student={name} {words}" if unfilled else None


def formats(listing: Listing) -> Content:
    """The listing in every shape."""
    return Content(
        table=lambda everything: _sheet(listing, everything=everything),
        records=lambda: [_flat(listing, model) for model in listing.models],
        document=lambda: asdict(listing),
        notes=lambda: listing.notes,
    )


def _sheet(listing: Listing, *, everything: bool) -> TextTable:
    rows = tuple(
        (m.name, str(m.parameters), str(m.macs), str(m.embedding or "-"), " ".join(_shapes(m)) or "-")
        for m in listing.models
    )
    size = f"{listing.image_size}x{listing.image_size}"
    return TextTable(
        title="" if everything else f"{listing.dataset}: {listing.classes} classes, images of {size} pixels",
        headers=("network", "parameters", "MACs", "embedding", "features"),
        numeric=(False, True, True, True, False),
        rows=rows,
        notes=listing.notes,
        divisible=False,
    )


def _flat(listing: Listing, model: Counted) -> dict[str, Any]:
    data = {"dataset": listing.dataset, "classes": listing.classes, "image_size": listing.image_size}
    return asdict(model) | {"features": _shapes(model)} | data


def _shapes(model: Counted) -> Sequence[str]:
    return ["x".join(map(str, shape)) for shape in model.features]
