"""Factor transfer: a paraphraser is trained on the teacher first, then the student learns its factors."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Self, cast

from torch import Tensor, nn

from distill.losses.adapters import Normalize, apply
from distill.losses.checks import refuse, weight_faults
from distill.losses.hints import hint
from distill.losses.networks import last_maps, need_taps, need_teacher, outlines
from distill.losses.numeric import at_least_float32, unit
from distill.losses.objective import Objective, Task
from distill.losses.taps import to_common_size
from distill.models import Network, Output

if TYPE_CHECKING:
    from distill.data import Batch

SLOPE = 0.1  # of the leaky ReLU below zero, the paper's
PARAPHRASER = "paraphraser.0."


def factor_transfer(student_factor: Tensor, teacher_factor: Tensor) -> Tensor:
    """Mean absolute distance of the normalised factors, (B, C, H, W) each.

    "Paraphrasing Complex Network: Network Compression via Factor Transfer" (Kim et al., NeurIPS 2018, arXiv
    1802.04977), the factor transfer loss with p = 1, as the field runs it: a factor is first reduced to the mean square
    over its channels, flattened and divided by its Euclidean norm, and the distance is averaged over positions; the
    weight 200 belongs to this form. `whole_factor_transfer` is the formula of the paper. Mean over the batch of
    per-sample terms.
    """
    student, teacher = to_common_size(at_least_float32(student_factor), at_least_float32(teacher_factor))
    return (_energy(student) - _energy(teacher)).abs().mean()


def whole_factor_transfer(student_factor: Tensor, teacher_factor: Tensor) -> Tensor:
    """Absolute distance of the factors (B, C, H, W), each divided by its norm, summed over the factor.

    The factor transfer loss of Kim et al. 2018 with p = 1 as written; the weights of the field's tables do not apply.
    Both factors have the same channels. Mean over the batch of per-sample terms.
    """
    student, teacher = to_common_size(at_least_float32(student_factor), at_least_float32(teacher_factor))
    return (unit(student.flatten(1)) - unit(teacher.flatten(1))).abs().sum(dim=1).mean()


def _energy(factor: Tensor) -> Tensor:
    return unit(factor.square().mean(dim=1).flatten(1))  # (B, HW)


def factor_channels(channels: int, rate: float) -> int:
    """Channels of a factor: the paper's k times those of the teacher's map, at least 1."""
    return max(1, round(channels * rate))


def encoder(channels_in: int, channels_out: int, *, normalized: bool) -> nn.Sequential:
    """Three 3x3 convolutions, the second of which goes to `channels_out`, each with [BatchNorm and] leaky ReLU."""
    widths = (channels_in, channels_in, channels_out, channels_out)
    return nn.Sequential(*(_step(nn.Conv2d, i, o, normalized) for i, o in pairwise(widths)))


def decoder(channels_in: int, channels_out: int) -> nn.Sequential:
    """The inverse: three transposed 3x3 convolutions with leaky ReLU."""
    widths = (channels_in, channels_in, channels_out, channels_out)
    return nn.Sequential(*(_step(nn.ConvTranspose2d, i, o, False) for i, o in pairwise(widths)))


def _step(
    layer: type[nn.Conv2d] | type[nn.ConvTranspose2d], channels_in: int, channels_out: int, normalized: bool
) -> nn.Sequential:
    norm = [Normalize(channels_out)] if normalized else []
    return nn.Sequential(layer(channels_in, channels_out, 3, padding=1), *norm, nn.LeakyReLU(SLOPE, inplace=True))


class Paraphrased(Network):
    """A frozen network, and an autoencoder of its last tap: encoder `paraphraser.0`, decoder `paraphraser.1`.

    With taps, `features` are two maps (B, C, H, W): that tap and its reconstruction. Everything else is
    the network's own, which stays in eval mode. `network` is copied.
    """

    def __init__(self, network: Network, *, channels: int, rate: float) -> None:
        super().__init__()
        self.num_classes, self.embedding_dim = network.num_classes, network.embedding_dim
        self.feature_channels = (channels, channels)
        self.network = copy.deepcopy(network).requires_grad_(False).eval()
        narrow = factor_channels(channels, rate)
        self.paraphraser = nn.Sequential(encoder(channels, narrow, normalized=False), decoder(narrow, channels))

    @property
    def head(self) -> nn.Linear | None:
        return self.network.head

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.network.eval()
        return self

    def forward(self, images: Tensor, *, taps: bool = False) -> Output:
        if not taps:
            output: Output = self.network(images)
            return output
        seen: Output = self.network(images, taps=True)
        original = seen.features[-1]
        rebuilt = self.paraphraser(original.to(next(self.paraphraser.parameters()).dtype))
        return Output(seen.logits, (original, rebuilt), (None, None), seen.final_map, seen.embedding)


class Paraphrase(Objective):
    """`feature`: mean squared error of a paraphraser, an autoencoder of the teacher's last tap.

    "Paraphrasing Complex Network: Network Compression via Factor Transfer" (Kim et al., NeurIPS 2018, arXiv
    1802.04977), its reconstruction loss, the first stage of `ft`. What is trained is a `Paraphrased` teacher; its
    accuracy is the teacher's. `rate` is the paper's k, the factor's share of the tap's channels. The paraphraser has no
    BatchNorm, as in its authors' code and RepDistiller; in version 1 it had. In version 2 the teacher's frozen weights
    were trained too where precision=bf16.

    Raises ValueError if `rate` is not in (0, 1]; from `attach` if the teacher has no taps.
    """

    reads = ("features",)
    deploys = True
    version = 3

    def __init__(self, *, rate: float = 0.5) -> None:
        super().__init__()
        refuse(_rate_faults(rate))
        self.rate = rate

    def attach(self, student: nn.Module, teacher: nn.Module | None, task: Task) -> Paraphrased:
        """The teacher, copied and frozen, with a new paraphraser."""
        _, theirs = need_taps(*outlines(student, teacher, task), least=1)
        own = cast(Network, need_teacher(teacher))
        return Paraphrased(own, channels=theirs[-1].shape[1], rate=self.rate)

    def forward(self, student: Output, teacher: Output | None, batch: Batch, progress: Tensor) -> dict[str, Tensor]:
        """The term `feature`; labels and `progress` are unused."""
        original, rebuilt = student.features
        return {"feature": hint(rebuilt, original.detach())}


class FactorTransfer(Objective):
    """`ce` + `feature`: ce_weight * CE(student, labels) + feature_weight * distance of the factors.

    "Paraphrasing Complex Network: Network Compression via Factor Transfer" (Kim et al., NeurIPS 2018, arXiv
    1802.04977): the paraphraser's encoder, trained in the first stage and frozen, computes the teacher's factor; a
    translator of the same form with BatchNorm (RepDistiller), learned together with the student, computes the
    student's. `distance` is `factor_transfer` or `whole_factor_transfer`. Both read the last tap. Without a first stage
    the paraphraser keeps its initial values. In version 1 the paraphraser had BatchNorm too.

    Raises ValueError if `rate` is not in (0, 1], a weight is negative or both are zero; from `attach` if a
    network has no taps.
    """

    family = "ft"
    reads = ("features",)
    version = 2

    def __init__(
        self,
        *,
        distance: Callable[..., Tensor],
        rate: float = 0.5,
        ce_weight: float = 1.0,
        feature_weight: float = 200.0,
    ) -> None:
        super().__init__()
        refuse([*_rate_faults(rate), *weight_faults(ce_weight=ce_weight, feature_weight=feature_weight)])
        self.distance, self.rate = distance, rate
        self.ce_weight, self.feature_weight = ce_weight, feature_weight
        self.needs_teacher = feature_weight > 0

    def attach(self, student: nn.Module, teacher: nn.Module | None, task: Task) -> None:
        """The frozen paraphraser and the translator."""
        if self.needs_teacher:
            ours, theirs = need_taps(*outlines(student, teacher, task), least=1)
            narrow = factor_channels(theirs[-1].shape[1], self.rate)
            self.translator = encoder(ours[-1].shape[1], narrow, normalized=True)
            self.paraphraser = encoder(theirs[-1].shape[1], narrow, normalized=False).requires_grad_(False).eval()

    def start(self, student: nn.Module, weights: Mapping[str, Tensor]) -> None:
        """Load the encoder of the first stage; the student keeps its initial weights."""
        if not self.needs_teacher:
            return
        own = {key.removeprefix(PARAPHRASER): v for key, v in weights.items() if key.startswith(PARAPHRASER)}
        self.paraphraser.load_state_dict(own)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.needs_teacher and hasattr(self, "paraphraser"):
            self.paraphraser.eval()
        return self

    def forward(self, student: Output, teacher: Output | None, batch: Batch, progress: Tensor) -> dict[str, Tensor]:
        """The terms `ce` and `feature`, each only if its weight is positive; `progress` is unused."""
        terms = self.label_term(student, batch)
        if self.feature_weight > 0:
            ours, theirs = last_maps(student, teacher)
            factors = apply(self.translator, ours), apply(self.paraphraser, theirs)
            terms["feature"] = self.feature_weight * self.distance(*factors)
        return terms


def _rate_faults(rate: float) -> list[str]:
    return [] if 0 < rate <= 1 else [f"rate must be in (0, 1], got {rate}: set loss.rate to 0.5, the paper's k"]
