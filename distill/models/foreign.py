"""Networks that know nothing of the contract."""

from typing import cast

from torch import Tensor, nn

from distill.models.contract import Network, Output, check_num_classes

CONTRACT = ("feature_channels", "embedding_dim", "num_classes")


class LogitsOnly(Network):
    """Any module that maps images to a tensor of logits (B, K). It has no taps: only logit losses can use it.

    Its parameters are named `network.*`. Raises ValueError from the forward pass where the module returns
    something else.
    """

    def __init__(self, network: nn.Module, *, num_classes: int) -> None:
        check_num_classes(num_classes)
        super().__init__()
        self.num_classes = num_classes
        self.network = network

    @property
    def head(self) -> None:
        """None: nobody knows what the module's last layer reads."""

    def forward(self, images: Tensor, *, taps: bool = False) -> Output:
        logits = self.network(images)
        expected = (images.shape[0], self.num_classes)
        if not isinstance(logits, Tensor) or logits.shape != expected:
            got = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
            name = type(self.network).__name__
            raise ValueError(
                f"{name} must return logits of shape {expected}, got {got}: return that tensor, "
                f"or declare {', '.join(CONTRACT)} and return distill.models.Output"
            )
        return Output(logits)


def as_network(module: nn.Module, *, num_classes: int) -> Network:
    """`module` itself where it declares the contract's attributes, else `LogitsOnly(module)`."""
    if all(hasattr(module, attribute) for attribute in CONTRACT):
        return cast(Network, module)
    return LogitsOnly(module, num_classes=num_classes)
