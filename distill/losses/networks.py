"""What a method needs of the two networks: outputs, heads, a teacher; one sentence if a network lacks it."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from distill.losses.numeric import at_least_float32
from distill.models import Network, outline

if TYPE_CHECKING:
    from distill.losses.objective import Task
    from distill.models import Output


def need_features(output: Output, *, of: str, least: int = 1) -> tuple[Tensor, ...]:
    """The taps (B, C, H, W) of `output`; ValueError if `of` ("the student") has fewer than `least`."""
    if len(output.features) < least:
        raise _lack(of, f"{least} feature maps or more" if least > 1 else "feature maps", got=len(output.features))
    return output.features


def need_preactivations(output: Output, *, of: str) -> tuple[Tensor, ...]:
    """The map before the last ReLU of every tap, in the order of the taps; ValueError if a stage's is missing.

    No method compares the stem, tap 0: if its preactivation is missing, the tap itself stands in its place.
    """
    stages = output.preactivations[1:]
    found = [p for p in stages if p is not None]
    if not found or len(found) < len(stages):
        raise _lack(of, "a preactivation of every feature map after the stem", got=len(found))
    stem = output.preactivations[0]
    return (output.features[0] if stem is None else stem, *found)


def need_final_map(output: Output, *, of: str) -> Tensor:
    """The last map before pooling, (B, C, H, W)."""
    if output.final_map is None:
        raise _lack(of, "a map before its pooling")
    return output.final_map


def need_embedding(output: Output, *, of: str) -> Tensor:
    """The input of the classifier, (B, D)."""
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


def require_output(teacher: Output | None) -> Output:
    """The teacher's output, not detached; ValueError if there is none."""
    if teacher is None:
        raise ValueError("teacher must be an output, got None: this objective needs one, choose teacher=NAME")
    return teacher


def last_maps(student: Output, teacher: Output | None) -> tuple[Tensor, Tensor]:
    """The deepest taps (B, C, H, W); the teacher's is detached."""
    maps = need_features(student, of="the student")[-1], need_features(require_output(teacher), of="the teacher")[-1]
    return maps[0], maps[1].detach()


def embeddings(student: Output, teacher: Output | None) -> tuple[Tensor, Tensor]:
    """The inputs of the two classifiers, (B, D) each; the teacher's is detached."""
    pair = need_embedding(student, of="the student"), need_embedding(require_output(teacher), of="the teacher")
    return pair[0], pair[1].detach()


def outlines(student: nn.Module, teacher: nn.Module | None, task: Task) -> tuple[Output, Output]:
    """The outputs of both networks for the task's images, as meta tensors; ValueError if there is no teacher."""
    networks = cast(Network, student), cast(Network, need_teacher(teacher))
    first, second = (outline(network, image_size=task.image_size) for network in networks)
    return first, second


def need_taps(student: Output, teacher: Output, *, least: int) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """The taps of both networks; ValueError if one has fewer than `least`."""
    return need_features(student, of="the student", least=least), need_features(teacher, of="the teacher", least=least)


def teacher_logits(teacher: Output | None) -> Tensor:
    """The teacher's logits (B, K), detached; ValueError if there is no teacher.

    They are detached here and not in the formulas, which are differentiable in both arguments.
    """
    return require_output(teacher).logits.detach()


def both_logits(student: Output, teacher: Output | None) -> tuple[Tensor, Tensor]:
    """The logits (B, K) of student and teacher in at least float32, the teacher's detached: for a function that may be
    the user's own and not convert them itself.
    """
    return at_least_float32(student.logits), at_least_float32(teacher_logits(teacher))


def need_pooled_head(network: nn.Module, output: Output, *, of: str, image_size: int) -> nn.Linear:
    """The head of a network whose logits are head(mean over positions of final_map); `output` is its outline.

    Shapes do not show whether a normalisation or a class token lies in between, so one image is run through a copy in
    eval mode and the embedding is compared with that mean. ValueError if they differ.
    """
    head = need_head(network, of=of)
    widths = need_final_map(output, of=of).shape[1], need_embedding(output, of=of).shape[1], head.in_features
    if len(set(widths)) > 1 or not _reads_the_mean(cast("Network", network), image_size):
        raise ValueError(
            f"{of} must have a classifier that reads the average of its last map: "
            "choose a network that ends in global average pooling and a linear layer"
        )
    return head


@torch.no_grad()
def _reads_the_mean(network: Network, image_size: int) -> bool:
    copied = copy.deepcopy(network).eval()
    if next(network.parameters()).is_meta:
        _fill(copied)
    parameter = next(copied.parameters())
    image = torch.linspace(-2, 2, 3 * image_size**2, dtype=parameter.dtype, device=parameter.device)
    output = copied(image.view(1, 3, image_size, image_size), taps=True)
    final_map, embedding = cast(Tensor, output.final_map), cast(Tensor, output.embedding)
    return torch.allclose(final_map.mean(dim=(2, 3)), embedding, rtol=1e-3, atol=1e-5)


def _fill(network: nn.Module) -> None:
    """Give a network on the meta device values on the CPU; any values show how it pools."""
    network.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():  # tensors that are neither parameter nor buffer
        for name, value in list(vars(module).items()):
            if isinstance(value, Tensor):
                setattr(module, name, torch.zeros_like(value, device="cpu"))
    for parameter in network.parameters():
        parameter.uniform_(0.5, 1.0, generator=generator)
        if parameter.ndim > 1:  # weights: outputs as large as inputs
            parameter.sub_(0.75).mul_(7 / (parameter[0].numel() ** 0.5))
    for buffer in network.buffers():
        buffer.fill_(1 if buffer.is_floating_point() else 0)
