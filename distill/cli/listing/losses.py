"""Loss presets composed, observed and laid out for `distill losses`."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from distill.cli.grammar import UsageError
from distill.cli.listing.headers import Header, read_header
from distill.cli.listing.needs import Observed, observe
from distill.config.build import Refused, sentences
from distill.config.check import UNRESOLVED, check_target, check_typed
from distill.config.composed import Composed
from distill.config.locate import configs_dir
from distill.config.presets import Presets
from distill.config.stages import FirstStage, split_stages
from distill.config.weights import reduce_alpha
from distill.runs.layout import FIRST_STAGE
from distill.tables.leaves import leaves, word
from distill.tables.output import Views
from distill.tables.sheet import Sheet

PER_PAIR = "pair"  # stands for a number that the experiment says


@dataclass(frozen=True)
class Loss:
    """A preset: what its header says, what it was seen to do, and its numbers by their key in `loss`."""

    name: str
    header: Header
    observed: Observed
    defaults: Mapping[str, Any]


@dataclass(frozen=True)
class Catalogue:
    """Presets, and notes on those that cannot be shown."""

    losses: tuple[Loss, ...]
    notes: tuple[str, ...]


def catalogue(asked: Sequence[str], *, config_dir: Path | None) -> Catalogue:
    """The presets named in `asked`, all by default.

    A preset that cannot be run becomes a note; one that was asked for by name, a fault.

    Raises:
        UsageError: everything wrong with the command.
    """
    presets = Presets(config_dir)
    _, faults = presets.parse([f"loss={name}" for name in asked])
    if faults:
        raise UsageError(faults)
    found: list[Loss] = []
    wrong: list[str] = []
    for name, node, told in _nodes(list(dict.fromkeys(asked)) or presets.groups["loss"], presets):
        try:
            found.append(_loss(name, node, told, _file(name, config_dir)))
        except UsageError as error:
            wrong.append(f"{name}: {'; '.join(error.faults)}")
    if asked and wrong:
        raise UsageError(wrong)
    return Catalogue(tuple(found), tuple(f"{fault} (not shown)" for fault in wrong))


def _nodes(names: Sequence[str], presets: Presets) -> Iterator[tuple[str, Any, list[str]]]:
    """The node of each preset, with the faults found in composing it."""
    together = presets.compose([f"+loss@each.{i}={name}" for i, name in enumerate(names)])
    for i, name in enumerate(names):
        # one composition is fifty times as fast as fifty, but a broken preset breaks it for all
        job = together if together.config else presets.compose([f"+loss@each.{i}={name}"])
        yield name, (job.config.get("each") or {}).get(str(i)), list(_about(f"each.{i}", job))


def _about(path: str, job: Composed) -> Iterator[str]:
    for fault in job.faults:
        if fault.startswith(f"{path}."):
            yield f"loss{fault.removeprefix(path)}"
        elif not re.match(r"each\.\d+\.", fault):
            yield fault


def _loss(name: str, node: Any, faults: list[str], file: Path) -> Loss:
    if not isinstance(node, Mapping):
        raise UsageError(faults or [f"loss={name} has no content"])
    defaults = {key: PER_PAIR if value is UNRESOLVED else value for key, value in leaves(node).items()}
    faults = [fault for fault in faults if not re.match(r"loss\.\S+ is \$\{pair\.", fault)]
    # what an experiment will say is 1 for the time being: the shapes are the same
    method, stage = split_stages(reduce_alpha(_filled(node), (), faults, option=name))
    method = check_target(method, "loss", faults)
    first = check_typed(stage, FirstStage, f"loss.{FIRST_STAGE}", faults) if stage else {}
    if faults:
        raise UsageError(faults)
    try:
        observed = observe(method)
        if first:
            observed = _joined(observe(first["loss"]), observed)
    except Refused as refused:
        raise UsageError(refused.faults) from refused
    except Exception as error:  # of any method
        raise UsageError(sentences(error)[:1]) from error
    numbers = {key: value for key, value in defaults.items() if _is_number(value) and "_target_" not in key}
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


def _is_number(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(map(_is_number, value))
    return value == PER_PAIR or (isinstance(value, int | float) and not isinstance(value, bool))


def _file(name: str, config_dir: Path | None) -> Path:
    folders = [configs_dir(), *([config_dir] if config_dir else [])]  # in the order in which Hydra looks
    return next(
        path
        for folder in folders
        for suffix in ("yaml", "yml")
        if (path := folder / "loss" / f"{name}.{suffix}").is_file()
    )


def views(found: Catalogue) -> Views:
    """The catalogue in every shape."""
    return Views(
        sheet=lambda _: _sheet(found),
        records=lambda: [_record(loss) for loss in found.losses],
        document=lambda: {"losses": [_told(loss) for loss in found.losses], "notes": list(found.notes)},
        notes=lambda: found.notes,
    )


def _sheet(found: Catalogue) -> Sheet:
    return Sheet(
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
    return [f"{key}={word(value)}" for key, value in loss.defaults.items()]


def _told(loss: Loss) -> dict[str, Any]:
    header, observed = asdict(loss.header), asdict(loss.observed)
    return {"name": loss.name, **header, **observed, "defaults": dict(loss.defaults)}


def _record(loss: Loss) -> dict[str, Any]:
    told = _told(loss)
    return {key: list(value) if isinstance(value, tuple) else value for key, value in told.items()} | {
        "defaults": _words(loss)
    }
