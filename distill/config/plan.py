"""`RunPlan`: a checked run before it starts, and how to build its parts."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from distill.config.build import build_dataset, build_network, build_objective, build_recipe
from distill.config.faults import Fault, Refused
from distill.config.identity import code_of, run_folder, run_identity, without_code
from distill.config.own_code import OWN_CODE, codes_in
from distill.config.weights import start_network, weights_digest
from distill.data import Dataset
from distill.losses import Objective
from distill.runs.files import StorageError, read_json, read_lines
from distill.runs.identity import run_id
from distill.runs.layout import FIRST_STAGE, METRICS, PROVENANCE, RESULT
from distill.runs.store import RunRecord, finished_run, read_run, weightless
from distill.training import Recipe, resolve_precision, this_world

Node = Mapping[str, Any]
START = "start"  # in a configuration: the weights that its student starts from, and their digest
REBUILT: Mapping[str, Callable[[Node], Any]] = {"dataset": build_dataset, "recipe": build_recipe}


@dataclass(frozen=True)
class MethodFlags:
    """What an objective needs and does, as its class declares it (see `Objective`); read once for a plan."""

    needs_teacher: bool
    logits_only: bool
    two_views: bool
    deploys: bool
    relational: str
    teacher_batch_statistics: bool

    @classmethod
    def of(cls, objective: Objective) -> "MethodFlags":
        """The flags of a built objective."""
        return cls(**{each.name: getattr(objective, each.name) for each in fields(cls)})


@dataclass(frozen=True)
class Reference:
    """The accuracy in percent that a teacher must have on the evaluation images of its student.

    states     who says so: "its record says"
    remedy     what to do where the measured accuracy is another, a clause of its own
    tolerance  in points; None: that of `Evaluation.agrees`
    precision  in which it was measured
    """

    accuracy: float
    states: str
    remedy: str
    tolerance: float | None = None
    precision: str = "fp32"


@dataclass(frozen=True)
class TeacherFacts:
    """What is known of a teacher whose weights exist.

    run_id     of the run that its weights belong to; None for weights that no run belongs to
    weights    their sha256
    key        equal for teachers that give equal logits for equal images: the digest of the weights, with a digest of
               what is done to images and classes, where anything is
    folder     where its measured accuracies and its tables are kept
    reference  what its accuracy is held against; None where nothing is known for these images
    on_crops   whether its accuracy on training crops is measured too, since it was not trained on this stream
    chooses    whether only some of its classes are used, so that the probability of the others is measured
    """

    run_id: str | None
    weights: str
    key: str
    folder: Path
    reference: Reference | None
    on_crops: bool = False
    chooses: bool = False


class TeacherSource(Protocol):
    """Where a run's teacher comes from: a run that is trained first, a finished run, or published weights.

    name       as tables show it
    identity   what of it enters the ids of its students
    node       of its network
    precision  in which it is run, resolved
    plan       of the run that has to be finished before the methods below are called; None where the weights exist
    """

    @property
    def name(self) -> str: ...
    @property
    def identity(self) -> dict[str, Any]: ...
    @property
    def node(self) -> Node: ...
    @property
    def precision(self) -> str: ...
    @property
    def plan(self) -> "RunPlan | None": ...

    def network(self) -> nn.Module:
        """The network with its weights, on the host, for images of the student's stream. Raises StorageError."""
        ...

    def facts(self) -> TeacherFacts:
        """What is known of it. Raises StorageError."""
        ...

    def moved(self, device: str) -> "TeacherSource":
        """The same where it is trained on another device."""
        ...


