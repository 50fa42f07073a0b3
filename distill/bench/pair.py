"""A teacher and a student of an experiment, planned as `distill train` plans them, on generated images."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from distill.bench.settings import Settings
from distill.config.faults import Fault
from distill.config.plan import RunPlan
from distill.config.sweep import prepare
from distill.data import ImageDataset, synthetic
from distill.data.digest import ordered_digest

CLASSES, SIZE = 100, 32
# CIFAR-100's, as in configs/dataset/cifar100.yaml
MEAN, STD = "[0.5071,0.4867,0.4408]", "[0.2675,0.2565,0.2761]"
EVALUATED = 5  # training images to one evaluation image, as CIFAR has them
SPREAD = 3.0  # standard deviation of a trained teacher's logits on CIFAR-100


def plan_pair(settings: Settings, faults: Sequence[Fault] = ()) -> RunPlan:
    """The plan of KD in the experiment, its data replaced by a few generated images of CIFAR-100's shape.

    Nothing needs to be downloaded, and neither side's speed depends on what is in an image.

    Raises:
        Refused: everything that is wrong with the experiment, after `faults`.
    """
    data: dict[str, int | str] = {"classes": CLASSES, "train_size": CLASSES, "test_size": 1, "image_size": SIZE}
    data |= {"mean": MEAN, "std": STD, "pad": 4, "flip": "true"}
    overrides = [f"experiment={settings.experiment}", "loss=kd", "dataset=synthetic"]
    overrides += [f"dataset.{key}={value}" for key, value in data.items()]
    overrides += [f"precision={settings.precision}", f"engine.device={settings.device}", "teacher.source=live"]
    config_dir = None if settings.config_dir is None else Path(settings.config_dir)
    _, sweep = prepare(overrides, multirun=False, config_dir=config_dir, faults=faults, may_download=False)
    return sweep.jobs[0]


def evaluation_images(images: int) -> int:
    """How many images an epoch of `images` is followed by."""
    return -(-images // EVALUATED)


def generated(like: ImageDataset, *, images: int) -> ImageDataset:
    """A data set like the plan's, with `images` training images."""
    return synthetic(
        classes=like.num_classes,
        train_size=max(images, like.num_classes),
        test_size=evaluation_images(images),
        image_size=like.image_size,
        mean=like.mean,
        std=like.std,
        pad=like.pad,
        flip=like.flip,
    )


def name_of(plan: RunPlan) -> str:
    """`resnet20 -> resnet8`."""
    return f"{plan.names['teacher']} -> {plan.names['student']}"


def calibrated(network: nn.Module, images: Tensor, *, seed: int = 0) -> nn.Module:
    """Random weights with the statistics of trained ones, in eval mode.

    BatchNorm gets scattered scales and shifts and the running statistics of `images` (B, 3, H, W), so that folding it
    is no identity; the classifier is scaled until the logits deviate by about 3.
    """
    random = torch.Generator().manual_seed(seed)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    with torch.no_grad():
        for norm in norms:
            norm.weight.uniform_(0.5, 1.5, generator=random)
            norm.bias.normal_(0.0, 0.2, generator=random)
            norm.momentum = 1.0  # the statistics of the last batch
        network.train()(images)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        logits = network.eval()(images).logits
        classifier = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
        for parameter in classifier.parameters():
            parameter.mul_(SPREAD / logits.std())
    return network


def subset(data: ImageDataset, *, images: int, evaluation: int) -> ImageDataset:
    """The first images of both splits, as a data set of its own. Of few images some classes may have none."""
    train = data.train_images[:images], data.train_labels[:images]
    return replace(
        data,
        train_images=train[0],
        train_labels=train[1],
        evaluation_images=data.evaluation_images[:evaluation],
        evaluation_labels=data.evaluation_labels[:evaluation],
        digest={"train": ordered_digest(*train, num_classes=data.num_classes), "test": None},
    )
