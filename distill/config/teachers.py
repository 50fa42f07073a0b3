"""Where a run's teacher comes from: a run that is trained first, a finished run, or published weights."""

import json
import re
from collections.abc import Mapping, Set
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from distill.config.check import resolve
from distill.config.faults import Fault, Refused
from distill.config.identity import canonical_network
from distill.config.own_code import OWN_CODE
from distill.config.plan import Node, Reference, RunPlan, TeacherFacts
from distill.config.rebuild import WITHOUT_DOWNLOAD, load_into, rebuild_network
from distill.config.teacher_view import View, class_positions, seen_as, view_of
from distill.config.weights import file_network, weights_digest
from distill.data import Dataset
from distill.models.inputs import Channels
from distill.models.published import NotDownloaded, Published, published
from distill.runs.files import StorageError
from distill.runs.foreign import UnreadableError, read_checkpoint
from distill.runs.identity import run_id
from distill.runs.layout import PUBLISHED
from distill.runs.store import RunRecord

ELSEWHERE = ("pretrained", "weights")  # keys of `teacher` that name published weights
UNUSUAL = re.compile(r"[^\w.+-]+")  # in the names of folders


@dataclass(frozen=True)
class PlannedTeacher:
    """The run of a configuration, trained first where it is not finished: it reads the same data as its students."""

    plan: RunPlan

    @property
    def name(self) -> str:
        return self.plan.names["student"]

    @property
    def identity(self) -> dict[str, Any]:
        """A teacher given by its configuration is identified by its run."""
        return {"run": self.plan.run_id}

    @property
    def node(self) -> Node:
        node: Node = self.plan.config["student"]
        return node

    @property
    def precision(self) -> str:
        return self.plan.precision

    def network(self) -> nn.Module:
        network = self.plan.network()
        load_into(network, self.plan.finished())
        return network

    def facts(self) -> TeacherFacts:
        record = self.plan.finished()
        assert record.result is not None
        weights = record.result["weights_sha256"]
        remedy = "its weights or the data have changed; delete its folder to train it again"
        accuracy = record.result["last"]["accuracy"]
        reference = Reference(accuracy, "its record says", remedy, precision=self.precision)
        return TeacherFacts(record.run_id, weights, weights, record.path, reference)

    def moved(self, device: str) -> "PlannedTeacher":
        return PlannedTeacher(self.plan.moved(device))


def has_options(network: Mapping[str, Any]) -> bool:
    """Whether a canonical network has options by which it may differ from another one with the same weights."""
    return bool(network.keys() - {"target", "name", "version", OWN_CODE})


@dataclass(frozen=True)
class FinishedTeacher:
    """A finished run that `teacher.run` names, imported ones included. It keeps the normalisation it was trained with.

    record     of the run
    view       of the students' stream
    expected   what `teacher.expected` states for these students
    dataset    the node of its students' data set
    data       the same data set as run ids hold it
    precision  resolved
    own        the class of a network that the command names, which may be built whatever its code
    """

    record: RunRecord
    view: View
    expected: Reference | None
    dataset: Node
    data: Mapping[str, Any]
    precision: str
    own: str | None
    plan: ClassVar[None] = None

    @property
    def name(self) -> str:
        return str(self.record.names.get("student", self.record.run_id)) + self.view.words

    @property
    def identity(self) -> dict[str, Any]:
        """The digest of its weights, and every difference of the view from its training.

        Of imported weights also the options of their network: a run trained here has one network for its weights.
        """
        return {"weights": self._weights, **self._options, **self.view.identity}

    @property
    def _options(self) -> dict[str, Any]:
        if not (self.record.result or {}).get("imported"):
            return {}
        network = canonical_network(self.node)
        return {"network": network} if has_options(network) else {}

    @property
    def node(self) -> Node:
        node: Node = self.record.config["student"]
        return node

    @property
    def _weights(self) -> str:
        assert self.record.result is not None
        return str(self.record.result["weights_sha256"])

    def network(self) -> nn.Module:
        return self.view.wrapped(rebuild_network(self.record, own=self.own))

    def facts(self) -> TeacherFacts:
        return TeacherFacts(
            run_id=self.record.run_id,
            weights=self._weights,
            key=self.view.key(self._weights + (f":{run_id(self._options)}" if self._options else "")),
            folder=self.record.path,
            reference=self.expected or self._recorded(),
            on_crops=bool(self.view.identity),
            chooses=self.view.classes is not None,
        )

    def _recorded(self) -> Reference | None:
        """Its own accuracy, where it was measured on these images and classes, or claimed for them."""
        result = self.record.result
        assert result is not None
        accuracy = result["last"]["accuracy"]
        if self.view.classes is not None or self.view.size is not None:
            return None
        if (result.get("imported") or {}).get("accuracy") == "claimed":
            same = self.dataset["_target_"] == self.record.config["dataset"]["_target_"] and not self.data["holdout"]
            remedy = "import it again with its data (dataset.npz=FILE, dataset.root=DIR), so that it is measured"
            return Reference(accuracy, "its file claims", remedy) if same else None
        remedy = "its weights or the data have changed; import it again, or choose another teacher"
        same = _evaluated(self.record.identity.get("data")) == _evaluated(self.data)
        precision = str(self.record.identity["precision"])
        return Reference(accuracy, "its record says", remedy, precision=precision) if same else None

    def moved(self, device: str) -> "FinishedTeacher":
        return self