@dataclass(frozen=True)
class RunPlan:
    """A checked and identified run.

    teacher      where the teacher comes from, or None
    first_stage  the plan of the run whose weights a method of two stages starts from
    notes        lines to print when the run starts
    code         digests of the files with code of the user's own (see `OwnCode.files`)

    A plan can be pickled for another process, which reads the data set when it first uses it.
    """

    config: Mapping[str, Any]
    names: Mapping[str, str]
    identity: Mapping[str, Any]
    run_id: str
    runs_dir: Path
    dataset: Dataset
    recipe: Recipe
    device: torch.device
    method: MethodFlags
    teacher: TeacherSource | None
    first_stage: "RunPlan | None" = None
    notes: tuple[str, ...] = ()
    code: Mapping[str, str] = field(default_factory=dict)

    @property
    def directory(self) -> Path:
        """The run's folder, whether it exists yet or not."""
        return run_folder(self.identity, self.runs_dir, run_id=self.run_id)

    @property
    def seed(self) -> int:
        """The run's own seed."""
        return int(self.config["seed"])

    @property
    def precision(self) -> str:
        """`fp32` or `bf16`, resolved."""
        return str(self.config["precision"])

    @property
    def is_finished(self) -> bool:
        """Whether the run has its result."""
        return (self.directory / RESULT).is_file()

    @property
    def epochs_left(self) -> int:
        """Epochs that are still to be trained, all of them where the log cannot be read."""
        if self.is_finished:
            return 0
        try:
            return max(0, self.recipe.epochs - len(read_lines(self.directory / METRICS)))
        except StorageError:
            return self.recipe.epochs

    def record(self) -> dict[str, Any]:
        """The content of the run's `config.yaml`."""
        names, config, identity = dict(self.names), dict(self.config), dict(self.identity)
        return {"run_id": self.run_id, "names": names, "config": config, "identity": identity}

    def network(self) -> nn.Module:
        """The student with the initial weights of the run's seed, or with those that it starts from, on the host.

        Raises StorageError where those are not there any more, or are others.
        """
        node, start, classes = self.config["student"], self.config.get(START), self.dataset.num_classes
        if start is None:
            return build_network(node, num_classes=classes, seed=self.seed)
        try:
            network = start_network(node, start["weights"], self.runs_dir, classes=classes)
        except Refused as refused:
            raise StorageError("; ".join(refused.sentences)) from refused
        if weights_digest(network) != start["sha256"]:
            raise StorageError(f"student.weights={start['weights']} has changed: type the command again")
        return network

    def objective(self) -> Objective:
        """A new objective, to train with; `method` has its flags."""
        return build_objective(split_stages(self.config["loss"])[0], seed=self.seed)

    def code_changed(self) -> bool:
        """Whether code of the user's own is no longer that of the run's id, as where a worker imports it later."""
        return bool(self.code) and files_of_code(self.config) != self.code

    def finished(self) -> RunRecord:
        """The record of the run, which is finished. Raises StorageError where its folder is damaged."""
        try:
            return finished_run(self.directory.parent, str(self.directory), weights=False)
        except (ValueError, StorageError) as error:
            raise StorageError(f"{error}; restore it, or delete the folder to train the run again") from error

    def moved(self, device: str) -> "RunPlan":
        """The plan, and those it needs, on another device."""
        return replace(
            self,
            device=torch.device(device),
            config={**self.config, "engine": {**self.config["engine"], "device": device}},
            teacher=None if self.teacher is None else self.teacher.moved(device),
            first_stage=None if self.first_stage is None else self.first_stage.moved(device),
        )

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the arrays and the functions, which `__getattr__` builds again."""
        return {key: value for key, value in vars(self).items() if key not in REBUILT}

    def __getattr__(self, name: str) -> Any:
        if name not in REBUILT:
            raise AttributeError(name)
        vars(self)[name] = REBUILT[name](self.config[name])
        return vars(self)[name]


def plan_run(
    config: Node,
    names: Mapping[str, str],
    *,
    method: MethodFlags,
    teacher: TeacherSource | None,
    first_stage: RunPlan | None = None,
    runs_dir: Path,
    dataset: Dataset,
    device: torch.device,
) -> RunPlan:
    """Identify a checked configuration."""
    identity = run_identity(
        data=dataset.identity() | code_of(config["dataset"]),
        student=config["student"],
        teacher=None if teacher is None else taught_by(teacher, precision=config["precision"]),
        loss=split_stages(config["loss"])[0],
        recipe=config["recipe"],
        seed=config["seed"],
        precision=config["precision"],
        start=config[START]["sha256"] if config.get(START) else None,
        first_stage=None if first_stage is None else first_stage.run_id,
        processes=this_world().size,
    )
    plan = RunPlan(
        config=config,
        names=names,
        identity=identity,
        run_id=run_id(identity),
        runs_dir=runs_dir,
        dataset=dataset,
        recipe=build_recipe(config["recipe"]),
        device=device,
        method=method,
        teacher=teacher,
        first_stage=first_stage,
        code=files_of_code(config),
    )
    note = _changed_code(plan)
    return replace(plan, notes=(note,)) if note else plan


def taught_by(teacher: TeacherSource, *, precision: str) -> dict[str, Any]:
    """The teacher in a run's identity, with the precision of one that is no plan where it is not the student's."""
    stated = {} if teacher.plan or teacher.precision == precision else {"precision": teacher.precision}
    return teacher.identity | stated


def files_of_code(config: Node) -> dict[str, str]:
    """The digests of all files with code of the user's own that a run's parts consist of."""
    parts = [config["dataset"], config["student"], split_stages(config["loss"])[0], config["recipe"]]
    return {name: digest for code in codes_in(parts) for name, digest in code.files.items()}


def _changed_code(plan: RunPlan) -> str | None:
    """A sentence where the last run that differs in nothing but code of the user's own had other code."""
    if not plan.code or plan.directory.exists():
        return None
    alike = re.escape(plan.directory.name.rpartition("-")[0])
    folders = plan.runs_dir.iterdir() if plan.runs_dir.is_dir() else ()
    others = [folder for folder in folders if re.fullmatch(rf"{alike}-[0-9a-f]+", folder.name)]
    for folder in sorted(others, key=lambda folder: folder.stat().st_mtime, reverse=True):
        record = read_run(folder)
        try:
            if record is None or run_id(without_code(record.identity)) != run_id(without_code(plan.identity)):
                continue
            then = (read_json(folder / PROVENANCE) or {}).get(OWN_CODE)
        except (StorageError, ValueError):  # a damaged record, which is reported where it is read
            continue
        if not isinstance(then, Mapping):
            return f"run {record.run_id} does not record the code it was made with: this is a new run"
        changed = sorted(name for name in {*then, *plan.code} if then.get(name) != plan.code.get(name))
        have = "has" if len(changed) == 1 else "have"
        return f"{', '.join(changed)} {have} changed since run {record.run_id}: this is a new run"
    return None


