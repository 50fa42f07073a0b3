"""The contract between a method and the training loop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

if TYPE_CHECKING:
    from distill.data import Batch, StrongView
    from distill.models import Output


@dataclass(frozen=True, eq=False)
class Task:
    """What a member trains on, for objectives that size themselves to it.

    image_size  width and height of an image in pixels
    labels      (N,) int64 on the CPU: the labels of the training images, addressed by `Batch.index`
    """

    image_size: int
    labels: Tensor


class Objective(nn.Module):
    """A method: holds weights, projections and memory, and turns outputs into loss terms.

    Its parameters join the optimizer and the resume checkpoint, never the exported student. Constructors check the
    ranges of their arguments and raise `ValueError`.
    """

    needs_teacher: bool = True
    """Whether `forward` reads the teacher. Where False, no teacher is loaded, trained or part of the run's id."""
    logits_only: bool = True
    """Whether the teacher's logits will do: then a table of them can serve, and networks keep no maps."""
    two_views: bool = False
    """Whether student and teacher also see `Batch.strong`; `Output.strong` then says what they make of it."""
    strong_view: StrongView | None = None
    """How `Batch.strong` is made, where there are two views."""
    deploys: bool = False
    """Whether `attach` returns a network that is trained and exported in the student's place."""
    relational: str = ""
    """Empty for a mean of per-sample terms, to which a batch written twice is the same batch. Else a sentence: what
    the loss compares across the batch, and what becomes of it when the batch is written twice."""

    def attach(self, student: nn.Module, teacher: nn.Module | None, task: Task) -> nn.Module | None:
        """Called once, before the optimizer is built: size modules to the networks, which may be on the meta device.

        Returns None, or a network built around the student that is trained, evaluated and exported in its place.
        Raises ValueError, with the reason, where one of the networks lacks what the method needs.
        """
        return None

    def start(self, student: nn.Module, weights: Mapping[str, Tensor]) -> None:
        """Called once after `attach` where the method has a first stage: take over the weights of that stage's network.

        By default the student starts from them.
        """
        student.load_state_dict(weights)

    def forward(self, student: Output, teacher: Output | None, batch: Batch, progress: Tensor) -> dict[str, Tensor]:
        """Named scalar terms, already weighted: the loss is their sum. A term of weight 0 is left out.

        `progress` is a 0-d tensor: epochs done, with fraction, in the epochs of the paper's recipe. No gradient may
        reach the teacher, and nothing may wait for the device: on meta tensors the shapes come out alone.
        """
        raise NotImplementedError

    if TYPE_CHECKING:  # nn.Module.__call__ returns Any

        def __call__(self, *args: Any) -> dict[str, Tensor]: ...