def _evaluated(data: Any) -> Any:
    """What identifies the evaluation images of a run: the digest of its test set, or what they were held out of."""
    if not isinstance(data, Mapping):
        return None
    return data.get("test") or (data.get("train"), data.get("holdout"))


def _expected(teacher: Node, data: Node, *, images: int, size: int, stated: Set[str]) -> Reference | None:
    """What the node states for a test set of so many images, which the teacher reads at that size.

    Raises Refused where it is for other images, and the command has `stated` its accuracy and not these keys.
    """
    node = teacher.get("expected")
    if node is None:
        return None
    if node.get("images") not in (None, images, data["test"]) or node.get("size") not in (None, size):
        if not stated or stated & {"images", "size"}:
            return None
        text = (
            f"teacher.expected.{min(stated)} is not used: the preset's teacher.expected is for {node.get('images')} "
            f"evaluation images read at {node.get('size')} pixels, these are {images} at {size}: add "
            f"teacher.expected.images={images} teacher.expected.size={size}"
        )
        raise Refused([Fault("teacher.expected", "conflict", text)])
    remedy = "is its normalisation right (teacher.mean, teacher.std), and the order of its classes?"
    return Reference(node["accuracy"], "teacher.expected says", remedy, node["tolerance"])


def own_class(teacher: Node) -> str | None:
    """The target of the network that the `teacher` node names."""
    return (teacher.get("network") or {}).get("_target_")


def finished_teacher(
    record: RunRecord,
    teacher: Node,
    dataset: Dataset,
    node: Node,
    data: Node,
    *,
    precision: str,
    stated: Set[str] = frozenset(),
) -> FinishedTeacher:
    """The finished run that `teacher.run` names, for the students of the data set of `node`, which ids hold as `data`.

    `stated` are the keys of `teacher.expected` that the command sets itself.

    Raises:
        Refused: its classes cannot be those of the data set, or what is stated is for other images.
        StorageError: its config is damaged.
    """
    view = view_of(record, data, teacher, image_size=dataset.image_size)
    seen = dataset.image_size if view.size is None else view.size
    expected = _expected(teacher, data, images=len(dataset.evaluation_labels), size=seen, stated=stated)
    return FinishedTeacher(record, view, expected, node, data, precision, own_class(teacher))


@dataclass(frozen=True)
class PublishedTeacher:
    """Weights that were not trained here: published ones of timm or torchvision, or a file.

    node       of its network
    teacher    the node that names it
    weights    their digest
    view       of the students' stream
    classes    of the data set
    reference  what its accuracy is held against
    runs_dir   the store of its students
    precision  resolved
    name       as tables show it
    """

    node: Node
    teacher: Node
    weights: str
    view: View
    classes: int
    reference: Reference | None
    runs_dir: Path
    precision: str
    name: str
    plan: ClassVar[None] = None

    @property
    def identity(self) -> dict[str, Any]:
        """The digest of its weights, its network, and every difference of the view from its training."""
        return {"weights": self.weights, "network": self._network, **self.view.identity}

    @property
    def _network(self) -> dict[str, Any]:
        return canonical_network({key: value for key, value in self.node.items() if key not in WITHOUT_DOWNLOAD})

    def network(self) -> nn.Module:
        """Raises StorageError where the weights are not there any more, or are others."""
        try:
            found = _read(self.node, self.teacher, self.classes, download=True)
        except (ValueError, OSError) as error:
            raise StorageError("; ".join(str(error).splitlines())) from error
        if weights_digest(found.network) != self.weights:
            raise StorageError(f"the weights of the teacher {self.name} have changed: type the command again")
        return self.view.wrapped(found.network)

    def facts(self) -> TeacherFacts:
        folder = self.runs_dir / PUBLISHED / f"{UNUSUAL.sub('-', self.name)}-{self.weights[:12]}"
        return TeacherFacts(
            run_id=None,
            weights=self.weights,
            key=self.view.key(self.weights + (f":{run_id(self._network)}" if has_options(self._network) else "")),
            folder=folder,
            reference=self.reference,
            on_crops=True,
            chooses=self.view.classes is not None,
        )

    def moved(self, device: str) -> "PublishedTeacher":
        return self


