"""What the hand-written CIFAR networks share: convolutions, initial values, the pass over stages."""

from collections.abc import Callable, Iterable, Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from distill.models.contract import Output

Layer = Callable[[Tensor], Tensor]
Taps = Sequence[tuple[Tensor, Tensor | None]]  # (feature, preactivation) of each tap


def conv3x3(channels_in: int, channels_out: int, *, stride: int = 1) -> nn.Conv2d:
    """3x3 convolution, padding 1, no bias: a BatchNorm follows."""
    return nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False)


def conv1x1(channels_in: int, channels_out: int, *, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """1x1 convolution, no bias: a BatchNorm follows."""
    return nn.Conv2d(channels_in, channels_out, 1, stride=stride, groups=groups, bias=False)


def depthwise3x3(channels: int, *, stride: int) -> nn.Conv2d:
    """3x3 convolution of each channel by itself, padding 1, no bias: a BatchNorm follows."""
    return nn.Conv2d(channels, channels, 3, stride=stride, padding=1, groups=channels, bias=False)


def projection(channels_in: int, channels_out: int, *, stride: int) -> nn.Sequential | None:
    """The shortcut of a residual block, 1x1 convolution and BatchNorm; None where the shape stays ("option B")."""
    if stride == 1 and channels_in == channels_out:
        return None
    return nn.Sequential(conv1x1(channels_in, channels_out, stride=stride), nn.BatchNorm2d(channels_out))


def initialise(network: nn.Module) -> None:
    """Convolutions: weights normal with variance 2 / (kernel area * output channels), biases 0; the rest keeps
    torch's defaults.

    Without groups this is Kaiming's normal over the fan out (He et al., ICCV 2015, arXiv 1502.01852, equation 14).
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def initialise_classifier(classifier: nn.Linear) -> None:
    """Weights normal with deviation .01, bias 0: VGG's start, which MobileNetV2 takes over."""
    nn.init.normal_(classifier.weight, std=0.01)
    nn.init.zeros_(classifier.bias)


class Stage(nn.Sequential):
    """Blocks that take an activated map and return one before its ReLU, with a ReLU between them; the last
    block's ReLU is left to `run_stages`."""

    def forward(self, x: Tensor) -> Tensor:
        first, *others = self
        out: Tensor = first(x)
        for block in others:
            out = block(F.relu(out, inplace=True))
        return out


def run_stages(
    images: Tensor, stages: Iterable[Layer], classifier: Layer, *, taps: bool, neck: Layer | None = None
) -> Output:
    """ReLU after every stage, [neck,] global average pooling, classifier. A stage returns its map *before* that
    ReLU; the neck is what a network computes between its last tap and the pooling.

    Without taps the ReLU works in place and nothing refers to a map once the next stage has read it.
    """
    seen: list[tuple[Tensor, Tensor | None]] | None = [] if taps else None
    x = images
    for stage in stages:
        before = stage(x)
        x = F.relu(before, inplace=not taps)
        if seen is not None:
            seen.append((x, before))
    return pool_and_classify(x if neck is None else neck(x), classifier, seen)


def pool_and_classify(final_map: Tensor, classifier: Layer, taps: Taps | None) -> Output:
    """Global average pooling and classifier; only the logits where `taps` is None.

    At 32x32 the pooling equals the field's fixed windows; other image sizes work too.
    """
    embedding = final_map.mean(dim=(2, 3))
    logits = classifier(embedding)
    if taps is None:
        return Output(logits)
    features = tuple(feature for feature, _ in taps)
    preactivations = tuple(before for _, before in taps)
    return Output(logits, features, preactivations, final_map=final_map, embedding=embedding)
