"""The work of `distill losses`: compose every loss preset, find what its method reads, and lay out the list."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from distill.config import configs_dir
from distill.config.build import build_objective, rehearse, sentences
from distill.config.check import UNRESOLVED, check_target, check_typed, reduce_alpha
from distill.config.faults import Fault, Refused
from distill.config.plan import split_stages
from distill.config.presets import Composed, Presets
from distill.config.schema import FirstStage
from distill.data import Batch
from distill.losses import Objective, Task
from distill.models import Network, Output
from distill.runs.layout import FIRST_STAGE
from distill.tables.rendering import Content, TextTable
from distill.tables.values import flatten, to_text

PER_PAIR = "pair"  # stands for a number that the experiment sets
# "Sun et al., CVPR 2024" "Hinton et al. 2015" "Jin, Wang and Lin, CVPR 2023" "Sun et al. (CVPR 2024"
_CITED = re.compile(
    r"(?P<first>[A-Z][a-z][\w-]*)(?:(?P<more> et al\.|, [A-Z][a-z][\w-]*,? (?:and )?[A-Z][a-z][\w-]*)|"
    r" and (?P<second>[A-Z][a-z][\w-]*))?,? \(?(?:[A-Z][A-Za-z]*[A-Z],? )?(?P<year>(?:19|20)\d\d)\b"
)

CLASSES = 100
WIDTHS, SIZES = (16, 16, 32, 64), (32, 32, 16, 8)  # of every tap; equal for student and teacher, as FSP demands

# what a network may lack, and its outputs then
PARTS: dict[str, Callable[[Output], Output]] = {
    "features": lambda output: replace(output, features=()),
    "preactivations": lambda output: replace(output, preactivations=(None,) * len(output.preactivations)),
    "final_map": lambda output: replace(output, final_map=None),
    "embedding": lambda output: replace(output, embedding=None),
    "head": lambda output: output,
}


@dataclass(frozen=True)
class Header:
    """A preset's title (the first sentence of its header), its source, and what is cited there first, if anything."""

    title: str
    source: str
    paper: str
    arxiv: str


@dataclass(frozen=True)
class Observed:
    """The names of a method's terms, what it reads beside the labels, and whether it has a teacher."""

    terms: tuple[str, ...]
    needs: tuple[str, ...]
    teacher: bool


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
        Refused: everything wrong with the command.
    """
    presets = Presets(config_dir)
    _, unknown = presets.parse([f"loss={name}" for name in asked])
    if unknown:
        raise Refused(unknown)
    found: list[Loss] = []
    wrong: list[str] = []
    for name, node, told in _nodes(list(dict.fromkeys(asked)) or presets.groups["loss"], presets):
        try:
            found.append(_loss(name, node, told, _file(name, config_dir)))
        except Refused as error:
            wrong.append(f"{name}: {'; '.join(error.sentences)}")
    if asked and wrong:
        raise Refused(wrong)
    return Catalogue(tuple(found), tuple(f"{fault} (not shown)" for fault in wrong))


def _nodes(names: Sequence[str], presets: Presets) -> Iterator[tuple[str, Any, list[Fault]]]:
    """The node of each preset, with the faults found in composing it."""
    together = presets.compose([f"+loss@each.{i}={name}" for i, name in enumerate(names)])
    for i, name in enumerate(names):
        # one composition is fifty times as fast as fifty, but a broken preset breaks it for all
        job = together if together.config else presets.compose([f"+loss@each.{i}={name}"])
        yield name, (job.config.get("each") or {}).get(str(i)), list(_about(f"each.{i}", job))


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


def views(found: Catalogue) -> Content:
    """The catalogue in every shape."""
    return Content(
        table=lambda _: _sheet(found),
        records=lambda: [_record(loss) for loss in found.losses],
        document=lambda: {"losses": [_told(loss) for loss in found.losses], "notes": list(found.notes)},
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


def _told(loss: Loss) -> dict[str, Any]:
    header, observed = asdict(loss.header), asdict(loss.observed)
    return {"name": loss.name, **header, **observed, "defaults": dict(loss.defaults)}


def _record(loss: Loss) -> dict[str, Any]:
    told = _told(loss)
    return {key: list(value) if isinstance(value, tuple) else value for key, value in told.items()} | {
        "defaults": _words(loss)
    }


def read_header(path: Path) -> Header:
    """The header of a preset's file; what it does not say is empty."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("#").strip())
    text = "\n".join(lines)
    # what follows the source are commands: `Run: distill train`, `Pairs: distill train`
    about, _, rest = re.split(r"^[A-Z][^:\n]*: +distill ", text, maxsplit=1, flags=re.M)[0].partition("Source: ")
    source = " ".join(rest.split())
    title = re.split(r"(?<=[a-z0-9)])\.\s", " ".join(about.split()) + " ", maxsplit=1)[0]
    arxiv = re.search(r"arXiv (\d{4}\.\d{4,5})", source)
    return Header(title.strip(), source, _paper(source), arxiv[1] if arxiv else "")


