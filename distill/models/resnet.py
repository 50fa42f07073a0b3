"""CIFAR ResNets (He et al., CVPR 2016, section 4.2) as the distillation literature runs them.

depth 6n + 2: a 3x3 stem and three stages of n basic blocks, strides 1, 2, 2, global average pooling, one
linear layer. Where the shape changes, the shortcut is a 1x1 convolution with BatchNorm (`projection`, "option B"), or,
with `shortcut="padding"`, every second pixel beside channels of zeros ("option A", the paper's own choice on CIFAR).
Parameter names equal those of RepDistiller's and mdistiller's checkpoints, so published weights load.
"""

from typing import Literal, get_args

from torch import Tensor, nn
from torch.nn import functional as F

from distill.models.contract import Network, Output, check_num_classes
from distill.models.stages import Stage, conv3x3, initialise, projection, run_stages

Widths = tuple[int, int, int, int]  # stem and the three stages

NARROW: Widths = (16, 16, 32, 64)
# The "x4" networks: the stem only doubles, so that stage 1 has a projection too.
FOURFOLD: Widths = (32, 64, 128, 256)
# Multiples of eight: measured faster on a CPU than (36, 36, 72, 144), which has as many parameters.
ABOUT_1M: Widths = (32, 32, 72, 144)


Shortcut = Literal["projection", "padding"]


class Padding(nn.Module):
    """(B, C, H, W) as (B, channels_out, H / stride, W / stride): pixels left out, channels of zeros on both sides."""

    def __init__(self, channels_in: int, channels_out: int, *, stride: int) -> None:
        super().__init__()
        self.stride, self.zeros = stride, channels_out - channels_in

    def forward(self, x: Tensor) -> Tensor:
        before = self.zeros // 2
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.zeros - before))


def shortcut_of(kind: Shortcut, channels_in: int, channels_out: int, *, stride: int) -> nn.Module | None:
    """The shortcut of a block; None where its shape stays. ValueError for an unknown kind."""
    if kind not in get_args(Shortcut):
        raise ValueError(f"shortcut must be {' or '.join(get_args(Shortcut))}, got {kind!r}")
    if kind == "projection" or (stride == 1 and channels_in == channels_out):
        return projection(channels_in, channels_out, stride=stride)
    return Padding(channels_in, channels_out, stride=stride)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut. Takes an activated map, returns the sum before its ReLU."""

    def __init__(self, channels_in: int, channels_out: int, *, stride: int, shortcut: Shortcut) -> None:
        super().__init__()
        self.conv1 = conv3x3(channels_in, channels_out, stride=stride)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.conv2 = conv3x3(channels_out, channels_out)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.downsample = shortcut_of(shortcut, channels_in, channels_out, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        out: Tensor = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        out += shortcut
        return out


def stage(channels_in: int, channels_out: int, *, blocks: int, stride: int, shortcut: Shortcut) -> Stage:
    """The first block changes the shape."""
    shapes = [(channels_in, stride), *[(channels_out, 1)] * (blocks - 1)]
    return Stage(*(BasicBlock(wide, channels_out, stride=step, shortcut=shortcut) for wide, step in shapes))


class CifarResNet(Network):
    """ResNet for small images (B, 3, H, W).

    Taps: f0 the stem, f1 to f3 the stages, each after its ReLU; at 32x32 they are 32, 32, 16, 8 pixels wide.
    Raises ValueError unless depth = 6n + 2 with n >= 1.
    """

    def __init__(
        self, *, depth: int, widths: Widths = NARROW, num_classes: int = 100, shortcut: Shortcut = "projection"
    ) -> None:
        if depth < 8 or (depth - 2) % 6:
            raise ValueError(f"depth must be 6n + 2 with n >= 1, got {depth}: use 8, 14, 20, 32, 44, 56 or 110")
        check_num_classes(num_classes)
        super().__init__()
        self.num_classes = num_classes
        self.feature_channels = widths
        self.embedding_dim = widths[3]
        blocks = (depth - 2) // 6
        self.conv1 = conv3x3(3, widths[0])
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.layer1 = stage(widths[0], widths[1], blocks=blocks, stride=1, shortcut=shortcut)
        self.layer2 = stage(widths[1], widths[2], blocks=blocks, stride=2, shortcut=shortcut)
        self.layer3 = stage(widths[2], widths[3], blocks=blocks, stride=2, shortcut=shortcut)
        self.fc = nn.Linear(widths[3], num_classes)
        initialise(self)

    def stem(self, images: Tensor) -> Tensor:
        """The first map before its ReLU."""
        out: Tensor = self.bn1(self.conv1(images))
        return out

    @property
    def head(self) -> nn.Linear:
        return self.fc

    def forward(self, images: Tensor, *, taps: bool = False) -> Output:
        stages = (self.stem, self.layer1, self.layer2, self.layer3)
        return run_stages(images, stages, self.fc, taps=taps)


def resnet8(*, num_classes: int = 100, shortcut: Shortcut = "projection") -> CifarResNet:
    """83,892 parameters with 100 classes."""
    return CifarResNet(depth=8, num_classes=num_classes, shortcut=shortcut)


def resnet14(*, num_classes: int = 100, shortcut: Shortcut = "projection") -> CifarResNet:
    """181,108 parameters with 100 classes."""
    return CifarResNet(depth=14, num_classes=num_classes, shortcut=shortcut)


def resnet20(*, num_classes: int = 100, shortcut: Shortcut = "projection") -> CifarResNet:
    """278,324 parameters with 100 classes."""
    return CifarResNet(depth=20, num_classes=num_classes, shortcut=shortcut)


def resnet32(*, num_classes: int = 100, shortcut: Shortcut = "projection") -> CifarResNet:
    """472,756 parameters with 100 classes."""
    return CifarResNet(depth=32, num_classes=num_classes, shortcut=shortcut)


def resnet44(*, num_classes: int = 100, shortcut: Shortcut = "projection") -> CifarResNet:
    """667,188 parameters with 100 classes."""
    return CifarResNet(depth=44, num_classes=num_classes, shortcut=shortcut)


def resnet56(*, num_classes: int = 100, shortcut: Shortcut = "projection") -> CifarResNet:
    """861,620 parameters with 100 classes."""
    return CifarResNet(depth=56, num_classes=num_classes, shortcut=shortcut)


def resnet110(*, num_classes: int = 100, shortcut: Shortcut = "projection") -> CifarResNet:
    """1,736,564 parameters with 100 classes."""
    return CifarResNet(depth=110, num_classes=num_classes, shortcut=shortcut)


def resnet8x4(*, num_classes: int = 100) -> CifarResNet:
    """1,233,540 parameters with 100 classes."""
    return CifarResNet(depth=8, widths=FOURFOLD, num_classes=num_classes)


def resnet32x4(*, num_classes: int = 100) -> CifarResNet:
    """7,433,860 parameters with 100 classes."""
    return CifarResNet(depth=32, widths=FOURFOLD, num_classes=num_classes)


def resnet_1m(*, num_classes: int = 10) -> CifarResNet:
    """1,354,202 parameters with 10 classes: resnet20 of widths 32, 72, 144, teacher of the small study."""
    return CifarResNet(depth=20, widths=ABOUT_1M, num_classes=num_classes)
