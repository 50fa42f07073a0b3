"""A plain CNN without shortcuts: the student that a ResNet teacher lifts in the small study."""

from torch import Tensor, nn

from distill.models.contract import Network, Output, check_num_classes
from distill.models.stages import conv3x3, initialise, run_stages

WIDTHS = (16, 32, 64, 80)


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
        self.feature_channels = WIDTHS
        self.embedding_dim = WIDTHS[-1]
        channels = (3, *WIDTHS)
        stages = (conv_stage(channels[i], channels[i + 1], pool=i > 0) for i in range(len(WIDTHS)))
        self.stages = nn.ModuleList(stages)
        self.fc = nn.Linear(WIDTHS[-1], num_classes)
        initialise(self)

    @property
    def head(self) -> nn.Linear:
        return self.fc

    def forward(self, images: Tensor, *, taps: bool = False) -> Output:
        return run_stages(images, self.stages, self.fc, taps=taps)


def plain_cnn(*, num_classes: int = 10) -> PlainCnn:
    """177,114 parameters with 10 classes."""
    return PlainCnn(num_classes=num_classes)
