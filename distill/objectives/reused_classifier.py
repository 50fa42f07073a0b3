"""The network that SimKD trains and exports: a student's maps, projected for a teacher's classifier."""

from __future__ import annotations

import copy

from torch import Tensor, nn
from torch.nn import functional

from distill.models.contract import Network, Output
from distill.objectives.adapters import projector


class ReusedClassifier(Network):
    """A student without its classifier, a projector to the teacher's channels, the teacher's classifier, frozen.

    Taps and preactivations are the student's; the final map is the projected one, the embedding its average, and the
    logits are the teacher's classifier of it. Both networks are copied from, and stay as they are.

    Args:
        student: gives `final_map`; its `head` is what is left out.
        classifier: the teacher's head.
        channels: of the student's final map.
        reduction: the projector's middle has 1/reduction of the teacher's channels.
        size: (H, W) to which the student's map is averaged first, None where it stays as it is.
    """

    def __init__(
        self,
        student: Network,
        classifier: nn.Linear,
        *,
        channels: int,
        reduction: int,
        size: tuple[int, int] | None,
    ) -> None:
        super().__init__()
        self.num_classes, self.embedding_dim = classifier.out_features, classifier.in_features
        self.feature_channels, self.size = student.feature_channels, size
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
        projected = self._projected(seen.final_map)
        logits, embedding = self._classified(projected)
        return Output(logits, seen.features, seen.preactivations, final_map=projected, embedding=embedding)

    def _final_map(self, images: Tensor) -> Tensor:
        """Projected; the student's other maps are gone by the time the projector runs."""
        return self._projected(self.backbone(images, taps=True).final_map)

    def _projected(self, final_map: Tensor | None) -> Tensor:
        assert final_map is not None  # attach has asked for it
        if self.size is not None:
            final_map = functional.adaptive_avg_pool2d(final_map, self.size)
        projected: Tensor = self.projector(final_map)
        return projected

    def _classified(self, projected: Tensor) -> tuple[Tensor, Tensor]:
        embedding = projected.mean(dim=(2, 3))
        return self.classifier(embedding), embedding


def without_head(network: Network) -> Network:
    """A copy of `network` that has nothing in the place of its head: its logits are its embedding.

    ValueError where the head is not one of its modules.
    """
    head = network.head
    name = next((name for name, module in network.named_modules() if module is head and name), None)
    if head is None or name is None:
        raise ValueError("the student must have its `head` among its modules, to be replaced: choose another student")
    bare = copy.deepcopy(network)
    parent, _, leaf = name.rpartition(".")
    setattr(bare.get_submodule(parent), leaf, nn.Identity())
    return bare
