"""SimKD: the student's last map is projected for the teacher's classifier, which is kept and exported."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, cast

from torch import Tensor, nn
from torch.nn import functional

from distill.losses.adapters import Normalize, convolution
from distill.losses.checks import refuse, weight_faults
from distill.losses.hints import hint
from distill.losses.networks import need_final_map, need_head, need_pooled_head, need_teacher, outlines, require_output
from distill.losses.numeric import at_least_float32
from distill.losses.objective import Objective, Task
from distill.losses.taps import to_common_size
from distill.models import Network, Output

if TYPE_CHECKING:
    from distill.data import Batch


def last_tap(student: Output) -> Tensor:
    """The deepest tap (B, C, H, W) of a student, or its final map where it has no taps."""
    return student.features[-1] if student.features else final_map(student)


def final_map(student: Output) -> Tensor:
    """The map (B, C, H, W) before a student's pooling."""
    return need_final_map(student, of="the student")


MAPS: Mapping[str, Callable[[Output], Tensor]] = {"last_tap": last_tap, "final_map": final_map}


def projector(channels_in: int, channels_out: int, *, reduction: int) -> nn.Sequential:
    """1x1, 3x3 and 1x1 convolutions, each with BatchNorm and ReLU; channels_out / reduction channels in between."""
    middle = max(channels_out // reduction, 1)
    shapes = (channels_in, middle, 1), (middle, middle, 3), (middle, channels_out, 1)
    steps = ((convolution(*shape), Normalize(shape[1]), nn.ReLU(inplace=True)) for shape in shapes)
    return nn.Sequential(*(layer for step in steps for layer in step))


class ReusedClassifier(Network):
    """A student without its classifier, a projector to the teacher's channels, the teacher's classifier, frozen.

    Taps and preactivations are the student's; the final map is the projected one, the embedding its average, and the
    logits are the teacher's classifier of it. Both networks are copied from, and stay as they are.

    Args:
        student: has the map that `source` reads; its `head` is left out.
        classifier: the teacher's head.
        channels: of the student's map.
        reduction: the projector's middle has 1/reduction of the teacher's channels.
        source: gives the student's map, an entry of `MAPS`.
        size: (H, W) to which the student's map is averaged first; None if it keeps its size.
    """

    def __init__(
        self,
        student: Network,
        classifier: nn.Linear,
        *,
        channels: int,
        reduction: int,
        source: Callable[[Output], Tensor],
        size: tuple[int, int] | None,
    ) -> None:
        super().__init__()
        self.num_classes, self.embedding_dim = classifier.out_features, classifier.in_features
        self.feature_channels, self.source, self.size = student.feature_channels, source, size
        self.features_are_activated = getattr(student, "features_are_activated", True)
        self.backbone = without_head(student)
        self.projector = projector(channels, classifier.in_features, reduction=reduction)
        self.classifier = copy.deepcopy(classifier).requires_grad_(False)

    @property
    def head(self) -> nn.Linear:
        return self.classifier

    def forward(self, images: Tensor, *, taps: bool = False) -> Output:
        if not taps:
            return Output(self._classified(self._final_map(images))[0])
        seen = self.backbone(images, taps=True)
        projected = self._projected(self.source(seen))
        logits, embedding = self._classified(projected)
        return Output(logits, seen.features, seen.preactivations, final_map=projected, embedding=embedding)

    def _final_map(self, images: Tensor) -> Tensor:
        """The projected map; the student's other maps are freed before the projector runs."""
        return self._projected(self.source(self.backbone(images, taps=True)))

    def _projected(self, source: Tensor) -> Tensor:
        if self.size is not None:
            source = functional.adaptive_avg_pool2d(source, self.size)
        projected: Tensor = self.projector(source)
        return projected

    def _classified(self, projected: Tensor) -> tuple[Tensor, Tensor]:
        embedding = projected.mean(dim=(2, 3))
        return self.classifier(embedding), embedding


def without_head(network: Network) -> Network:
    """A copy of `network` with an identity in place of its head: its logits are its embedding.

    ValueError if the head is not one of its modules.
    """
    head = network.head
    name = next((name for name, module in network.named_modules() if module is head and name), None)
    if head is None or name is None:
        raise ValueError("the student must have its `head` among its modules, to be replaced: choose another student")
    bare = copy.deepcopy(network)
    parent, _, leaf = name.rpartition(".")
    setattr(bare.get_submodule(parent), leaf, nn.Identity())
    return bare


class ClassifierReuse(Objective):
    """`simkd`: `feature`, feature_weight * mean squared error of the projected map and the teacher's last map.

    "Knowledge Distillation with the Reused Teacher Classifier" (Chen et al., CVPR 2022, arXiv 2203.14001), Eq. 3: the
    student is trained on nothing but the teacher's map before pooling and keeps the teacher's classifier, which is
    frozen. `attach` returns what is trained, counted and exported: the student without its own classifier, the
    projector (1x1, 3x3 and 1x1 convolutions, `reduction` = 2 in the middle) and that classifier, a `ReusedClassifier`.
    The mean is over batch, channels and cells, as in its code. A student's map that is larger than the teacher's is
    averaged down in the network; if the teacher's is larger, the target is averaged down.

    `student_map` is the map that is projected: `last_tap`, the deepest tap, as in its code, or `final_map`, the map
    before pooling. They differ for mobilenet_v2 and shufflenet_v2, whose last 1x1 convolution
    (160 to 1,280 and 464 to 1,024 channels) comes between; with `last_tap` that convolution is not trained.

    `ce`, ce_weight * cross-entropy of the deployed logits, is the paper's only with weight 0.

    Raises ValueError if `reduction` < 1, `ce_weight` is negative, or `feature_weight` is not positive; from `attach`
    if a network has no last map and linear classifier, or the teacher's does not read the map's average.
    """

    family = "simkd"
    reads = ("final_map", "embedding", "head")
    deploys = True

    def __init__(
        self,
        *,
        reduction: int = 2,
        student_map: str = "final_map",
        ce_weight: float = 0.0,
        feature_weight: float = 1.0,
    ) -> None:
        super().__init__()
        faults = [] if reduction >= 1 else [f"reduction must be >= 1, got {reduction}: set loss.reduction=2"]
        if student_map not in MAPS:
            faults.append(f"student_map must be {' or '.join(MAPS)}, got {student_map}: set loss.student_map=last_tap")
        refuse(
            [
                *faults,
                *weight_faults(ce_weight=ce_weight, feature_weight=1.0),
                *weight_faults(feature_weight=feature_weight),
            ]
        )
        self.reduction, self.student_map = reduction, student_map
        self.ce_weight, self.feature_weight = ce_weight, feature_weight

    def attach(self, student: nn.Module, teacher: nn.Module | None, task: Task) -> ReusedClassifier:
        """The network that is trained in the student's place; it holds copies, both networks stay as they are."""
        ours, theirs = outlines(student, teacher, task)
        need_head(student, of="the student")
        source, target = MAPS[self.student_map](ours), need_final_map(theirs, of="the teacher")
        classifier = need_pooled_head(need_teacher(teacher), theirs, of="the teacher", image_size=task.image_size)
        size = min(source.shape[2], target.shape[2]), min(source.shape[3], target.shape[3])
        return ReusedClassifier(
            cast(Network, student),
            classifier,
            channels=source.shape[1],
            reduction=self.reduction,
            source=MAPS[self.student_map],
            size=None if size == source.shape[2:] else size,
        )

    def start(self, student: nn.Module, weights: Mapping[str, Tensor]) -> None:
        """Raises ValueError: the trained network is not the one of a first stage."""
        raise ValueError("simkd must not have a first stage, got one: remove loss.first_stage")

    def forward(self, student: Output, teacher: Output | None, batch: Batch, progress: Tensor) -> dict[str, Tensor]:
        """The terms `ce`, if its weight is positive, and `feature`; `progress` is unused."""
        terms = self.label_term(student, batch)
        ours = at_least_float32(need_final_map(student, of="the student"))
        theirs = at_least_float32(need_final_map(require_output(teacher), of="the teacher")).detach()
        terms["feature"] = self.feature_weight * hint(*to_common_size(ours, theirs))
        return terms
