"""Networks: those of the field's CIFAR tables, a plain CNN, and those of timm, torchvision and users."""

from distill.models.contract import Network, Output, on_both_views
from distill.models.folding import folded
from distill.models.foreign import LogitsOnly, as_network
from distill.models.from_timm import timm_network
from distill.models.from_torchvision import torchvision_network
from distill.models.imagenet_resnet import resnet18, resnet34, resnet50
from distill.models.inputs import AsTrained, Inputs
from distill.models.meta import Profile, outline, profile
from distill.models.mobilenet import mobilenet_v1, mobilenet_v2
from distill.models.resnet import (
    resnet8,
    resnet8x4,
    resnet14,
    resnet20,
    resnet32,
    resnet32x4,
    resnet44,
    resnet56,
    resnet110,
    resnet_1m,
)
from distill.models.shufflenet import shufflenet_v1, shufflenet_v2
from distill.models.vgg import plain_cnn, vgg8, vgg11, vgg13, vgg16, vgg19
from distill.models.wrn import wrn_16_1, wrn_16_2, wrn_16_4, wrn_28_2, wrn_28_4, wrn_40_1, wrn_40_2
