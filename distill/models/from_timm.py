"""Networks of timm (Wightman, pytorch-image-models) behind the contract.

Of the transformers that the literature distils on CIFAR, timm has DeiT-Ti and PiT-Ti. It has neither PVT-Ti nor
T2T-ViT-7: its `pvt_v2_*` are the second version of PVT (other patches, other attention, other sizes) and its
`twins_pcpvt_*` have another position code.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from distill.models.contract import Network, Output, check_num_classes
from distill.models.foreign import channels_in, check_name, classifier_layers, embedding_of, inputs_of, sole_linear
from distill.models.inputs import Channels, Inputs

# They would make timm read a file, or fetch weights, that the configuration does not name.
REFUSED = frozenset({"checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"})


class TimmNetwork(Network):
    """A timm classifier. Its taps are timm's own feature maps (`feature_info`), the token grids of a ViT too.

    There are no preactivations. `final_map` is what the head pools, as (B, C, H, W) without prefix tokens.
    The embedding is what the last linear layer reads; the inputs of several such layers are concatenated.
    The parameters are named `network.*`. `inputs` makes the images what the network expects, inside the network:
    other readers of the batch, a teacher for instance, get the unchanged images.
    """

    def __init__(self, network: nn.Module, *, num_classes: int, inputs: Inputs | None = None) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.inputs = inputs or Inputs()
        self.network = network
        # A name lookup each time rather than a stored list: layers may be replaced, and deepcopy must follow.
        self.embedding_dim = sum(channels_in(layer) for layer in self._classifier())
        self.has_maps = hasattr(network, "forward_intermediates") and bool(getattr(network, "feature_info", None))
        self.feature_channels = _declared_channels(network) if self.has_maps else ()

    def _classifier(self) -> list[nn.Module]:
        network: Any = self.network
        return classifier_layers(network.get_classifier(), num_classes=self.num_classes)

    @property
    def head(self) -> nn.Linear | None:
        return sole_linear(self._classifier())

    def forward(self, images: Tensor, *, taps: bool = False) -> Output:
        network: Any = self.network
        images = self.inputs(images)
        if not taps:
            return Output(network(images))
        features: tuple[Tensor, ...] = ()
        final: Any = None
        with inputs_of(self._classifier()) as read:
            if self.has_maps:
                final, intermediates = network.forward_intermediates(images)
                features = tuple(intermediates)
                logits = network.forward_head(final)
            else:
                logits = network(images)
        final_map = _as_map(final, grid=features[-1]) if features else None
        return Output(logits, features, (None,) * len(features), final_map, embedding_of(read))


def timm_network(
    *,
    num_classes: int = 100,
    name: str,
    pretrained: bool = False,
    input_size: int | None = None,
    mean: Channels | None = None,
    std: Channels | None = None,
    data_mean: Channels | None = None,
    data_std: Channels | None = None,
    **options: Any,
) -> TimmNetwork:
    """timm's network `name`, e.g. `resnet18`, or with the weights' tag `resnet18.a1_in1k`.

    `pretrained` loads the named weights through timm's own loader. `input_size` is the side in pixels to which the
    network resizes what it is given (bicubic), e.g. 224 for a ViT on 32x32 images. Weights that need another
    normalisation than the data set's get it by `mean` and `std` (the weights' own) together with `data_mean` and
    `data_std` (the data set's); see `Inputs`. `options` are the network's own, e.g. `drop_path_rate=0.1`, or
    `img_size=32, patch_size=4` for a ViT that reads small images as they are. ValueError for an unknown name, for
    weights that do not exist and for options that the network does not take.
    """
    check_num_classes(num_classes)
    inputs = Inputs(size=input_size, mean=mean, std=std, data_mean=data_mean, data_std=data_std)
    import timm

    check_timm_name(name, pretrained=pretrained)
    refused = sorted(REFUSED & options.keys())
    if refused:
        raise ValueError(f"timm networks take weights by name only, got {', '.join(refused)}: set pretrained=true")
    try:
        network = timm.create_model(name, pretrained=pretrained, num_classes=num_classes, **options)
    except TypeError as error:
        given = ", ".join(f"{key}={value!r}" for key, value in options.items()) or "none"
        raise ValueError(f"timm's {name} must accept its options, got {given}: {error}") from error
    return TimmNetwork(network, num_classes=num_classes, inputs=inputs)


def check_timm_name(name: str, *, pretrained: bool) -> None:
    """Raise ValueError for a network that timm does not have, or weights of it (`pretrained`, or a tag in the name)."""
    import timm

    architecture, _, tag = name.partition(".")
    check_name(architecture, timm.list_models(), library="timm")
    if not (tag or pretrained):
        return
    known = timm.list_models(f"{architecture}*", pretrained=True)
    tags = [full for full in known if full.partition(".")[0] == architecture]
    if not tags:
        raise ValueError(f"pretrained weights must exist, got {name!r} which has none: set pretrained=false")
    if name != architecture:
        check_name(name, tags, library="timm")


def _declared_channels(network: Any) -> tuple[int, ...]:
    info = network.feature_info
    entries: Sequence[dict[str, Any]] = info if isinstance(info, list) else info.get_dicts()
    return tuple(int(entry["num_chs"]) for entry in entries)


def _as_map(final: Any, *, grid: Tensor) -> Tensor:
    """What timm hands to the head, as (B, C, H, W): it is NCHW, NHWC or tokens with prefix tokens in front.

    Where it is none of these (several branches), the last tap stands in.
    """
    size = grid.shape[2:]
    if not isinstance(final, Tensor):
        return grid
    if final.ndim == 4 and final.shape[2:] == size:
        return final
    if final.ndim == 4 and final.shape[1:3] == size:
        return final.permute(0, 3, 1, 2)
    if final.ndim == 3 and final.shape[1] >= size.numel():
        return final[:, -size.numel() :].transpose(1, 2).reshape(grid.shape[0], -1, *size)
    return grid
