"""The contract between a method and the training loop, and the cross-entropy with the labels that most methods add."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.nn import functional

from distill.losses.numeric import at_least_float32

if TYPE_CHECKING:
    from distill.data import Batch, StrongView
    from distill.models import Output


def cross_entropy(student_logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of raw logits (B, K) with hard labels (B,) int64: mean over the batch, temperature 1."""
    return functional.cross_entropy(at_least_float32(student_logits), labels)


def smoothed_cross_entropy(student_logits: Tensor, labels: Tensor, *, smoothing: float) -> Tensor:
    """Cross-entropy with (1 - a) one-hot + a / K, a = `smoothing`: label smoothing.

    The uniform part includes the target ("Rethinking the Inception Architecture", Szegedy et al. 2016, arXiv
    1512.00567), as in the paper's equations; its code spreads a over the K - 1 others, which is a (K - 1) / K.
    """
    return functional.cross_entropy(at_least_float32(student_logits), labels, label_smoothing=smoothing)


_MORE_THAN_LOGITS = {"features", "preactivations", "final_map", "embedding", "head"}


@dataclass(frozen=True, eq=False)
class Task:
    """What a run trains on, for objectives whose modules depend on it.

    image_size  width and height of an image in pixels
    labels      (N,) int64 on the CPU: the labels of the training images, addressed by `Batch.index`
    """

    image_size: int
    labels: Tensor


class Objective(nn.Module):
    """A method: holds weights, projections and memory, and turns outputs into loss terms.

    Its parameters join the optimizer and the resume checkpoint, never the exported student. Constructors check the
    ranges of their arguments and raise `ValueError`. The attributes below declare what the method needs.
    """

    reads: tuple[str, ...] | None = None
    """What the method reads besides the student's logits and the labels: `logits` (the teacher's), `features`,
    `preactivations`, `final_map`, `embedding` and `head` of the networks, `index` and `strong` of the batch. None, the
    default, declares nothing: then every output is computed, by a teacher that runs on every batch."""
    family: str = ""
    """The name of the method's presets, which is in the names of its runs' folders; empty: that of the class."""
    needs_teacher: bool = True
    """Whether `forward` uses the teacher. If False, none is loaded or trained, and none is part of the run's id."""
    two_views: bool = False
    """Whether student and teacher are also run on `Batch.strong`; their outputs for it are `Output.strong`."""
    strong_view: StrongView | None = None
    """How `Batch.strong` is made, if there are two views."""
    deploys: bool = False
    """Whether `attach` returns a network that is trained and exported in the student's place."""
    teacher_batch_statistics: bool = False
    """Whether the teacher's BatchNorm uses the statistics of each batch, as in training, instead of the running ones.
    Its buffers are not written. No table can serve such a method."""
    version: int = 1
    """Raised by one when a change of the method's code changes the numbers of an unchanged configuration. Part of the
    run id above 1, so that finished runs of the earlier version keep their ids."""
    relational: str = ""
    """Empty for a mean of per-sample terms, which does not change when a batch is repeated. Otherwise a sentence: what
    is compared across the batch, and how repeating the batch changes the value."""

    ce_weight: float = 0.0
    """Weight of the cross-entropy with the labels; 0 where the method has no such term."""
    label_smoothing: float = 0.0
    """How much the recipe smooths the labels of that term (`smooth_labels`)."""

    @property
    def logits_only(self) -> bool:
        """Whether logits are enough: no feature maps are kept, and a table of teacher logits can be used."""
        return self.reads is not None and not set(self.reads) & _MORE_THAN_LOGITS

    def attach(self, student: nn.Module, teacher: nn.Module | None, task: Task) -> nn.Module | None:
        """Called once, before the optimizer is built: create modules that fit the networks.

        The networks may be on the meta device. Returns None, or a network built around the student that is trained,
        evaluated and exported in its place. Raises ValueError if a network lacks what the method needs.
        """
        return None

    def start(self, student: nn.Module, weights: Mapping[str, Tensor]) -> None:
        """Called once after `attach` if the method has a first stage; `weights` are those of that stage's network.

        By default they are loaded into the student.
        """
        student.load_state_dict(weights)

    @classmethod
    def version_of(cls, node: Mapping[str, Any]) -> int:
        """`version` for a configuration of the method, where a change concerns only some of them."""
        return cls.version

    def smooth_labels(self, smoothing: float) -> None:
        """Called once before training: the recipe's `label_smoothing`, which is for the cross-entropy alone."""
        self.label_smoothing = smoothing

    def cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of raw logits (B, K) with the labels (B,) int64, smoothed by the recipe's value."""
        return smoothed_cross_entropy(logits, labels, smoothing=self.label_smoothing)

    def label_term(self, student: Output, batch: Batch) -> dict[str, Tensor]:
        """The term `ce`, weighted; no term if its weight is 0."""
        if self.ce_weight == 0:
            return {}
        return {"ce": self.ce_weight * self.cross_entropy(student.logits, batch.labels)}

    def forward(self, student: Output, teacher: Output | None, batch: Batch, progress: Tensor) -> dict[str, Tensor]:
        """Named scalar terms, already weighted: the loss is their sum. In each step of an epoch the names are the same:
        a term that is off for a while is zero, one whose weight is 0 is left out.

        `progress` is a 0-d tensor: epochs done, with fraction, in the epochs of the paper's recipe. No gradient may
        reach the teacher. Nothing may synchronise with the device: `forward` also runs on meta tensors, which have
        shapes and no values.
        """
        raise NotImplementedError

    if TYPE_CHECKING:  # nn.Module.__call__ returns Any

        def __call__(self, *args: Any) -> dict[str, Tensor]: ...