def _paper(source: str) -> str:
    """`Sun et al. 2024`; `ours` where the source begins so; `-` where it cites nothing."""
    if source.startswith("ours"):
        return "ours"
    cited = _CITED.search(source)
    if cited is None:
        return "-"
    others = " et al." if cited["more"] else f" and {cited['second']}" if cited["second"] else ""
    return f"{cited['first']}{others} {cited['year']}"


def observe(node: Mapping[str, Any]) -> Observed:
    """Run the objective of a checked node between two networks of equal shapes.

    Raises:
        Exception: whatever building or running it raises.
    """
    watched = Watched(build_objective(node, seed=0))
    terms = _rehearse(watched, "")
    needs = [field for field in ("logits",) if field in watched.read_of_teacher]
    if not watched.logits_only:
        needs += [part for part in PARTS if _fails_without(part, node)]
    needs += [field for field in ("index", "strong") if field in watched.read_of_batch]
    if watched.two_views and "strong" not in needs:
        needs.append("strong")
    return Observed(tuple(terms), tuple(needs), watched.needs_teacher)


class Watched(Objective):
    """An objective that notes what another one reads of the teacher's output and of the batch."""

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.objective = objective
        self.needs_teacher, self.two_views = objective.needs_teacher, objective.two_views
        self.logits_only = objective.logits_only
        self.read_of_teacher: set[str] = set()
        self.read_of_batch: set[str] = set()

    def attach(self, student: nn.Module, teacher: nn.Module | None, task: Task) -> nn.Module | None:
        return self.objective.attach(student, teacher, task)

    def forward(self, student: Output, teacher: Output | None, batch: Batch, progress: Tensor) -> dict[str, Tensor]:
        seen = None if teacher is None else _noting(teacher, self.read_of_teacher)
        return self.objective(student, seen, _noting(batch, self.read_of_batch), progress)


class Shapes(Network):
    """A network with outputs of the shapes of a CIFAR ResNet, made of next to nothing; it may lack one part."""

    def __init__(self, *, lacking: str = "") -> None:
        super().__init__()
        self.part = lacking
        self.feature_channels = () if lacking == "features" else WIDTHS
        self.num_classes, self.embedding_dim = CLASSES, WIDTHS[-1]
        self.fc = nn.Linear(WIDTHS[-1], CLASSES, device="meta")

    @property
    def head(self) -> nn.Linear | None:
        return None if self.part == "head" else self.fc

    def forward(self, images: Tensor, *, taps: bool = False) -> Output:
        grey = images.mean(dim=1, keepdim=True)
        sizes = zip(WIDTHS, SIZES, strict=True)
        maps = tuple(functional.adaptive_avg_pool2d(grey, size).expand(-1, width, -1, -1) for width, size in sizes)
        embedding = maps[-1].mean(dim=(2, 3))
        output = Output(self.fc(embedding), maps, maps, maps[-1], embedding)
        return PARTS[self.part](output) if taps and self.part else output


def _fails_without(part: str, node: Mapping[str, Any]) -> bool:
    try:
        _rehearse(build_objective(node, seed=0), part)
    except Exception:  # in its own words or not: without that part it cannot be run
        return True
    return False


def _rehearse(objective: Objective, lacking: str) -> dict[str, Tensor]:
    student, teacher = Shapes(lacking=lacking), Shapes(lacking=lacking)
    labels = torch.arange(2 * CLASSES) % CLASSES
    guide = teacher if objective.needs_teacher else None
    return rehearse(objective, student, guide, image_size=SIZES[0], labels=labels)


def _noting(record: Any, read: set[str]) -> Any:
    """A copy of an output or a batch that notes which of its fields are read."""
    kind: Any = type(record)

    def get(self: Any, name: str) -> Any:
        read.add(name)
        return object.__getattribute__(self, name)

    copied: Any = object.__new__(type(kind.__name__, (kind,), {"__getattribute__": get}))
    object.__getattribute__(copied, "__dict__").update(vars(record))
    return copied
