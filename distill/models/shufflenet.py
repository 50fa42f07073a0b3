"""ShuffleNet V1 (Zhang et al., CVPR 2018, arXiv 1707.01083) and V2 1x (Ma et al., ECCV 2018, arXiv 1807.11164).

As the CIFAR distillation literature runs them: a 1x1 stem of 24 channels without stride or pooling, three stages that
each halve the map, in V2 a 1x1 convolution to 1024 channels, global average pooling, one linear layer. Initial values
are torch's defaults. Parameter names equal those of RepDistiller's and mdistiller's checkpoints.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distill.models.contract import Network, Output, check_num_classes
from distill.models.stages import Stage, conv1x1, depthwise3x3, run_stages

STEM = 24


def shuffle(x: Tensor, *, groups: int) -> Tensor:
    """Channel i of group g becomes channel g of group i (figure 1); written for channels_last memory."""
    batch, channels, height, width = x.shape
    last = x.permute(0, 2, 3, 1).reshape(batch, height, width, groups, channels // groups)
    return last.transpose(3, 4).flatten(3).permute(0, 3, 1, 2)


class GroupedBlock(nn.Module):
    """Grouped 1x1, shuffle, depthwise 3x3, grouped 1x1, and the input added; with stride 2 the averaged
    input is concatenated with the result instead (figure 2). Takes an activated map, returns the one before its ReLU.

    Unlike the original, and like the field's networks, there is a ReLU after the depthwise convolution. The first
    convolution has one group where it reads the stem, whose channels are too few.
    """

    def __init__(self, channels_in: int, channels_out: int, *, stride: int, groups: int) -> None:
        super().__init__()
        self.stride = stride
        branch = channels_out if stride == 1 else channels_out - channels_in
        hidden = branch // 4
        self.first_groups = 1 if channels_in == STEM else groups
        self.conv1 = conv1x1(channels_in, hidden, groups=self.first_groups)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.conv2 = depthwise3x3(hidden, stride=stride)
        self.bn2 = nn.BatchNorm2d(hidden)
        self.conv3 = conv1x1(hidden, branch, groups=groups)
        self.bn3 = nn.BatchNorm2d(branch)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = F.relu(self.bn1(self.conv1(x)), inplace=True)
        if self.first_groups > 1:
            out = shuffle(out, groups=self.first_groups)
        out = F.relu(self.bn2(self.conv2(out)), inplace=True)
        out = self.bn3(self.conv3(out))
        if self.stride == 1:
            out += x
            return out
        return torch.cat((out, F.avg_pool2d(x, 3, stride=2, padding=1)), dim=1)


GROUPS = 3
STAGES = ((STEM, 240, 4), (240, 480, 8), (480, 960, 4))  # channels in, channels out, blocks


def stage(channels_in: int, channels_out: int, blocks: int) -> Stage:
    """The first block halves the map."""
    first = GroupedBlock(channels_in, channels_out, stride=2, groups=GROUPS)
    return Stage(first, *(GroupedBlock(channels_out, channels_out, stride=1, groups=GROUPS) for _ in range(blocks - 1)))


class ShuffleNetV1(Network):
    """ShuffleNet V1 with three groups for small images (B, 3, H, W).

    Taps: f0 the stem, f1 to f3 the stages, each after its ReLU; at 32x32 they are 32, 16, 8 and 4 pixels wide.
    """

    def __init__(self, *, num_classes: int = 100) -> None:
        check_num_classes(num_classes)
        super().__init__()
        self.num_classes = num_classes
        self.feature_channels = (STEM, *(channels for _, channels, _ in STAGES))
        self.embedding_dim = self.feature_channels[-1]
        self.conv1 = conv1x1(3, STEM)
        self.bn1 = nn.BatchNorm2d(STEM)
        self.layer1, self.layer2, self.layer3 = (stage(*sizes) for sizes in STAGES)
        self.linear = nn.Linear(self.embedding_dim, num_classes)

    @property
    def head(self) -> nn.Linear:
        return self.linear

    def stem(self, images: Tensor) -> Tensor:
        """The first map before its ReLU."""
        return self.bn1(self.conv1(images))

    def forward(self, images: Tensor, *, taps: bool = False) -> Output:
        stages = (self.stem, self.layer1, self.layer2, self.layer3)
        return run_stages(images, stages, self.linear, taps=taps)


def shufflenet_v1(*, num_classes: int = 100) -> ShuffleNetV1:
    """949,258 parameters with 100 classes."""
    return ShuffleNetV1(num_classes=num_classes)


LAST = 1024  # channels of the last map of V2
# channels in, channels out, blocks after the first: the original's table 5, where V1 counts the first too
V2_STAGES = ((STEM, 116, 3), (116, 232, 7), (232, 464, 3))


class SplitBlock(nn.Module):
    """The basic unit: one half of the channels passes, the other goes through 1x1, depthwise 3x3 and 1x1; then
    both are shuffled (figure 3c). Takes an activated map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv1 = conv1x1(half, half)
        self.bn1 = nn.BatchNorm2d(half)
        self.conv2 = depthwise3x3(half, stride=1)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = conv1x1(half, half)
        self.bn3 = nn.BatchNorm2d(half)

    def branches(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The half that passes, and the other before its ReLU."""
        passing, out = x.chunk(2, dim=1)
        out = F.relu(self.bn1(self.conv1(out)), inplace=True)
        out = self.bn2(self.conv2(out))
        return passing, self.bn3(self.conv3(out))

    def forward(self, x: Tensor) -> Tensor:
        passing, out = self.branches(x)
        return shuffle(torch.cat((passing, F.relu(out, inplace=True)), dim=1), groups=2)

    def preactivation(self, x: Tensor) -> Tensor:
        """Its ReLU is `forward`: the half that passes is an activated map already."""
        return shuffle(torch.cat(self.branches(x), dim=1), groups=2)


class DownBlock(nn.Module):
    """The unit with stride 2: two branches that both see all channels (figure 3d)."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        half = channels_out // 2
        self.conv1 = depthwise3x3(channels_in, stride=2)
        self.bn1 = nn.BatchNorm2d(channels_in)
        self.conv2 = conv1x1(channels_in, half)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = conv1x1(channels_in, half)
        self.bn3 = nn.BatchNorm2d(half)
        self.conv4 = depthwise3x3(half, stride=2)
        self.bn4 = nn.BatchNorm2d(half)
        self.conv5 = conv1x1(half, half)
        self.bn5 = nn.BatchNorm2d(half)

    def forward(self, x: Tensor) -> Tensor:
        left = self.bn2(self.conv2(self.bn1(self.conv1(x))))
        right: Tensor = F.relu(self.bn3(self.conv3(x)), inplace=True)
        right = self.bn5(self.conv5(self.bn4(self.conv4(right))))
        return shuffle(F.relu(torch.cat((left, right), dim=1), inplace=True), groups=2)


class SplitStage(nn.Sequential):
    """One block with stride 2, then basic ones; the last one's ReLU is left to `run_stages`."""

    def __init__(self, channels_in: int, channels_out: int, blocks: int) -> None:
        super().__init__(DownBlock(channels_in, channels_out), *(SplitBlock(channels_out) for _ in range(blocks)))

    def forward(self, x: Tensor) -> Tensor:
        *others, last = self
        for block in others:
            x = block(x)
        return cast(SplitBlock, last).preactivation(x)


class ShuffleNetV2(Network):
    """ShuffleNet V2 for small images (B, 3, H, W).

    Taps: f0 the stem, f1 to f3 the stages, each after its ReLU; at 32x32 they are 32, 16, 8 and 4 pixels wide. The
    preactivations have the order of channels of the features, which are shuffled. `final_map` is the output of the
    last 1x1 convolution for f3.
    """

    def __init__(self, *, num_classes: int = 100) -> None:
        check_num_classes(num_classes)
        super().__init__()
        self.num_classes = num_classes
        self.feature_channels = (STEM, *(channels for _, channels, _ in V2_STAGES))
        self.embedding_dim = LAST
        self.conv1 = conv1x1(3, STEM)
        self.bn1 = nn.BatchNorm2d(STEM)
        self.layer1, self.layer2, self.layer3 = (SplitStage(*sizes) for sizes in V2_STAGES)
        self.conv2 = conv1x1(self.feature_channels[-1], LAST)
        self.bn2 = nn.BatchNorm2d(LAST)
        self.linear = nn.Linear(LAST, num_classes)

    @property
    def head(self) -> nn.Linear:
        return self.linear

    def stem(self, images: Tensor) -> Tensor:
        """The first map before its ReLU."""
        return self.bn1(self.conv1(images))

    def neck(self, x: Tensor) -> Tensor:
        """The last map."""
        return F.relu(self.bn2(self.conv2(x)), inplace=True)

    def forward(self, images: Tensor, *, taps: bool = False) -> Output:
        stages = (self.stem, self.layer1, self.layer2, self.layer3)
        return run_stages(images, stages, self.linear, taps=taps, neck=self.neck)


def shufflenet_v2(*, num_classes: int = 100) -> ShuffleNetV2:
    """1,355,528 parameters with 100 classes."""
    return ShuffleNetV2(num_classes=num_classes)
