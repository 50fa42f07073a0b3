"""The work of `distill losses`: compose every loss preset, read what its method declares, and lay out the list."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from distill.config import preset_files
from distill.config.build import build_objective, sentences
from distill.config.check import UNRESOLVED, check_target, check_typed, reduce_alpha
from distill.config.compose.composer import Composed
from distill.config.compose.presets import Presets
from distill.config.faults import Fault, Refused
from distill.config.plan import split_stages
from distill.config.rehearsal import rehearse
from distill.config.schema import FirstStage
from distill.models import resnet8
from distill.models.meta import shapes_of
from distill.runs.layout import FIRST_STAGE
from distill.tables.rendering import Content, TextTable
from distill.tables.values import flatten, is_number, to_text

PER_PAIR = "pair"  # stands for a number that the experiment sets
CLASSES = 100


@dataclass(frozen=True)
class Header:
    """A preset's title (the first sentence of its header), its source, and its paper: `-` if it names none."""

    title: str
    source: str
    paper: str
    arxiv: str


@dataclass(frozen=True)
class Observed:
    """The names of a method's terms, what it declares to read, and whether it has a teacher."""

    terms: tuple[str, ...]
    needs: tuple[str, ...]
    teacher: bool


@dataclass(frozen=True)
class Loss:
    """A preset: its header, its terms and needs, and its numbers by their key in `loss`."""

    name: str
    header: Header
    observed: Observed
    defaults: Mapping[str, Any]


@dataclass(frozen=True)
class Catalogue:
    """Presets, and notes on those that cannot be shown."""

    losses: tuple[Loss, ...]
    notes: tuple[str, ...]


def catalogue(names: Sequence[str], *, config_dir: Path | None) -> Catalogue:
    """The presets called `names`; all if there are none.

    A preset that cannot be run becomes a note, or a fault if the command names it.

    Raises:
        Refused: everything wrong with the command.
    """
    presets = Presets(config_dir)
    _, unknown = presets.parse([f"loss={name}" for name in names])
    if unknown:
        raise Refused(unknown)
    files = preset_files("loss", config_dir)
    found: list[Loss] = []
    wrong: list[str] = []
    for name, node, faults in _nodes(list(dict.fromkeys(names)) or presets.groups["loss"], presets):
        try:
            found.append(_loss(name, node, faults, files[name]))
        except Refused as error:
            wrong.append(f"{name}: {'; '.join(error.sentences)}")
    if names and wrong:
        raise Refused(wrong)
    return Catalogue(tuple(found), tuple(f"{fault} (not shown)" for fault in wrong))


def _nodes(names: Sequence[str], presets: Presets) -> Iterator[tuple[str, Any, list[Fault]]]:
    """The node of each preset, with the faults found in composing it."""
    job = presets.compose([f"+loss@each.{i}={name}" for i, name in enumerate(names)])
    if job.config or len(names) == 1:
        for i, name in enumerate(names):
            yield name, (job.config.get("each") or {}).get(str(i)), list(_about(f"each.{i}", job))
    else:  # one composition is fifty times as fast as fifty, but a broken preset breaks it for all
        half = len(names) // 2
        yield from _nodes(names[:half], presets)
        yield from _nodes(names[half:], presets)


def _about(path: str, job: Composed) -> Iterator[Fault]:
    """The faults of the preset that was composed at `path`, as if it stood at `loss`, and those of the whole job."""
    for fault in job.faults:
        if fault.within(path):
            yield Fault(fault.key.replace(path, "loss", 1), fault.kind, fault.text.replace(path, "loss"))
        elif not fault.within("each"):
            yield fault


def _loss(name: str, node: Any, faults: list[Fault], file: Path) -> Loss:
    if not isinstance(node, Mapping):
        raise Refused(faults or [f"loss={name} has no content"])
    defaults = {key: PER_PAIR if value is UNRESOLVED else value for key, value in flatten(node).items()}
    faults = [fault for fault in faults if fault.kind != "missing"]
    # values that an experiment fills are 1 here: the shapes are the same
    method, stage = split_stages(reduce_alpha(_filled(node), (), faults, option=name))
    method = check_target(method, "loss", faults)
    first = check_typed(stage, FirstStage, f"loss.{FIRST_STAGE}", faults) if stage else {}
    if faults:
        raise Refused(faults)
    try:
        observed = observe(method)
        if first:
            observed = _joined(observe(first["loss"]), observed)
    except Refused:
        raise
    except Exception as error:  # of any method
        raise Refused(sentences(error)[:1]) from error
    numbers = {key: value for key, value in defaults.items() if _has_numbers(value) and "_target_" not in key}
    return Loss(name, read_header(file), observed, numbers)


