"""Multi-level logit distillation: predictions, their similarity within the batch, and that of the classes.

"Multi-level Logit Distillation" (Jin, Wang and Lin, CVPR 2023): with P the softened predictions (B, K), the
instance level compares P itself, the batch level P P^T (B, B), the class level P^T P (K, K); every level sums
over several temperatures ("prediction augmentation"), which the objective does. B is the batch, K the
number of classes; logits are (B, K). Scalars; student first, teacher second. `weights` are factors of the
samples (B,) or classes (K,); they come from the selections below.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from distill.losses.checks import refuse, weight_faults
from distill.losses.networks import both_logits
from distill.losses.numeric import at_least_float32
from distill.losses.objective import Objective
from distill.losses.softened import kl_rows, log_softened
from distill.losses.transforms import identity

if TYPE_CHECKING:
    from distill.data import Batch, StrongView
    from distill.models import Output


def instance_alignment(
    student_logits: Tensor, teacher_logits: Tensor, *, temperature: float | Tensor, weights: Tensor
) -> Tensor:
    """Mean over the batch of weight_i T^2 KL_i; the mean is over all B, however many weights are 0."""
    rows = kl_rows(log_softened(student_logits, temperature), log_softened(teacher_logits, temperature))
    return (weights * rows).mean() * temperature * temperature


def batch_correlation(
    student_logits: Tensor, teacher_logits: Tensor, *, temperature: float | Tensor, weights: Tensor
) -> Tensor:
    """Squared distance of the similarities P P^T, row i times weight_i, summed and divided by B. No T^2 inside.

    Relational: of a batch written twice, the matrix holds four copies and B is doubled, so the value doubles.
    """
    student, teacher = (log_softened(logits, temperature).exp() for logits in (student_logits, teacher_logits))
    return _weighted_distance(student @ student.T, teacher @ teacher.T, weights)


def class_correlation(
    student_logits: Tensor, teacher_logits: Tensor, *, temperature: float | Tensor, weights: Tensor
) -> Tensor:
    """Squared distance of the similarities P^T P, row k times weight_k, summed and divided by K. No T^2 inside.

    Relational: P^T P is a sum over the batch, which doubles with it, so the value becomes four times as large.
    """
    student, teacher = (log_softened(logits, temperature).exp() for logits in (student_logits, teacher_logits))
    return _weighted_distance(student.T @ student, teacher.T @ teacher, weights)


def _weighted_distance(student: Tensor, teacher: Tensor, weights: Tensor) -> Tensor:
    return (weights * (teacher - student).square().sum(dim=-1)).mean()


def confidence(teacher_logits: Tensor) -> Tensor:
    """The largest probability of every sample, at temperature 1: (B, K) -> (B,)."""
    return log_softened(teacher_logits, 1.0).amax(dim=-1).exp()


def class_mass(teacher_logits: Tensor) -> Tensor:
    """The batch's probability for every class, summed over samples, at temperature 1: (B, K) -> (K,)."""
    return torch.softmax(at_least_float32(teacher_logits), dim=-1).sum(dim=0)


def lower_half(values: Tensor) -> Tensor:
    """1 for items at or below the median of `values` (N,), else 0: selects the half with the lower values."""
    return (values <= values.median()).to(values.dtype)


def share_of_lower_half(values: Tensor) -> Tensor:
    """The share that `lower_half` selects, about 1/2, for every item: nothing is selected, every item is halved.

    The public code has this effect, because it multiplies a finished mean by a mask of samples.
    """
    return lower_half(values).mean().expand_as(values)


def everything(values: Tensor) -> Tensor:
    """1 for every item: no selection."""
    return torch.ones_like(values)


