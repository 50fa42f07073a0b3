"""A run before it starts: identified, and able to build its parts."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from distill.config.build import build_network, build_objective
from distill.config.identity import run_identity, short_names
from distill.config.schema import Target
from distill.data import ImageDataset
from distill.losses import Objective
from distill.runs.files import StorageError, read_json
from distill.runs.identity import run_id
from distill.runs.identity import run_id as digest_of
from distill.runs.layout import FIRST_STAGE, RESULT, run_path
from distill.runs.store import RunRecord, weightless
from distill.training import Recipe, resolve_precision

Nodes = Mapping[str, Any]


@dataclass
class FirstStage:
    """The node `loss.first_stage`.

    loss     the objective of the first stage
    epochs   its length in the recipe's reference epochs; a shortened recipe shortens it alike
    network  whose network the first stage trains: the student's, which then starts from its weights, or the teacher's,
             beside which it trains something that the second stage takes over (a paraphraser); a teacher's first stage
             is shared by all students
    """

    loss: Target
    epochs: int
    network: Literal["student", "teacher"]


def split_stages(loss: Any) -> tuple[Any, Any]:
    """A loss node without its first stage, and that."""
    if not isinstance(loss, Mapping) or FIRST_STAGE not in loss:
        return loss, None
    return {key: value for key, value in loss.items() if key != FIRST_STAGE}, loss[FIRST_STAGE]


def join_stages(loss: Nodes, stage: Nodes) -> dict[str, Any]:
    """A loss node with its first stage, where there is one."""
    return {**loss, FIRST_STAGE: stage} if stage else dict(loss)


def first_stage_config(config: Nodes, stage: Nodes, network: Nodes) -> dict[str, Any]:
    """The checked configuration of a first stage's run, from that of the run it belongs to.

    The learning rate is constant: the drops of the recipe come later than the first stage lasts.

    Args:
        config: of the run that starts from it.
        stage: the checked node.
        network: the node of the teacher's network.
    """
    mine = stage["network"] == "student"
    recipe = config["recipe"] if mine else config["teacher"]["recipe"]
    epochs = max(1, round(stage["epochs"] * recipe["epochs"] / recipe["reference_epochs"]))
    constant = {"_target_": "distill.training.Steps", "milestones": []}
    return {
        **config,
        "student": config["student"] if mine else network,
        "seed": config["seed"] if mine else config["teacher"]["seed"],
        "loss": stage["loss"],
        "recipe": {**recipe, "epochs": epochs, "reference_epochs": stage["epochs"], "schedule": constant},
    }


@dataclass(frozen=True)
class RunPlan:
    """One run: what it is, where it goes, and what it is made of.

    `teacher` is the plan of the teacher's own run, the record of a finished one, or None; `first_stage` the plan of
    the run whose weights a method of two stages starts from. `notes` are said when the run starts.
    """

    config: Mapping[str, Any]
    names: Mapping[str, str]
    identity: Mapping[str, Any]
    run_id: str
    runs_dir: Path
    dataset: ImageDataset
    recipe: Recipe
    device: torch.device
    teacher: "RunPlan | RunRecord | None"
    first_stage: "RunPlan | None" = None
    notes: tuple[str, ...] = ()

    @property
    def directory(self) -> Path:
        """Where the run lies or will lie."""
        student, method = short_names(self.identity)
        return run_path(self.runs_dir, student=student, objective=method, seed=self.seed, run_id=self.run_id)

    @property
    def seed(self) -> int:
        """The run's own seed."""
        return int(self.config["seed"])

    @property
    def precision(self) -> str:
        """`fp32` or `bf16`, resolved."""
        return str(self.config["precision"])

    def network(self) -> nn.Module:
        """The student with the initial weights of the run's seed, on the host."""
        return build_network(self.config["student"], num_classes=self.dataset.num_classes, seed=self.seed)

    def objective(self) -> Objective:
        """A new objective."""
        return build_objective(split_stages(self.config["loss"])[0], seed=self.seed)


def plan_run(
    config: Mapping[str, Any],
    names: Mapping[str, str],
    *,
    runs_dir: Path,
    dataset: ImageDataset,
    recipe: Recipe,
    device: torch.device,
    teacher: RunPlan | RunRecord | None,
    first_stage: RunPlan | None = None,
) -> RunPlan:
    """Identify a checked configuration."""
    identity = run_identity(
        data=data_identity(dataset),
        student=config["student"],
        teacher=teacher_identity(teacher),
        loss=split_stages(config["loss"])[0],
        recipe=config["recipe"],
        seed=config["seed"],
        precision=config["precision"],
    )
    if first_stage is not None:
        identity["objective"][FIRST_STAGE] = {"run": first_stage.run_id}
    return RunPlan(
        config, names, identity, digest_of(identity), runs_dir, dataset, recipe, device, teacher, first_stage
    )