def _joined(first: Observed, second: Observed) -> Observed:
    """A method whose first stage is a run of its own, with terms of its own."""
    terms = [f"{FIRST_STAGE}/{term}" for term in first.terms]
    needs = dict.fromkeys([*first.needs, *second.needs])
    return Observed((*terms, *second.terms), tuple(needs), first.teacher or second.teacher)


def _filled(node: Any) -> Any:
    if isinstance(node, Mapping):
        return {key: _filled(value) for key, value in node.items()}
    return 1.0 if node is UNRESOLVED else node


def _has_numbers(value: Any) -> bool:
    """Whether a default is a number, or a list of numbers."""
    if isinstance(value, list):
        return bool(value) and all(map(_has_numbers, value))
    return value == PER_PAIR or is_number(value)


def formats(found: Catalogue) -> Content:
    """The catalogue in every shape."""
    return Content(
        table=lambda _: _sheet(found),
        records=lambda: [_record(loss) for loss in found.losses],
        document=lambda: {"losses": [_document(loss) for loss in found.losses], "notes": list(found.notes)},
        notes=lambda: found.notes,
    )


def _sheet(found: Catalogue) -> TextTable:
    return TextTable(
        title="",
        headers=("loss", "paper", "terms", "needs", "defaults"),
        numeric=(False,) * 5,
        rows=tuple(
            (loss.name, _short(loss.header.paper), _terms(loss), _needs(loss), " ".join(_words(loss)))
            for loss in found.losses
        ),
        notes=found.notes,
        naming=1,
    )


def _short(paper: str) -> str:
    return re.sub(r"( et al\.| and \S+)(?= \d+$)", "", paper)


def _terms(loss: Loss) -> str:
    """Those of a first stage in brackets, where a line would be too long with its name."""
    return " ".join(re.sub(rf"^{FIRST_STAGE}/(.*)", r"(\1)", term) for term in loss.observed.terms)


def _needs(loss: Loss) -> str:
    return ", ".join([*loss.observed.needs, *([] if loss.observed.teacher else ["no teacher"])]) or "-"


def _words(loss: Loss) -> list[str]:
    return [f"{key}={to_text(value)}" for key, value in loss.defaults.items()]


def _document(loss: Loss) -> dict[str, Any]:
    header, observed = asdict(loss.header), asdict(loss.observed)
    return {"name": loss.name, **header, **observed, "defaults": dict(loss.defaults)}


def _record(loss: Loss) -> dict[str, Any]:
    found = _document(loss)
    return {key: list(value) if isinstance(value, tuple) else value for key, value in found.items()} | {
        "defaults": _words(loss)
    }


def read_header(path: Path) -> Header:
    """The comment at the head of a preset's file: its title, `# Paper: AUTHORS YEAR, arXiv NUMBER`, `# Source: ...`."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("#").strip())
    paper, _, arxiv = next((line[7:] for line in lines if line.startswith("Paper: ")), "-").partition(", arXiv ")
    text = "\n".join(line for line in lines if not line.startswith("Paper: "))
    # what follows the source are commands: `Run: distill train`, `Pairs: distill train`
    about, _, rest = re.split(r"^[A-Z][^:\n]*: +distill ", text, maxsplit=1, flags=re.M)[0].partition("Source: ")
    title = re.split(r"(?<=[a-z0-9)])\.\s", " ".join(about.split()) + " ", maxsplit=1)[0]
    return Header(title.strip(), " ".join(rest.split()), paper, arxiv)


def observe(node: Mapping[str, Any]) -> Observed:
    """What the objective of a checked node declares, and its terms, found by running it once on shapes.

    Raises:
        Exception: whatever building or running it raises.
    """
    objective = build_objective(node, seed=0)
    undeclared = ("logits",) if objective.logits_only else ("not declared",)
    needs = undeclared if objective.reads is None else objective.reads
    teacher = _network() if objective.needs_teacher else None
    labels = torch.arange(2 * CLASSES) % CLASSES
    terms = rehearse(objective, _network(), teacher, image_size=32, labels=labels)
    return Observed(tuple(terms), needs, teacher is not None)


@cache
def _network() -> nn.Module:
    """Student and teacher of every preset: shapes alone."""
    return shapes_of(resnet8(num_classes=CLASSES))
