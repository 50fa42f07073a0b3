"""Adapts a student's images to a teacher that was trained elsewhere: normalisation, size and classes."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from torch import nn

from distill.config.faults import Fault, Refused
from distill.config.plan import Node
from distill.config.rebuild import normalisation
from distill.models import AsTrained, Inputs, Network
from distill.models.inputs import Channels
from distill.runs.identity import canonical, run_id
from distill.runs.store import RunRecord

WORDNET = re.compile(r"n\d{8}")
_SHOWN = 5  # classes that are listed


@dataclass(frozen=True)
class View:
    """What stands between a student's stream and a teacher that was trained on other images or classes.

    own      `mean` and `std` of the images it was trained with; empty where they are those of the stream
    data     `mean` and `std` of the stream
    size     in pixels, to which images are resized; None: they stay
    classes  where the data set's classes stand among its logits; None: they are its logits
    """

    own: Mapping[str, Channels]
    data: Mapping[str, Channels]
    size: int | None = None
    classes: tuple[int, ...] | None = None

    @property
    def identity(self) -> dict[str, Any]:
        """What of it enters ids: what changes the logits."""
        found = {key: list(value) for key, value in self.own.items()}
        size = {} if self.size is None else {"input": self.size}
        return {**found, **size, **({} if self.classes is None else {"classes": list(self.classes)})}

    @property
    def words(self) -> str:
        """What tables add to the teacher's name."""
        return "" if self.size is None else " input=native"

    def key(self, weights: str) -> str:
        """Equal for teachers that give equal logits for equal images."""
        return f"{weights}:{run_id(self.identity)}" if self.identity else weights

    def wrapped(self, network: nn.Module) -> nn.Module:
        """The network behind it; itself where nothing has to be changed."""
        if not self.identity:
            return network
        data = {f"data_{key}": self.data[key] for key in self.own}
        inputs = Inputs(size=self.size, **self.own, **data)
        return AsTrained(cast(Network, network), inputs=inputs, classes=self.classes)


def view_of(record: RunRecord, data: Node, teacher: Node, *, image_size: int) -> View:
    """The view of a finished run that is the `teacher` node's, for the data set `data`, as ids hold it.

    Raises:
        Refused: its classes cannot be those of the data set.
        StorageError: its config is damaged.
    """
    assert record.result is not None
    mean, std = normalisation(record)
    size, wanted, count = record.result.get("image_size"), teacher.get("classes"), record.result["classes"]
    positions = None if wanted is None else class_positions(wanted, [""] * len(wanted), own=(), count=count)
    mean, std = teacher.get("mean") or mean, teacher.get("std") or std
    return seen_as(teacher, mean, std, size, data, image_size=image_size, classes=positions)


def seen_as(
    teacher: Node,
    mean: Channels,
    std: Channels,
    size: int | None,
    data: Node,
    *,
    image_size: int,
    classes: tuple[int, ...] | None,
) -> View:
    """The view of weights that were trained with this normalisation and size."""
    own, stream = {"mean": mean, "std": std}, {key: tuple(data[key]) for key in ("mean", "std")}
    differs = canonical(own) != canonical(stream)
    wanted = size if teacher.get("input") == "native" and size != image_size else None
    return View(own if differs else {}, stream, wanted, classes)


def class_positions(
    wanted: Sequence[int | str] | None, names: Sequence[str], *, own: Sequence[str], count: int
) -> tuple[int, ...] | None:
    """Where the data set's classes stand among a teacher's logits; None where they are its logits.

    Args:
        wanted: `teacher.classes`; None: matched by WordNet id, or taken for the same where there are as many.
        names: the data set's classes.
        own: the teacher's classes, empty where they are not known.
        count: of the teacher's logits.

    Raises Refused: a class cannot be found, is named twice, or nothing says how they match.
    """
    if wanted is None and all(map(WORDNET.fullmatch, names)) and own:
        wanted = names
    if wanted is None:
        if len(names) == count:
            return None
        raise _unmatched(
            f"the teacher has {count} classes, the data set has {len(names)}, and nothing says which are the same: set "
            f"teacher.classes=[...], {_one_for_each(names)}"
        )
    if len(wanted) != len(names):
        raise _unmatched(f"teacher.classes must have {len(names)} entries, got {len(wanted)}: {_one_for_each(names)}")
    places = {name: place for place, name in enumerate(own)}
    found = [each if isinstance(each, int) else places.get(each, -1) for each in wanted]
    lost = [str(each) for each, place in zip(wanted, found, strict=True) if not 0 <= place < count]
    if lost:
        remedy = "leave them out of the data set, or choose another teacher"
        if wanted is not names:
            remedy = f"teacher.classes is {_one_for_each(names)}"
        shown = _listed(lost)
        raise _unmatched(f"the teacher has no class {shown} among its {count}: {remedy}")
    if len(set(found)) < len(found):
        twice = next(str(each) for each, place in zip(wanted, found, strict=True) if found.count(place) > 1)
        raise _unmatched(f"teacher.classes must name different classes, got {twice} twice")
    return None if found == list(range(count)) else tuple(found)


def _one_for_each(names: Sequence[str]) -> str:
    return f"the teacher's class (a number from 0, or a WordNet id) of each class of the data set: {_listed(names)}"


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words[:_SHOWN]) + (f" and {len(words) - _SHOWN} more" if len(words) > _SHOWN else "")


def _unmatched(text: str) -> Refused:
    return Refused([Fault("teacher.classes", "conflict", text)])