def data_identity(dataset: ImageDataset) -> dict[str, Any]:
    """Data by their content, whatever file they came from."""
    return {
        **dataset.digest,
        "holdout": dataset.holdout,
        "mean": list(dataset.mean),
        "std": list(dataset.std),
        "pad": dataset.pad,
        "flip": dataset.flip,
    }


def teacher_identity(teacher: RunPlan | RunRecord | None) -> dict[str, Any] | None:
    """A teacher given by its configuration is its run; one given as a finished run is its weights."""
    if teacher is None:
        return None
    if isinstance(teacher, RunPlan):
        return {"run": teacher.run_id}
    assert teacher.result is not None  # only finished runs are taken
    return {"weights": teacher.result["weights_sha256"]}


def not_from_a_table(objective: Objective) -> str | None:
    """Why a table of the teacher's logits cannot serve an objective; None where it can."""
    if not objective.needs_teacher:
        return "it reads no teacher, whom its first stage alone needs"
    if objective.two_views:
        return "it shows the teacher a second view, which is not numbered"
    return None if objective.logits_only else "it reads more of the teacher than its logits"


def source_faults(teacher: Mapping[str, Any], objectives: Iterable[Objective | None], *, option: str) -> list[str]:
    """A sentence where `teacher.source=table` is asked for by a method that it cannot serve."""
    reasons = [not_from_a_table(each) for each in objectives if each is not None and each.needs_teacher]
    if teacher.get("source") != "table" or not any(reasons):
        return []
    reason = next(filter(None, reasons))
    return [f"teacher.source=table cannot serve loss={option}: {reason}; set teacher.source=live or auto"]


def other_source(plan: RunPlan) -> str | None:
    """A sentence where a finished run asked its teacher in another form than the one now pinned."""
    pinned = (plan.config.get("teacher") or {}).get("source")
    if pinned not in ("live", "table") or plan.teacher is None:
        return None
    try:
        facts = (read_json(plan.directory / RESULT) or {}).get("teacher")
    except StorageError:
        return None  # told when the run is looked at
    used = facts.get("source") if isinstance(facts, Mapping) else None
    if used in (None, pinned):
        return None
    return (
        f"teacher.source={pinned}, but the finished run {plan.directory} has source {used}: "
        "leave the source out to take that run, or repeat it under another runs_dir"
    )


def weights_gone(plan: RunPlan) -> str | None:
    """A sentence where a run that is still to be trained starts from one that is here as a record without weights."""
    if (plan.directory / RESULT).is_file():
        return None
    for what, each in (("teacher", plan.teacher), ("first stage", plan.first_stage)):
        if isinstance(each, RunPlan) and (sentence := weightless(each.directory)):
            return f"{what} {each.names['student']}: {sentence}"
    return None


def teacher_use(plan: RunPlan) -> str:
    """What plans have in common that would read one table: teacher, its precision, the data and the device."""
    return run_id(
        {
            "teacher": plan.identity["teacher"],
            "precision": teacher_precision(plan),
            "data": data_identity(plan.dataset),
            "device": plan.device.type,
        }
    )


def teacher_precision(plan: RunPlan) -> str:
    """The precision in which the plan's teacher is run, resolved."""
    if isinstance(plan.teacher, RunPlan):
        return plan.teacher.precision
    return resolve_precision(plan.config["teacher"]["precision"] or plan.precision, plan.device)


def epochs_asked(groups: Iterable[Sequence[RunPlan]]) -> dict[str, int]:
    """For each `teacher_use` the epochs of teacher forwards that runs ask for if it is run live.

    Each group trains side by side: its runs with equal streams share a forward. Finished runs count too, so that a
    command typed again decides as it did at first.
    """
    asked: dict[str, int] = {}
    for group in groups:
        streams = {}
        for plan in group:
            for each in (plan, plan.first_stage):
                if each is not None and each.teacher is not None and not_from_a_table(each.objective()) is None:
                    streams[teacher_use(each), each.seed, each.recipe.batch_size] = each.recipe.epochs
        for (use, _, _), epochs in streams.items():
            asked[use] = asked.get(use, 0) + epochs
    return asked
