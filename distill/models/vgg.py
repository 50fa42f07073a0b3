"""VGG (Simonyan and Zisserman, ICLR 2015, arXiv 1409.1556) with BatchNorm, and a plain CNN of the same pattern.

As the distillation literature runs VGG: five blocks of 3x3 convolutions, each with bias, BatchNorm and ReLU, max
pooling between the blocks, global average pooling and one linear layer in the place of the three large ones. Parameter
names equal those of RepDistiller's and mdistiller's checkpoints (their `vgg8_bn` and so on; the networks without
BatchNorm are not here).
"""

from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from distill.models.contract import Network, Output, check_num_classes
from distill.models.stages import Layer, conv3x3, initialise, initialise_classifier, run_stages

Depths = tuple[int, int, int, int, int]  # convolutions in each block

WIDTHS = (64, 128, 256, 512, 512)
# From this image size on the field's networks pool once more, so that Tiny ImageNet's last maps are 4x4 too.
LARGE = 64


def conv_block(channels_in: int, channels_out: int, *, depth: int) -> nn.Sequential:
    """`depth` times convolution, BatchNorm, ReLU; the last ReLU is left to `run_stages`."""
    layers: list[nn.Module] = []
    for i in range(depth):
        conv = nn.Conv2d(channels_out if i else channels_in, channels_out, 3, padding=1)
        layers += [conv, nn.BatchNorm2d(channels_out), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers[:-1])


def pooled(block: Layer, x: Tensor) -> Tensor:
    """2x2 max pooling, then the block."""
    return block(F.max_pool2d(x, 2))


class Vgg(Network):
    """VGG for small images (B, 3, H, W), H and W >= 8.

    Taps: f0 to f4, the blocks after their last ReLU; at 32x32 they are 32, 16, 8, 4 and 4 pixels wide: the last
    block is pooled before only in images of 64 pixels and more.
    """

    def __init__(self, *, depths: Depths, num_classes: int = 100) -> None:
        check_num_classes(num_classes)
        super().__init__()
        self.num_classes = num_classes
        self.feature_channels = WIDTHS
        self.embedding_dim = WIDTHS[-1]
        self.block0 = conv_block(3, WIDTHS[0], depth=depths[0])
        self.block1 = conv_block(WIDTHS[0], WIDTHS[1], depth=depths[1])
        self.block2 = conv_block(WIDTHS[1], WIDTHS[2], depth=depths[2])
        self.block3 = conv_block(WIDTHS[2], WIDTHS[3], depth=depths[3])
        self.block4 = conv_block(WIDTHS[3], WIDTHS[4], depth=depths[4])
        self.classifier = nn.Linear(WIDTHS[4], num_classes)
        initialise(self)
        initialise_classifier(self.classifier)

    @property
    def head(self) -> nn.Linear:
        return self.classifier

    def forward(self, images: Tensor, *, taps: bool = False) -> Output:
        middle = (partial(pooled, block) for block in (self.block1, self.block2, self.block3))
        last = partial(pooled, self.block4) if images.shape[-1] >= LARGE else self.block4
        return run_stages(images, (self.block0, *middle, last), self.classifier, taps=taps)


def vgg8(*, num_classes: int = 100) -> Vgg:
    """3,965,028 parameters with 100 classes."""
    return Vgg(depths=(1, 1, 1, 1, 1), num_classes=num_classes)


def vgg11(*, num_classes: int = 100) -> Vgg:
    """9,277,284 parameters with 100 classes; the original's configuration A."""
    return Vgg(depths=(1, 1, 2, 2, 2), num_classes=num_classes)


def vgg13(*, num_classes: int = 100) -> Vgg:
    """9,462,180 parameters with 100 classes; the original's configuration B."""
    return Vgg(depths=(2, 2, 2, 2, 2), num_classes=num_classes)


def vgg16(*, num_classes: int = 100) -> Vgg:
    """14,774,436 parameters with 100 classes; the original's configuration D."""
    return Vgg(depths=(2, 2, 3, 3, 3), num_classes=num_classes)


def vgg19(*, num_classes: int = 100) -> Vgg:
    """20,086,692 parameters with 100 classes; the original's configuration E."""
    return Vgg(depths=(2, 2, 4, 4, 4), num_classes=num_classes)


PLAIN_WIDTHS = (16, 32, 64, 80)


def conv_stage(channels_in: int, channels_out: int, *, pool: bool) -> nn.Sequential:
    """[2x2 max pooling,] conv-BN-ReLU-conv-BN; the last ReLU is left to `run_stages`."""
    layers: list[nn.Module] = [nn.MaxPool2d(2)] if pool else []
    layers += [conv3x3(channels_in, channels_out), nn.BatchNorm2d(channels_out), nn.ReLU(inplace=True)]
    layers += [conv3x3(channels_out, channels_out), nn.BatchNorm2d(channels_out)]
    return nn.Sequential(*layers)


class PlainCnn(Network):
    """Eight 3x3 convolutions with BatchNorm and ReLU in four stages, max pooling between the stages, global
    average pooling, one linear layer: VGG's pattern (Simonyan and Zisserman, ICLR 2015) at resnet8's cost.

    Images (B, 3, H, W), H and W >= 8. Taps: f0 to f3, the stages after their last ReLU; at 32x32 they are
    32, 16, 8 and 4 pixels wide.
    """

    def __init__(self, *, num_classes: int = 10) -> None:
        check_num_classes(num_classes)
        super().__init__()
        self.num_classes = num_classes
        self.feature_channels = PLAIN_WIDTHS
        self.embedding_dim = PLAIN_WIDTHS[-1]
        channels = (3, *PLAIN_WIDTHS)
        stages = (conv_stage(channels[i], channels[i + 1], pool=i > 0) for i in range(len(PLAIN_WIDTHS)))
        self.stages = nn.ModuleList(stages)
        self.fc = nn.Linear(PLAIN_WIDTHS[-1], num_classes)
        initialise(self)

    @property
    def head(self) -> nn.Linear:
        return self.fc

    def forward(self, images: Tensor, *, taps: bool = False) -> Output:
        return run_stages(images, self.stages, self.fc, taps=taps)


def plain_cnn(*, num_classes: int = 10) -> PlainCnn:
    """177,114 parameters with 10 classes."""
    return PlainCnn(num_classes=num_classes)
