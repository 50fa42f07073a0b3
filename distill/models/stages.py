"""What the hand-written CIFAR networks share: 3x3 convolutions, the initial values, the pass over stages."""

from collections.abc import Callable, Iterable

from torch import Tensor, nn
from torch.nn import functional as F

from distill.models.contract import Output

Layer = Callable[[Tensor], Tensor]


def conv3x3(channels_in: int, channels_out: int, *, stride: int = 1) -> nn.Conv2d:
    """3x3 convolution, padding 1, no bias: a BatchNorm follows."""
    return nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False)


def initialise(network: nn.Module) -> None:
    """Kaiming normal over the fan out for convolutions (He 2015); the rest keeps torch's defaults."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def run_stages(images: Tensor, stages: Iterable[Layer], classifier: Layer, *, taps: bool) -> Output:
    """ReLU after every stage, global average pooling, classifier. A stage returns its map *before* that ReLU.

    Without taps the ReLU works in place and nothing refers to a map once the next stage has read it. At 32x32
    the pooling of the CIFAR ResNets equals the field's AvgPool2d(8); other image sizes work too.
    """
    features: list[Tensor] = []
    preactivations: list[Tensor] = []
    x = images
    for stage in stages:
        before = stage(x)
        x = F.relu(before, inplace=not taps)
        if taps:
            preactivations.append(before)
            features.append(x)
    embedding = x.mean(dim=(2, 3))
    logits = classifier(embedding)
    if not taps:
        return Output(logits)
    return Output(logits, tuple(features), tuple(preactivations), final_map=x, embedding=embedding)
