"""A run before it starts: identified, and able to build its parts."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from distill.config.build import build_network, build_objective
from distill.config.identity import run_identity, short_names
from distill.config.stages import split_stages
from distill.data import ImageDataset
from distill.objectives import Objective
from distill.runs.identity import run_id as digest_of
from distill.runs.layout import FIRST_STAGE, run_path
from distill.runs.store import RunRecord
from distill.training import Recipe


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
