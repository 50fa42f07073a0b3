"""A member's resume state: what a checkpoint holds of it, and how it is taken over."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from distill.training.optimizer_state import flattened
from distill.training.optimizer_state import restore as restore_optimizer

if TYPE_CHECKING:
    from distill.training.member import Member


def state_of(member: "Member") -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """All resume state: tensors by name, and plain values."""
    tensors = {f"student/{k}": v for k, v in member.student.state_dict().items()}
    tensors |= {f"objective/{k}": v for k, v in member.objective.state_dict().items()}
    tensors |= {f"randomness/{k}": v for k, v in member.randomness.state.items()}
    tensors |= {f"meters/{k}": v for k, v in member.meters.tensors().items()}
    moments, optimizer = flattened(member.optimizer, member.rates)
    tensors |= {f"optimizer/{k}": v for k, v in moments.items()}
    return tensors, {
        "epoch": member.epoch,
        "step": member.step,
        "terms": list(member.meters.terms),
        "count": member.meters.count,
        "seconds": member.seconds,
        "epoch_seconds": member.epoch_seconds,
        "peak_memory": member.peak_memory,
        "captured_steps": member.captured_steps,
        "last": member.last,
        "best": member.best,
        "conditions": member.conditions,
        "optimizer": optimizer,
    }


def restore(member: "Member", tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]) -> None:
    """Take over what `state_of` gave of the same run."""

    def part(name: str) -> dict[str, torch.Tensor]:
        # copies: optimizer and meters would go on writing into the tensors given
        return {k.removeprefix(f"{name}/"): v.clone() for k, v in tensors.items() if k.startswith(f"{name}/")}

    member.student.load_state_dict(part("student"))
    member.objective.load_state_dict(part("objective"))
    member.randomness.state = part("randomness")
    restore_optimizer(member.optimizer, part("optimizer"), state["optimizer"])
    member.meters.restore(part("meters"), state["terms"], count=state["count"], step=state["step"])
    member.epoch, member.step = state["epoch"], state["step"]
    member.seconds, member.epoch_seconds = state["seconds"], state["epoch_seconds"]
    member.peak_memory, member.captured_steps = state.get("peak_memory", 0), state.get("captured_steps", 0)
    member.last, member.best = dict(state["last"]), dict(state["best"])
