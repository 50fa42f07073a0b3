"""Methods that train in two stages: the first is a run of its own, as a teacher is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from distill.config.schema import Target
from distill.runs.layout import FIRST_STAGE

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
