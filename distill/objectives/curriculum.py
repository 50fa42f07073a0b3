"""Labels plus a teacher's softened logits at a temperature that is learned against the student (CTKD)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from torch import Tensor, nn

from distill.losses.logit import cross_entropy, identity
from distill.losses.softened import kd_by_sample
from distill.objectives.checks import refuse, weight_faults
from distill.objectives.needs import need_teacher
from distill.objectives.objective import Objective, Task
from distill.objectives.ramps import cosine_ramp, ramp_faults
from distill.objectives.teacher_logits import teacher_logits
from distill.objectives.temperatures import GlobalTemperature, InstanceTemperature

if TYPE_CHECKING:
    from distill.data import Batch
    from distill.models import Network, Output


class CurriculumKD(Objective):
    """`ce` + `kd`: ce_weight * CE + kd_weight * T^2 KL, T from `temperature_module`, which raises the KD term.

    "Curriculum Temperature for Knowledge Distillation" (Li et al., AAAI 2023, arXiv 2211.16231). The module's
    gradient is reversed and times lambda_e = (1 - cos(pi min(e / ramp_epochs, 1))) / 2 in epoch e: easy at first,
    then as hard as the temperature can make it. It shares the student's optimizer, weight decay included, as in
    the authors' code; the student's own gradient is that of KD at the temperature of the moment. T^2 is inside
    and takes part in the module's gradient. `transform` is applied to the logits of both sides before the KL, the
    z-score for instance; the module and CE see raw logits.

    Raises ValueError where a weight is negative, both are zero, `ramp_epochs` < 1 or a number is not finite.
    """

    def __init__(
        self,
        *,
        temperature_module: GlobalTemperature | InstanceTemperature,
        ce_weight: float,
        kd_weight: float,
        ramp_epochs: int,
        transform: Callable[[Tensor], Tensor] = identity,
    ) -> None:
        super().__init__()
        refuse([*weight_faults(ce_weight=ce_weight, kd_weight=kd_weight), *ramp_faults(ramp_epochs)])
        self.temperature_module = temperature_module
        self.ce_weight = ce_weight
        self.kd_weight = kd_weight
        self.ramp_epochs = ramp_epochs
        self.transform = transform
        self.needs_teacher = kd_weight > 0

    def attach(self, student: nn.Module, teacher: nn.Module | None, task: Task) -> None:
        """Size the temperature module to the number of classes; ValueError where there is no teacher."""
        if self.needs_teacher:
            need_teacher(teacher)
            self.temperature_module.attach(num_classes=cast("Network", student).num_classes)

    def forward(self, student: Output, teacher: Output | None, batch: Batch, progress: Tensor) -> dict[str, Tensor]:
        """The terms `ce` and `kd`, each only where its weight is positive."""
        terms = {}
        if self.ce_weight > 0:
            terms["ce"] = self.ce_weight * cross_entropy(student.logits, batch.labels)
        if self.kd_weight > 0:
            sides = student.logits, teacher_logits(teacher)
            strength = cosine_ramp(progress, epochs=self.ramp_epochs)
            temperature = self.temperature_module(*sides, strength=strength)
            transformed = (self.transform(side) for side in sides)
            terms["kd"] = self.kd_weight * kd_by_sample(*transformed, temperature=temperature)
        return terms