def published_teacher(
    teacher: Node,
    dataset: Dataset,
    data: Node,
    *,
    name: str,
    runs_dir: Path,
    precision: str,
    download: bool,
    stated: Set[str] = frozenset(),
) -> PublishedTeacher:
    """The teacher that `teacher.pretrained` or `teacher.weights` names, for the students of a data set.

    `stated` are the keys of `teacher.expected` that the command sets itself.

    Raises Refused: the weights cannot be read or do not fit, its classes cannot be those of the data set, or what is
    stated is for other images.
    """
    node, count = teacher["network"], dataset.num_classes
    key = next(key for key in ELSEWHERE if teacher.get(key))
    file = Path(teacher["weights"]) if key == "weights" else None
    try:
        stamp = (file.stat().st_mtime_ns, file.stat().st_size) if file is not None and file.is_file() else None
        known = _known(json.dumps([node, {k: teacher.get(k) for k in ELSEWHERE}]), count, stamp, download)
    except NotDownloaded as error:
        text = f"{error}, and --cfg downloads nothing: run the command without --cfg"
        raise Refused([Fault("teacher.pretrained", "download", text)]) from error
    except Refused:
        raise
    except (ValueError, OSError) as error:
        raise Refused([Fault(f"teacher.{key}", "absent", f"teacher.{key}: {error}")]) from error
    positions = class_positions(teacher.get("classes"), dataset.class_names, own=known.classes, count=known.count)
    if teacher.get("input") == "native" and known.size is None:
        text = f"teacher.input=native needs the size that the weights were trained with, and {key} does not state it"
        raise Refused([Fault("teacher.input", "conflict", f"{text}: leave it out")])
    mean = teacher.get("mean") or known.mean or dataset.mean
    std = teacher.get("std") or known.std or dataset.std
    view = seen_as(teacher, mean, std, known.size, data, image_size=dataset.image_size, classes=positions)
    images, seen = len(dataset.evaluation_labels), dataset.image_size if view.size is None else view.size
    whole = positions is None and count == 1000 and images == 50_000 and not dataset.holdout
    reference = _expected(teacher, data, images=images, size=seen, stated=stated)
    if reference is None and known.accuracy is not None and whole and seen == known.size:
        remedy = "are these the validation images of ImageNet, resized and cropped as usual?"
        reference = Reference(known.accuracy, "their publisher states", remedy)
    shown = f"weights={file.name}" if file else " ".join(filter(None, ["pretrained", known.name]))
    return PublishedTeacher(
        node,
        teacher,
        known.weights,
        view,
        count,
        reference,
        runs_dir,
        precision,
        f"{name} {shown}{view.words}",
    )


@dataclass(frozen=True)
class _Known:
    """What planning needs of published weights, without the network."""

    weights: str
    name: str
    mean: Channels | None
    std: Channels | None
    size: int | None
    classes: tuple[str, ...]
    count: int
    accuracy: float | None


@lru_cache(maxsize=16)
def _known(text: str, classes: int, stamp: object, download: bool) -> _Known:
    """Of the weights that the nodes in `text` name; `stamp` is other for a changed file."""
    node, teacher = json.loads(text)
    found = _read(node, teacher, classes, download=download)
    facts = found.name, found.mean, found.std, found.size, found.classes, found.network.num_classes, found.accuracy
    return _Known(weights_digest(found.network), *facts)


def _read(node: Node, teacher: Node, classes: int, *, download: bool) -> Published:
    """The network with its weights. Raises NotDownloaded, or ValueError with a sentence."""
    if not teacher.get("weights"):
        options = {key: value for key, value in node.items() if key not in ("_target_", *WITHOUT_DOWNLOAD)}
        return published(resolve(str(node["_target_"])), options, teacher["pretrained"], download=download)
    file = Path(teacher["weights"])
    try:
        checkpoint = read_checkpoint(file)
    except UnreadableError as error:
        raise ValueError(str(error)) from error
    node = {**node, **{key: value for key, value in WITHOUT_DOWNLOAD.items() if key in node}}
    network = file_network(checkpoint, node, name="teacher.network", classes=classes)
    return Published(network, file.name, None, None, None, (), None)
