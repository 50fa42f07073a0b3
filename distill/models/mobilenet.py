"""The MobileNets as the distillation literature runs them: V1 on ImageNet, V2 on CIFAR.

V1 (Howard et al. 2017, arXiv 1704.04861, table 1) has its full width. V2 (Sandler et al., CVPR 2018, arXiv 1801.04381)
differs from the original: half its width, ReLU instead of ReLU6, fewer strides (2 in the stem and in two groups
of blocks), a 1x1 expansion in the first block too, no dropout, and the last convolution keeps its 1280 channels.
Parameter names equal those of RepDistiller's and mdistiller's checkpoints.
"""

from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from distill.models.contract import Network, Output, check_num_classes
from distill.models.stages import (
    conv1x1,
    conv3x3,
    depthwise3x3,
    initialise,
    initialise_classifier,
    pool_and_classify,
)

# channels and stride of V1's blocks, the first of which is the stem; and the blocks whose maps are taps
V1_BLOCKS = ((32, 2), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))
V1_TAPPED = (3, 5, 11, 13)

STEM, LAST = 16, 1280
# expansion, channels, blocks, stride of the first block: the original's table 2 at half its channels
GROUPS = ((1, 8, 1, 1), (6, 12, 2, 1), (6, 16, 3, 2), (6, 32, 4, 2), (6, 48, 3, 1), (6, 80, 3, 2), (6, 160, 1, 1))
TAPPED = (1, 2, 4, 6)  # the groups whose ends are taps, in addition to the stem


class MobileNetV1(Network):
    """MobileNetV1 for images (B, 3, H, W) of ImageNet's size: depthwise 3x3 and 1x1 convolutions, each with BatchNorm
    and ReLU, after a 3x3 stem of stride 2; torch's default initial values.

    Taps: f0 to f3 are the last maps of 128, 256, 512 and 1024 channels after their ReLU, at 224x224 they are 56, 28, 14
    and 7 pixels wide. The stem is no tap.
    """

    def __init__(self, *, num_classes: int = 1000) -> None:
        check_num_classes(num_classes)
        super().__init__()
        self.num_classes = num_classes
        self.feature_channels = tuple(V1_BLOCKS[i][0] for i in V1_TAPPED)
        self.embedding_dim = V1_BLOCKS[-1][0]
        (channels, stride), *others = V1_BLOCKS
        self.model = nn.ModuleList([nn.Sequential(conv3x3(3, channels, stride=stride), nn.BatchNorm2d(channels))])
        for channels_out, stride in others:
            self.model.append(
                nn.Sequential(
                    depthwise3x3(channels, stride=stride),
                    nn.BatchNorm2d(channels),
                    nn.ReLU(inplace=True),
                    conv1x1(channels, channels_out),
                    nn.BatchNorm2d(channels_out),
                )
            )
            channels = channels_out
        self.fc = nn.Linear(channels, num_classes)

    @property
    def head(self) -> nn.Linear:
        return self.fc

    def forward(self, images: Tensor, *, taps: bool = False) -> Output:
        seen: list[tuple[Tensor, Tensor | None]] | None = [] if taps else None
        x = images
        for i, block in enumerate(self.model):
            before = block(x)
            tapped = seen is not None and i in V1_TAPPED
            x = F.relu(before, inplace=not tapped)
            if seen is not None and tapped:
                seen.append((x, before))
        return pool_and_classify(x, self.fc, seen)


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise 3x3, linear 1x1 projection, and the input added where the shape stays."""

    def __init__(self, channels_in: int, channels_out: int, *, expansion: int, stride: int) -> None:
        super().__init__()
        self.adds_input = stride == 1 and channels_in == channels_out
        hidden = channels_in * expansion
        self.conv = nn.Sequential(
            conv1x1(channels_in, hidden),
            nn.BatchNorm2d(hidden),
            nn.ReLU(inplace=True),
            depthwise3x3(hidden, stride=stride),
            nn.BatchNorm2d(hidden),
            nn.ReLU(inplace=True),
            conv1x1(hidden, channels_out),
            nn.BatchNorm2d(channels_out),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        if self.adds_input:
            out += x
        return out


def group(channels_in: int, channels_out: int, *, expansion: int, blocks: int, stride: int) -> nn.Sequential:
    """Blocks of one width; the first changes the shape."""
    first = InvertedResidual(channels_in, channels_out, expansion=expansion, stride=stride)
    others = (InvertedResidual(channels_out, channels_out, expansion=expansion, stride=1) for _ in range(blocks - 1))
    return nn.Sequential(first, *others)


class MobileNetV2(Network):
    """MobileNetV2 for small images (B, 3, H, W).

    Taps: f0 the stem after its ReLU, f1 to f4 linear bottlenecks at the ends of groups 1, 2, 4 and 6; at 32x32 they
    are 16, 16, 8, 4 and 2 pixels wide. No ReLU follows a bottleneck, so that it is its own preactivation; the
    literature gives none for the stem. `final_map` is the output of the last 1x1 convolution for f4.
    """

    features_are_activated = False

    def __init__(self, *, num_classes: int = 100) -> None:
        check_num_classes(num_classes)
        super().__init__()
        self.num_classes = num_classes
        self.feature_channels = (STEM, *(GROUPS[i][1] for i in TAPPED))
        self.embedding_dim = LAST
        self.conv1 = nn.Sequential(conv3x3(3, STEM, stride=2), nn.BatchNorm2d(STEM), nn.ReLU(inplace=True))
        self.blocks = nn.ModuleList()
        channels = STEM
        for expansion, channels_out, blocks, stride in GROUPS:
            self.blocks.append(group(channels, channels_out, expansion=expansion, blocks=blocks, stride=stride))
            channels = channels_out
        self.conv2 = nn.Sequential(conv1x1(channels, LAST), nn.BatchNorm2d(LAST), nn.ReLU(inplace=True))
        self.classifier = nn.Sequential(nn.Linear(LAST, num_classes))
        initialise(self)
        initialise_classifier(self.head)

    @property
    def head(self) -> nn.Linear:
        return cast(nn.Linear, self.classifier[0])

    def forward(self, images: Tensor, *, taps: bool = False) -> Output:
        x = self.conv1(images)
        seen: list[tuple[Tensor, Tensor | None]] | None = [(x, None)] if taps else None
        for i, blocks in enumerate(self.blocks):
            x = blocks(x)
            if seen is not None and i in TAPPED:
                seen.append((x, x))
        return pool_and_classify(self.conv2(x), self.head, seen)


def mobilenet_v1(*, num_classes: int = 1000) -> MobileNetV1:
    """4,231,976 parameters with 1,000 classes; the network that some ImageNet tables and code call MobileNetV2."""
    return MobileNetV1(num_classes=num_classes)


def mobilenet_v2(*, num_classes: int = 100) -> MobileNetV2:
    """812,836 parameters with 100 classes."""
    return MobileNetV2(num_classes=num_classes)
