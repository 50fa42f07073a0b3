"""Wide ResNets (Zagoruyko and Komodakis, BMVC 2016, arXiv 1605.07146) as the distillation literature runs them.

wrn_D_k has depth D = 6n + 4 and width k: a 3x3 stem of 16 channels, three stages of n preactivated blocks with
16k, 32k and 64k channels, strides 1, 2, 2, no dropout, a last BatchNorm and ReLU, global average pooling, one
linear layer. A shortcut is a 1x1 convolution, without BatchNorm, where the number of channels changes, and it
reads the activated map. Parameter names equal those of RepDistiller's and mdistiller's checkpoints.
"""

from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from distill.models.contract import Network, Output, check_num_classes
from distill.models.stages import conv1x1, conv3x3, initialise, pool_and_classify

STEM = 16


class PreactivatedBlock(nn.Module):
    """BatchNorm, ReLU and 3x3 convolution, twice, and a shortcut.

    The first BatchNorm and ReLU are applied by the caller: at the start of a stage their result is a tap too,
    and a BatchNorm that ran twice in a step would update its statistics twice.
    """

    def __init__(self, channels_in: int, channels_out: int, *, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels_in)
        self.conv1 = conv3x3(channels_in, channels_out, stride=stride)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.conv2 = conv3x3(channels_out, channels_out)
        self.convShortcut: nn.Module | None = None  # the checkpoints' name
        if channels_in != channels_out:
            self.convShortcut = conv1x1(channels_in, channels_out, stride=stride)

    def forward(self, x: Tensor, activated: Tensor) -> Tensor:
        """`x`: the raw sum so far; `activated`: relu(bn1(x))."""
        out: Tensor = F.relu(self.bn2(self.conv1(activated)), inplace=True)
        out = self.conv2(out)
        out += x if self.convShortcut is None else self.convShortcut(activated)
        return out


class WideStage(nn.Module):
    """n blocks of one width."""

    def __init__(self, channels_in: int, channels_out: int, *, blocks: int, stride: int) -> None:
        super().__init__()
        first = PreactivatedBlock(channels_in, channels_out, stride=stride)
        others = (PreactivatedBlock(channels_out, channels_out, stride=1) for _ in range(blocks - 1))
        self.layer = nn.ModuleList((first, *others))

    def blocks(self) -> list[PreactivatedBlock]:
        """The blocks; `layer` is their name in checkpoints."""
        return [cast(PreactivatedBlock, block) for block in self.layer]

    def preactivation(self, x: Tensor) -> Tensor:
        """The output of the first block's first BatchNorm for the map that enters the stage."""
        return self.blocks()[0].bn1(x)

    def forward(self, x: Tensor, activated: Tensor) -> Tensor:
        first, *others = self.blocks()
        out: Tensor = first(x, activated)
        for block in others:
            out = block(out, F.relu(block.bn1(out), inplace=True))
        return out


class WideResNet(Network):
    """Wide ResNet for small images (B, 3, H, W).

    Taps: f0 the stem's convolution, f1 to f3 the sums at the end of the stages, all raw; at 32x32 they are 32, 32,
    16, 8 pixels wide. A preactivation is the output of the BatchNorm that follows the feature, computed once: this
    BatchNorm belongs to the next stage, and after f3 to the network. `final_map` is the last one's ReLU.
    Raises ValueError unless depth = 6n + 4 with n >= 1 and width >= 1.
    """

    features_are_activated = False

    def __init__(self, *, depth: int, width: int, num_classes: int = 100) -> None:
        if depth < 10 or (depth - 4) % 6:
            raise ValueError(f"depth must be 6n + 4 with n >= 1, got {depth}: use 10, 16, 22, 28 or 40")
        if width < 1:
            raise ValueError(f"width must be >= 1, got {width}: use 1, 2 or 4")
        check_num_classes(num_classes)
        super().__init__()
        widths = (STEM, 16 * width, 32 * width, 64 * width)
        self.num_classes = num_classes
        self.feature_channels = widths
        self.embedding_dim = widths[3]
        blocks = (depth - 4) // 6
        self.conv1 = conv3x3(3, STEM)
        self.block1 = WideStage(widths[0], widths[1], blocks=blocks, stride=1)
        self.block2 = WideStage(widths[1], widths[2], blocks=blocks, stride=2)
        self.block3 = WideStage(widths[2], widths[3], blocks=blocks, stride=2)
        self.bn1 = nn.BatchNorm2d(widths[3])
        self.fc = nn.Linear(widths[3], num_classes)
        initialise(self)
        nn.init.zeros_(self.fc.bias)

    @property
    def head(self) -> nn.Linear:
        return self.fc

    def forward(self, images: Tensor, *, taps: bool = False) -> Output:
        seen: list[tuple[Tensor, Tensor | None]] | None = [] if taps else None
        x = self.conv1(images)
        for stage in (self.block1, self.block2, self.block3):
            before = stage.preactivation(x)
            if seen is not None:
                seen.append((x, before))
            x = stage(x, F.relu(before, inplace=not taps))
        before = self.bn1(x)
        if seen is not None:
            seen.append((x, before))
        return pool_and_classify(F.relu(before, inplace=not taps), self.fc, seen)


def wrn_16_1(*, num_classes: int = 100) -> WideResNet:
    """180,916 parameters with 100 classes."""
    return WideResNet(depth=16, width=1, num_classes=num_classes)


def wrn_16_2(*, num_classes: int = 100) -> WideResNet:
    """703,284 parameters with 100 classes."""
    return WideResNet(depth=16, width=2, num_classes=num_classes)


def wrn_16_4(*, num_classes: int = 100) -> WideResNet:
    """2,772,020 parameters with 100 classes."""
    return WideResNet(depth=16, width=4, num_classes=num_classes)


def wrn_28_2(*, num_classes: int = 100) -> WideResNet:
    """1,479,220 parameters with 100 classes."""
    return WideResNet(depth=28, width=2, num_classes=num_classes)


def wrn_28_4(*, num_classes: int = 100) -> WideResNet:
    """5,872,180 parameters with 100 classes."""
    return WideResNet(depth=28, width=4, num_classes=num_classes)


def wrn_40_1(*, num_classes: int = 100) -> WideResNet:
    """569,780 parameters with 100 classes."""
    return WideResNet(depth=40, width=1, num_classes=num_classes)


def wrn_40_2(*, num_classes: int = 100) -> WideResNet:
    """2,255,156 parameters with 100 classes."""
    return WideResNet(depth=40, width=2, num_classes=num_classes)
