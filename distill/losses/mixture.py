"""Any weighted sum of objectives."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor, nn

from distill.losses.checks import refuse
from distill.losses.objective import Objective, Task

if TYPE_CHECKING:
    from distill.data import Batch
    from distill.models import Output


class Mixture(Objective):
    """`mixture`: the sum of the terms of several objectives, each multiplied by its part's weight.

    The term `feature` of the part `at` is called `at/feature`, so that terms of one name stay apart. The mixture needs
    everything that one of its parts needs; a part of weight 0 is left out, and so is what it needs. The parts' modules
    are trained and saved with the mixture.

    If one part deploys a network in the student's place, the others are attached to that network. At most one part can.

    Args:
        parts: objectives by name. A name has letters, digits and underscores.
        weights: factors by name; 1 for a part that is not listed.

    Raises ValueError if there is no part, a name is invalid, a weight belongs to no part or is negative or not finite,
    all weights are 0, two parts deploy a network, or two parts need different strong views.
    """

    @classmethod
    def version_of(cls, node: Mapping[str, Any]) -> int:
        """2 where a part reads the teacher's batch statistics (`ofd`), else 1.

        In version 1 such a mixture read the running statistics.
        """
        factors = node.get("weights") or {}
        used = [part for name, part in node["parts"].items() if factors.get(name, 1.0) > 0]
        inner = [cls.version_of(part) for part in used if str(part["_target_"]).endswith(".Mixture")]
        return 2 if 2 in inner or any(str(part["_target_"]).endswith(".FeatureOverhaul") for part in used) else 1

    def __init__(self, *, parts: dict[str, Objective], weights: dict[str, float] | None = None) -> None:
        super().__init__()
        factors = dict.fromkeys(parts, 1.0) | dict(weights or {})
        refuse([*_part_faults(parts), *_factor_faults(parts, factors)])
        self.weights = {name: factor for name, factor in factors.items() if factor > 0}
        self.parts = nn.ModuleDict({name: parts[name] for name in self.weights})
        used = self._parts()
        refuse(_joint_faults(used))
        self.needs_teacher = any(part.needs_teacher for part in used.values())
        declared = [part.reads for part in used.values()]
        known = dict.fromkeys(name for reads in declared for name in reads or ())
        self.reads = None if None in declared else tuple(known)
        self.teacher_batch_statistics = any(part.teacher_batch_statistics for part in used.values())
        self.two_views = any(part.two_views for part in used.values())
        self.strong_view = next((p.strong_view for p in used.values() if p.strong_view is not None), None)
        self.deploys = any(part.deploys for part in used.values())
        self.ce_weight = sum(self.weights[name] * part.ce_weight for name, part in used.items())
        self.relational = " ".join(f"{name}: {part.relational}" for name, part in used.items() if part.relational)

    @property
    def logits_only(self) -> bool:
        """Whether logits are enough for every part."""
        return all(part.logits_only for part in self._parts().values())

    def _parts(self) -> dict[str, Objective]:
        return {name: cast(Objective, part) for name, part in self.parts.items()}

    def attach(self, student: nn.Module, teacher: nn.Module | None, task: Task) -> nn.Module | None:
        """Attach every part, the one that deploys a network first; returns that network, or None."""
        deployed = None
        for part in sorted(self._parts().values(), key=lambda part: not part.deploys):
            network = part.attach(student if deployed is None else deployed, teacher, task)
            deployed = deployed if network is None else network
        return deployed

    def smooth_labels(self, smoothing: float) -> None:
        """Smooth the labels of every part."""
        for part in self._parts().values():
            part.smooth_labels(smoothing)

    def start(self, student: nn.Module, weights: Mapping[str, Tensor]) -> None:
        """Call `start` of the parts that override it; if there is none, load the weights into the student."""
        own = [part for part in self._parts().values() if type(part).start is not Objective.start]
        for part in own:
            part.start(student, weights)
        if not own:
            super().start(student, weights)

    def forward(self, student: Output, teacher: Output | None, batch: Batch, progress: Tensor) -> dict[str, Tensor]:
        """The terms of all parts, named `part/term`."""
        return {
            f"{name}/{term}": self.weights[name] * value
            for name, part in self._parts().items()
            for term, value in part(student, teacher, batch, progress).items()
        }


def _part_faults(parts: Mapping[str, Objective]) -> list[str]:
    if not parts:
        return ["parts must hold one objective or more, got none: add one, e.g. +loss@loss.parts.kd=kd"]
    faults = []
    for name, part in parts.items():
        if not isinstance(part, Objective):
            faults.append(
                f"parts.{name} must be an objective, got {type(part).__name__}: set loss.parts.{name}._target_"
            )
        if not name.isidentifier() or hasattr(nn.ModuleDict, name):
            faults.append(
                f"a part's name must be letters, digits and underscores and not a dict method, "
                f"got {name!r}: rename loss.parts.{name}"
            )
    return faults


def _factor_faults(parts: Mapping[str, Objective], factors: Mapping[str, float]) -> list[str]:
    unknown = sorted(factors.keys() - parts.keys())
    faults = [f"weights.{name} must belong to one of the parts {', '.join(parts)}: remove it" for name in unknown]
    for name, factor in factors.items():
        if not 0 <= factor < math.inf:
            faults.append(f"weights.{name} must be finite and >= 0, got {factor}: set loss.weights.{name}")
    if parts and not any(factors.values()):
        faults.append("weights must not all be 0: set one of loss.weights to a positive number")
    return faults


def _joint_faults(parts: Mapping[str, Objective]) -> list[str]:
    faults = []
    deploying = [name for name, part in parts.items() if part.deploys]
    if len(deploying) > 1:
        faults.append(f"at most one part may deploy a network, got {', '.join(deploying)}: remove one")
    views = {name: part.strong_view for name, part in parts.items() if part.strong_view is not None}
    if len(set(views.values())) > 1:
        faults.append(f"the strong views of {', '.join(views)} must be equal: set one to the values of the other")
    return faults
