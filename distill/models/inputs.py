"""Converts images to the form that a network was trained on, and its logits to those of a data set's classes."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distill.models.contract import Network, Output

Channels = tuple[float, float, float]


class Inputs(nn.Module):
    """Converts images (B, 3, H, W), normalised with the data set's mean and standard deviation, to (B, 3, size, size)
    with `mean` and `std`.

    size                 None: the resolution stays. Bicubic interpolation in Pillow's form (antialiased where it
                         shrinks), which is what the image pipelines of pretrained transformers resize with. It
                         comes after the normalisation: both are linear and the weights of an interpolated pixel
                         sum to 1, so the order only matters for values that Pillow would clip to 0..255.
    mean, std            those of the network's weights, for images in 0..1; None: the normalisation stays
    data_mean, data_std  those that the images have been normalised with

    The factors are part of the state, so that an exported network keeps them. Raises ValueError for a size below 1,
    a deviation that is not positive, and a normalisation that is not fully given.
    """

    def __init__(
        self,
        *,
        size: int | None = None,
        mean: Channels | None = None,
        std: Channels | None = None,
        data_mean: Channels | None = None,
        data_std: Channels | None = None,
    ) -> None:
        super().__init__()
        if size is not None and size < 1:
            raise ValueError(f"input_size must be >= 1, got {size}: give the network's own number of pixels, e.g. 224")
        self.size = size
        self.factor: Tensor | None
        self.offset: Tensor | None
        self.register_buffer("factor", None)
        self.register_buffer("offset", None)
        if mean is None and std is None:
            return
        if mean is None or std is None or data_mean is None or data_std is None:
            raise ValueError(
                "mean and std must come with the statistics they replace, "
                f"got mean={mean}, std={std}, data_mean={data_mean}, data_std={data_std}: give all four"
            )
        for name, values in (("std", std), ("data_std", data_std)):
            if min(values) <= 0:
                raise ValueError(
                    f"{name} must be > 0, got {tuple(values)}: give the standard deviation of each channel"
                )
        # (x * data_std + data_mean - mean) / std
        self.factor = _per_channel([d / s for d, s in zip(data_std, std, strict=True)])
        self.offset = _per_channel([(d - m) / s for d, m, s in zip(data_mean, mean, std, strict=True)])

    def forward(self, images: Tensor) -> Tensor:
        if images.dtype == torch.bfloat16:  # of a stream that has cast them already
            images = images.float()
        if self.factor is not None and self.offset is not None:
            images = images * self.factor + self.offset
        if self.size is None or images.shape[2:] == (self.size, self.size):
            return images
        return F.interpolate(images, size=(self.size, self.size), mode="bicubic", antialias=True)


def _per_channel(values: Sequence[float]) -> Tensor:
    return torch.tensor(values).view(1, -1, 1, 1)


class AsTrained(Network):
    """A frozen network behind `inputs`: it reads the images of another network's stream as it was trained to read them.

    With `classes`, K positions among the network's own logits, its logits are those of these classes, in this order:
    what is computed from the K logits, a softmax too, then covers only these classes. `head` is cut down alike. Raises
    ValueError for a position that the network does not have, and for one that is named twice.
    """

    def __init__(self, network: Network, *, inputs: Inputs, classes: Sequence[int] | None = None) -> None:
        super().__init__()
        self.network, self.inputs = network, inputs
        self.feature_channels, self.embedding_dim = network.feature_channels, network.embedding_dim
        self.features_are_activated = getattr(network, "features_are_activated", True)
        self.num_classes = network.num_classes if classes is None else len(classes)
        self.classes: Tensor | None
        self.register_buffer("classes", None if classes is None else torch.tensor(classes), persistent=False)
        self._head = getattr(network, "head", None)
        if classes is None:
            return
        if len(set(classes)) < len(classes) or not all(0 <= each < network.num_classes for each in classes):
            raise ValueError(f"classes must be different numbers from 0 to {network.num_classes - 1}, got {classes}")
        if self._head is not None:
            self._head = _rows_of(self._head, self.classes)

    @property
    def head(self) -> nn.Linear | None:
        """The network's own where all its classes are wanted."""
        return self._head

    def forward(self, images: Tensor, *, taps: bool = False) -> Output:
        output = self.network(self.inputs(images), taps=taps)
        if self.classes is None:
            return output
        return replace(output, logits=output.logits.index_select(1, self.classes))

    def mass_outside(self, images: Tensor) -> Tensor:
        """(B,): the probability that the network gives to its classes outside `classes`."""
        logits = self.network(self.inputs(images)).logits.float()
        assert self.classes is not None
        return 1 - logits.softmax(dim=1).index_select(1, self.classes).sum(dim=1)


def _rows_of(layer: nn.Linear, rows: Tensor) -> nn.Linear:
    """A linear layer that has these outputs of `layer` only."""
    cut = nn.Linear(layer.in_features, len(rows), bias=layer.bias is not None, device=layer.weight.device)
    with torch.no_grad():
        cut.weight.copy_(layer.weight.index_select(0, rows))
        if layer.bias is not None:
            cut.bias.copy_(layer.bias.index_select(0, rows))
    return cut
