"""ShuffleNet V1 (Zhang et al., CVPR 2018, arXiv 1707.01083) as the CIFAR distillation literature runs it.

A 1x1 stem of 24 channels without stride or pooling, three stages that each halve the map, global average pooling,
one linear layer. Initial values are torch's defaults. Parameter names equal those of RepDistiller's and
mdistiller's checkpoints.
"""

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
    input is put beside the result instead (figure 2). Takes an activated map, returns the one before its ReLU.

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