class MultiLevelKD(Objective):
    """`ce` + `instance` + `batch` + `class`, over a weak and a strong view of every image.

    "Multi-level Logit Distillation" (Jin, Wang and Lin, CVPR 2023), the losses of `distill.losses.multi_level`:

    ce        ce_weight * (CE of the weak view + CE of the strong view)
    instance  kd_weight * the sum of: KD of the weak view at every one of `temperatures`, samples weighted by the
              selection; KD of the strong view at `strong_temperatures`, all samples equally; KD of the weak view
              once more at `unselected_temperatures`, all samples equally. T^2 is inside each.
    batch     kd_weight * sum over `temperatures` of the weak view's batch correlation, selected samples
    class     kd_weight * sum over `temperatures` of the weak view's class correlation, selected classes

    `base_temperature` is the first of `temperatures` and of `strong_temperatures`, which list the others.
    `selection` is a function (N,) -> (N,), values in 0..1, of the teacher's confidence in every sample of the weak
    view and of its probability mass for every class, both at temperature 1. `lower_half` picks those at or
    below the median, which is what the masks of the authors' code mean; there they multiply finished means, which
    `share_of_lower_half` reproduces. `everything` is no selection. `transform` (the z-score) acts at the instance
    level alone, as in the z-score paper's code.

    Raises ValueError if a temperature is <= 0, a weight is negative, both are zero, a number is not finite or
    there is no strong view.
    """

    family = "mlkd"
    reads = ("logits", "strong")
    two_views = True
    relational = (
        "compares samples with each other: a batch written twice gives the same ce and instance terms, "
        "twice the batch term and four times the class term"
    )

    def __init__(
        self,
        *,
        strong: Any,  # distill.data.StrongView, a name that is not to be imported here at run time
        base_temperature: float,
        temperatures: tuple[float, ...],
        strong_temperatures: tuple[float, ...],
        unselected_temperatures: tuple[float, ...],
        ce_weight: float,
        kd_weight: float,
        selection: Callable[[Tensor], Tensor] = lower_half,
        transform: Callable[[Tensor], Tensor] = identity,
    ) -> None:
        super().__init__()
        listed = {
            "base_temperature": (base_temperature,),
            "temperatures": tuple(temperatures),
            "strong_temperatures": tuple(strong_temperatures),
            "unselected_temperatures": tuple(unselected_temperatures),
        }
        faults = weight_faults(ce_weight=ce_weight, kd_weight=kd_weight)
        for name, values in listed.items():
            faults += [
                f"{name} must be > 0 and finite, got {value}: set loss.{name} to positive numbers"
                for value in values
                if not 0 < value < float("inf")
            ]
        if strong is None:
            faults.append("strong must be a strong view, got None: set loss.strong._target_=distill.data.StrongView")
        refuse(faults)
        self.strong_view: StrongView = strong
        self.temperatures = (base_temperature, *listed["temperatures"])
        self.strong_temperatures = (base_temperature, *listed["strong_temperatures"])
        self.unselected_temperatures = listed["unselected_temperatures"]
        self.ce_weight = ce_weight
        self.kd_weight = kd_weight
        self.selection = selection
        self.transform = transform
        self.needs_teacher = kd_weight > 0

    def forward(self, student: Output, teacher: Output | None, batch: Batch, progress: Tensor) -> dict[str, Tensor]:
        """The four terms, each only if its weight is positive; `progress` is unused."""
        terms = {}
        if self.ce_weight > 0:
            both = [self.cross_entropy(view.logits, batch.labels) for view in (student, _strong(student))]
            terms["ce"] = self.ce_weight * (both[0] + both[1])
        if self.kd_weight > 0:
            weak, teacher_weak = both_logits(student, teacher)
            strong, teacher_strong = both_logits(_strong(student), _strong(teacher))
            samples = self.selection(confidence(teacher_weak))  # (B,)
            classes = self.selection(class_mass(teacher_weak))  # (K,)
            instance = self._instance((weak, teacher_weak), (strong, teacher_strong), samples)
            over_batch = over_classes = torch.zeros_like(instance)
            for t in self.temperatures:
                over_batch = over_batch + batch_correlation(weak, teacher_weak, temperature=t, weights=samples)
                over_classes = over_classes + class_correlation(weak, teacher_weak, temperature=t, weights=classes)
            terms["instance"] = self.kd_weight * instance
            terms["batch"] = self.kd_weight * over_batch
            terms["class"] = self.kd_weight * over_classes
        return terms

    def _instance(self, weak: tuple[Tensor, Tensor], strong: tuple[Tensor, Tensor], samples: Tensor) -> Tensor:
        weak = self.transform(weak[0]), self.transform(weak[1])
        strong = self.transform(strong[0]), self.transform(strong[1])
        equally = torch.ones_like(samples)
        parts = [instance_alignment(*weak, temperature=t, weights=samples) for t in self.temperatures]
        parts += [instance_alignment(*strong, temperature=t, weights=equally) for t in self.strong_temperatures]
        parts += [instance_alignment(*weak, temperature=t, weights=equally) for t in self.unselected_temperatures]
        return torch.stack(parts).sum()


def _strong(output: Output | None) -> Output:
    if output is None or output.strong is None:
        raise ValueError("output.strong must be an output, got None: MLKD needs the networks' outputs on Batch.strong")
    return output.strong
