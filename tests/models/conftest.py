"""A network's layers applied one by one, to write a forward pass out from its definition."""

from collections.abc import Callable

import pytest
from torch import Tensor, nn
from torch.nn import functional as F


class ByHand:
    """The layers of a network in training mode, by their names in its state, through torch.nn.functional."""

    def __init__(self, network: nn.Module) -> None:
        self.state = {name: value.detach().clone() for name, value in network.state_dict().items()}

    def has(self, name: str) -> bool:
        return any(key.startswith(f"{name}.") for key in self.state)

    def conv(self, x: Tensor, name: str, *, stride: int = 1, groups: int = 1) -> Tensor:
        weight = self.state[f"{name}.weight"]
        bias = self.state.get(f"{name}.bias")
        return F.conv2d(x, weight, bias, stride=stride, padding=weight.shape[-1] // 2, groups=groups)

    def bn(self, x: Tensor, name: str) -> Tensor:
        return F.batch_norm(x, None, None, self.state[f"{name}.weight"], self.state[f"{name}.bias"], training=True)

    def conv_bn(self, x: Tensor, conv: str, bn: str, *, stride: int = 1, groups: int = 1) -> Tensor:
        return self.bn(self.conv(x, conv, stride=stride, groups=groups), bn)

    def linear(self, x: Tensor, name: str) -> Tensor:
        return x @ self.state[f"{name}.weight"].T + self.state[f"{name}.bias"]


@pytest.fixture
def by_hand() -> Callable[[nn.Module], ByHand]:
    return ByHand