def split_stages(loss: Any) -> tuple[Any, Any]:
    """A loss node without its first stage, and the first stage's node or None."""
    if not isinstance(loss, Mapping) or FIRST_STAGE not in loss:
        return loss, None
    return {key: value for key, value in loss.items() if key != FIRST_STAGE}, loss[FIRST_STAGE]


def first_stage_config(config: Node, stage: Node, network: Node) -> dict[str, Any]:
    """The checked configuration of a first stage's run, from that of the run it belongs to.

    The learning rate is constant: the drops of the recipe come later than the first stage lasts. Weights are not
    averaged: the second stage starts from those themselves.

    Args:
        config: of the run that starts from it.
        stage: the checked node.
        network: the node of the teacher's network.
    """
    mine = stage["network"] == "student"
    recipe = {k: v for k, v in (config if mine else config["teacher"])["recipe"].items() if k != "ema"}
    epochs = max(1, round(stage["epochs"] * recipe["epochs"] / recipe["reference_epochs"]))
    if stage.get("learning_rate") is not None:
        recipe["optimizer"] = {**recipe["optimizer"], "lr": stage["learning_rate"]}
    constant = {"_target_": "distill.training.Steps", "milestones": []}
    return {
        **config,
        "student": config["student"] if mine else network,
        **({} if mine else {START: None}),
        "seed": config["seed"] if mine else config["teacher"]["seed"],
        "loss": stage["loss"],
        "recipe": {**recipe, "epochs": epochs, "reference_epochs": stage["epochs"], "schedule": constant},
    }


