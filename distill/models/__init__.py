"""Networks: the field's CIFAR ResNets, a plain CNN, and those of timm, torchvision and anybody else."""

from distill.models.contract import Network as Network
from distill.models.contract import Output as Output
from distill.models.foreign import LogitsOnly as LogitsOnly
from distill.models.foreign import as_network as as_network
from distill.models.from_timm import timm_network as timm_network
from distill.models.from_torchvision import torchvision_network as torchvision_network
from distill.models.plain import plain_cnn as plain_cnn
from distill.models.profiling import Profile as Profile
from distill.models.profiling import profile as profile
from distill.models.resnet import resnet8 as resnet8
from distill.models.resnet import resnet8x4 as resnet8x4
from distill.models.resnet import resnet14 as resnet14
from distill.models.resnet import resnet20 as resnet20
from distill.models.resnet import resnet32 as resnet32
from distill.models.resnet import resnet32x4 as resnet32x4
from distill.models.resnet import resnet44 as resnet44
from distill.models.resnet import resnet56 as resnet56
from distill.models.resnet import resnet110 as resnet110
from distill.models.resnet import resnet_1m as resnet_1m
