"""What a method needs of a network, asked for in `attach`; the sentence where the network lacks it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    from distill.models import Output


def need_features(output: Output, *, of: str, least: int = 1) -> tuple[Tensor, ...]:
    """The taps (B, C, H, W) of `output`; ValueError where `of` ("the student") has fewer than `least`."""
    if len(output.features) < least:
        raise _lack(of, f"{least} feature maps or more" if least > 1 else "feature maps", got=len(output.features))
    return output.features


def need_preactivations(output: Output, *, of: str) -> tuple[Tensor, ...]:
    """The maps before the last ReLU of every tap, one a tap; ValueError where a stage's is missing.

    No method compares the stem, tap 0: where its preactivation is missing, the tap itself keeps its place.
    """
    stages = output.preactivations[1:]
    found = [p for p in stages if p is not None]
    if not found or len(found) < len(stages):
        raise _lack(of, "a preactivation of every feature map behind the stem", got=len(found))
    stem = output.preactivations[0]
    return (output.features[0] if stem is None else stem, *found)


def need_final_map(output: Output, *, of: str) -> Tensor:
    """The last map before pooling, (B, C, H, W)."""
    if output.final_map is None:
        raise _lack(of, "a map before its pooling")
    return output.final_map


def need_embedding(output: Output, *, of: str) -> Tensor:
    """What the classifier reads, (B, D)."""
    if output.embedding is None:
        raise _lack(of, "an embedding (what its classifier reads)")
    return output.embedding


def need_head(network: nn.Module, *, of: str) -> nn.Linear:
    """The last linear layer, for which logits = head(embedding)."""
    head = getattr(network, "head", None)
    if not isinstance(head, nn.Linear):
        raise _lack(of, "one linear classifier (attribute `head`)")
    return head


def need_teacher(teacher: nn.Module | None) -> nn.Module:
    """The teacher's network."""
    if teacher is None:
        raise ValueError("teacher must be a network, got None: this loss needs one, choose teacher=NAME")
    return teacher


def _lack(of: str, what: str, *, got: int | None = None) -> ValueError:
    count = "" if got is None else f", got {got}"
    return ValueError(f"{of} must have {what}{count}: choose a network that has them, see `distill models`")