def teacher_config(config: Node, device: torch.device) -> dict[str, Any]:
    """The configuration of the teacher's own run: the same data; network, loss, recipe, seed of the `teacher` node."""
    teacher = config["teacher"]
    return {
        **{key: value for key, value in config.items() if key != START},
        "student": teacher["network"],
        "teacher": None,
        "loss": teacher["loss"],
        "recipe": teacher["recipe"],
        "seed": teacher["seed"],
        "precision": resolve_precision(teacher["precision"] or config["precision"], device),
    }


def not_from_a_table(method: MethodFlags) -> str | None:
    """Why a table of the teacher's logits cannot serve a method; None where it can."""
    if not method.needs_teacher:
        return "only its first stage uses the teacher"
    if method.two_views:
        return "the strong view is random, so it is not in the table"
    if method.teacher_batch_statistics:
        return "its teacher normalises with the statistics of each batch"
    return None if method.logits_only else "it uses the teacher's features, and a table has its logits only"


def source_faults(teacher: Node, methods: Iterable[MethodFlags | None], *, option: str) -> list[Fault]:
    """A fault where `teacher.source=table` is set for a method that a table cannot serve."""
    reasons = [not_from_a_table(each) for each in methods if each is not None and each.needs_teacher]
    reason = next(filter(None, reasons), None)
    if teacher.get("source") != "table" or reason is None:
        return []
    text = f"teacher.source=table cannot serve loss={option}: {reason}; set teacher.source=live or auto"
    return [Fault("teacher.source", "conflict", text)]


def store_conflict(plan: RunPlan) -> Fault | None:
    """Why the store rules a run out: it finished with another `teacher.source`, or weights it needs are missing."""
    return _other_source(plan) or _weights_gone(plan)


def _other_source(plan: RunPlan) -> Fault | None:
    """A fault where the finished run used its teacher in another form than `teacher.source` demands."""
    pinned = (plan.config.get("teacher") or {}).get("source")
    if pinned not in ("live", "table") or plan.teacher is None:
        return None
    try:
        facts = (read_json(plan.directory / RESULT) or {}).get("teacher")
    except StorageError:
        return None  # reported when the run is read
    used = facts.get("source") if isinstance(facts, Mapping) else None
    if used in (None, pinned):
        return None
    text = (
        f"teacher.source={pinned}, but the finished run {plan.directory} has source {used}: "
        "leave the source out to take that run, or repeat it under another runs_dir"
    )
    return Fault("teacher.source", "conflict", text)


def _weights_gone(plan: RunPlan) -> Fault | None:
    """A fault where a run that is still to be trained starts from a finished run whose weights are not here."""
    if plan.is_finished:
        return None
    teacher = None if plan.teacher is None else plan.teacher.plan
    for what, each in (("teacher", teacher), ("first stage", plan.first_stage)):
        if each is not None and (sentence := weightless(each.directory)):
            return Fault("", "absent", f"{what} {each.names['student']}: {sentence}")
    return None


def teacher_use(plan: RunPlan) -> str:
    """Equal for plans that would read the same table: the same teacher, precision, data and device."""
    return run_id(
        {
            "teacher": None if plan.teacher is None else plan.teacher.identity,
            "precision": None if plan.teacher is None else plan.teacher.precision,
            "data": plan.dataset.identity(),
            "device": plan.device.type,
        }
    )


def teacher_epochs_of(groups: Iterable[Sequence[RunPlan]]) -> dict[str, int]:
    """For each `teacher_use` the epochs of teacher forwards that its runs need if it is run live.

    The runs of a group train side by side, and those with equal streams share a forward. Finished runs count too, so
    that a command typed again decides as it did at first.
    """
    needed: dict[str, int] = {}
    for group in groups:
        streams = {}
        for plan in group:
            for each in (plan, plan.first_stage):
                if each is not None and each.teacher is not None and not_from_a_table(each.method) is None:
                    streams[teacher_use(each), each.seed, each.recipe.batch_size] = each.recipe.epochs
        for (use, _, _), epochs in streams.items():
            needed[use] = needed.get(use, 0) + epochs
    return needed
