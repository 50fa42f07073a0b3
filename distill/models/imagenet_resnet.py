"""The ImageNet ResNets (He et al., CVPR 2016, arXiv 1512.03385, table 1) in their CIFAR form.

A 3x3 stem of 64 channels without stride or pooling in the place of the 7x7 one, four stages with strides 1, 2, 2, 2,
global average pooling, one linear layer. The shortcut is a 1x1 convolution with BatchNorm wherever the shape
changes; a bottleneck has its stride on the 3x3 convolution, and no BatchNorm starts at zero. Parameter names equal
those of RepDistiller's and mdistiller's checkpoints.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from distill.models.contract import Network, Output, check_num_classes
from distill.models.stages import Stage, conv1x1, conv3x3, initialise, projection, run_stages

Blocks = tuple[int, int, int, int]  # in each stage

WIDTHS = (64, 128, 256, 512)


class ImageNetBasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut. Takes an activated map, returns the sum before its ReLU."""

    expansion = 1

    def __init__(self, channels_in: int, width: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(channels_in, width, stride=stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv3x3(width, width)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = projection(channels_in, width, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        out += x if self.shortcut is None else self.shortcut(x)
        return out


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution to four times the width, and a shortcut. Takes an activated map, returns the
    sum before its ReLU."""

    expansion = 4

    def __init__(self, channels_in: int, width: int, *, stride: int) -> None:
        super().__init__()
        channels_out = width * self.expansion
        self.conv1 = conv1x1(channels_in, width)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv3x3(width, width, stride=stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = conv1x1(width, channels_out)
        self.bn3 = nn.BatchNorm2d(channels_out)
        self.shortcut = projection(channels_in, channels_out, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = F.relu(self.bn2(self.conv2(out)), inplace=True)
        out = self.bn3(self.conv3(out))
        out += x if self.shortcut is None else self.shortcut(x)
        return out


Block = type[ImageNetBasicBlock] | type[Bottleneck]


def stage(block: Block, channels_in: int, width: int, *, blocks: int, stride: int) -> Stage:
    """The first block changes the shape."""
    first = block(channels_in, width, stride=stride)
    others = (block(width * block.expansion, width, stride=1) for _ in range(blocks - 1))
    return Stage(first, *others)


class ImageNetResNet(Network):
    """ResNet-18, 34 or 50 for small images (B, 3, H, W).

    Taps: f0 the stem, f1 to f4 the stages, each after its ReLU; at 32x32 they are 32, 32, 16, 8, 4 pixels wide.
    """

    def __init__(self, *, block: Block, blocks: Blocks, num_classes: int = 100) -> None:
        check_num_classes(num_classes)
        super().__init__()
        channels = tuple(width * block.expansion for width in WIDTHS)
        self.num_classes = num_classes
        self.feature_channels = (WIDTHS[0], *channels)
        self.embedding_dim = channels[-1]
        self.conv1 = conv3x3(3, WIDTHS[0])
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.layer1 = stage(block, WIDTHS[0], WIDTHS[0], blocks=blocks[0], stride=1)
        self.layer2 = stage(block, channels[0], WIDTHS[1], blocks=blocks[1], stride=2)
        self.layer3 = stage(block, channels[1], WIDTHS[2], blocks=blocks[2], stride=2)
        self.layer4 = stage(block, channels[2], WIDTHS[3], blocks=blocks[3], stride=2)
        self.linear = nn.Linear(channels[-1], num_classes)
        initialise(self)

    @property
    def head(self) -> nn.Linear:
        return self.linear

    def stem(self, images: Tensor) -> Tensor:
        """The first map before its ReLU."""
        return self.bn1(self.conv1(images))

    def forward(self, images: Tensor, *, taps: bool = False) -> Output:
        stages = (self.stem, self.layer1, self.layer2, self.layer3, self.layer4)
        return run_stages(images, stages, self.linear, taps=taps)


def resnet18(*, num_classes: int = 100) -> ImageNetResNet:
    """11,220,132 parameters with 100 classes."""
    return ImageNetResNet(block=ImageNetBasicBlock, blocks=(2, 2, 2, 2), num_classes=num_classes)


def resnet34(*, num_classes: int = 100) -> ImageNetResNet:
    """21,328,292 parameters with 100 classes."""
    return ImageNetResNet(block=ImageNetBasicBlock, blocks=(3, 4, 6, 3), num_classes=num_classes)


def resnet50(*, num_classes: int = 100) -> ImageNetResNet:
    """23,705,252 parameters with 100 classes."""
    return ImageNetResNet(block=Bottleneck, blocks=(3, 4, 6, 3), num_classes=num_classes)
