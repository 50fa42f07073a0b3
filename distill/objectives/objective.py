"""The contract between a method and the training loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

if TYPE_CHECKING:
    from distill.data import Batch
    from distill.models import Output


class Objective(nn.Module):
    """A method: holds weights, projections and memory, and turns outputs into loss terms.

    Its parameters join the optimizer and the resume checkpoint, never the exported student. Constructors check the
    ranges of their arguments and raise `ValueError`. A method that also reads `Output.strong` and `Batch.strong`
    declares `two_views = True`; where the attribute is missing, one view is enough.
    """

    needs_teacher: bool = True
    """Whether `forward` reads the teacher. Where False, no teacher is loaded, trained or part of the run's id."""
    logits_only: bool = True
    """Whether the teacher's logits will do: then a table of them can serve, and networks keep no maps."""

    def attach(self, student: nn.Module, teacher: nn.Module | None) -> nn.Module | None:
        """Called once, before the optimizer is built: size modules to the networks.

        Returns None, or a network built around the student that is trained, evaluated and exported in its place.
        """
        return None

    def forward(self, student: Output, teacher: Output | None, batch: Batch, progress: Tensor) -> dict[str, Tensor]:
        """Named scalar terms, already weighted: the loss is their sum. A term of weight 0 is left out.

        `progress` is a 0-d tensor: epochs done, with fraction, in the epochs of the paper's recipe. No gradient may
        reach the teacher.
        """
        raise NotImplementedError

    if TYPE_CHECKING:  # nn.Module.__call__ returns Any

        def __call__(self, *args: Any) -> dict[str, Tensor]: ...
