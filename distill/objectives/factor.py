"""Factor transfer: a paraphraser beside the teacher first, then a student that learns its factors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Self, cast

from torch import Tensor, nn

from distill.losses.maps import hint
from distill.models import Network
from distill.objectives.checks import refuse, weight_faults
from distill.objectives.feature_terms import label_term, last_maps, need_taps, outlines
from distill.objectives.learned import apply
from distill.objectives.needs import need_teacher
from distill.objectives.objective import Objective, Task
from distill.objectives.paraphrased import Paraphrased, encoder, factor_channels

if TYPE_CHECKING:
    from distill.data import Batch
    from distill.models import Output

PARAPHRASER = "paraphraser.0."


class Paraphrase(Objective):
    """`feature`: mean squared error of a paraphraser, an autoencoder of the teacher's last tap.

    "Paraphrasing Complex Network: Network Compression via Factor Transfer" (Kim et al., NeurIPS 2018, arXiv
    1802.04977), its reconstruction loss, the first stage of `ft`. What is trained is a `Paraphrased` teacher; its
    accuracy is the teacher's. `rate` is the paper's k, the factor's share of the tap's channels.

    Raises ValueError where `rate` is not in (0, 1]; from `attach` where the teacher has no taps.
    """

    logits_only = False
    deploys = True

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
        """The term `feature`; labels and progress are not read."""
        original, rebuilt = student.features
        return {"feature": hint(rebuilt, original.detach())}


class FactorTransfer(Objective):
    """`ce` + `feature`: ce_weight * CE(student, labels) + feature_weight * distance of the factors.

    "Paraphrasing Complex Network: Network Compression via Factor Transfer" (Kim et al., NeurIPS 2018, arXiv
    1802.04977): the paraphraser's encoder, trained in the first stage and frozen, gives the teacher's factor; a
    translator of the same form, learned together with the student, gives the student's. `distance` is a function of
    `distill.losses.factor`. Both read the last tap. Without a first stage the paraphraser keeps its initial values.

    Raises ValueError where `rate` is not in (0, 1], a weight is negative or both are zero; from `attach` where a
    network has no taps.
    """

    logits_only = False

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
            self.translator = encoder(ours[-1].shape[1], narrow)
            self.paraphraser = encoder(theirs[-1].shape[1], narrow).requires_grad_(False).eval()

    def start(self, student: nn.Module, weights: Mapping[str, Tensor]) -> None:
        """Takes the encoder over from the first stage; the student begins afresh."""
        own = {key.removeprefix(PARAPHRASER): v for key, v in weights.items() if key.startswith(PARAPHRASER)}
        self.paraphraser.load_state_dict(own)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.needs_teacher and hasattr(self, "paraphraser"):
            self.paraphraser.eval()
        return self

    def forward(self, student: Output, teacher: Output | None, batch: Batch, progress: Tensor) -> dict[str, Tensor]:
        """The terms `ce` and `feature`, each only where its weight is positive; progress is not read."""
        terms = label_term(student, batch, ce_weight=self.ce_weight)
        if self.feature_weight > 0:
            ours, theirs = last_maps(student, teacher)
            factors = apply(self.translator, ours), apply(self.paraphraser, theirs)
            terms["feature"] = self.feature_weight * self.distance(*factors)
        return terms


def _rate_faults(rate: float) -> list[str]:
    return [] if 0 < rate <= 1 else [f"rate must be in (0, 1], got {rate}: set loss.rate to 0.5, the paper's k"]
