"""Presets whose mathematics equals another preset's: what separates their rows is chance alone."""

from dataclasses import dataclass

from distill.tables.grouping import Row
from distill.tables.values import flatten


@dataclass(frozen=True)
class Replicate:
    """A preset, the preset it repeats, why they are equal, and the settings under which they are."""

    preset: str
    of: str
    reason: str
    settings: dict[str, float]


_W9_T2 = {"temperature": 2.0, "ce_weight": 0.1, "kd_weight": 9.0}

REPLICATES = (
    Replicate(
        preset="ablation/mean_only",
        of="kd_w9_t2",
        reason="a softmax does not see the mean of the logits",
        settings=_W9_T2,
    ),
    Replicate(
        preset="ablation/deviation_only",
        of="zscore_kd",
        reason="a softmax does not see the mean of the logits",
        settings=_W9_T2,
    ),
    Replicate(
        preset="soft_ce",
        of="kd",
        reason="the teacher's entropy, by which the two differ, has no gradient",
        settings={"temperature": 4.0, "ce_weight": 0.1, "kd_weight": 0.9},
    ),
)


def replicate_of(row: Row) -> Replicate | None:
    """The equality that holds for this row, None where there is none or its settings were changed."""
    values = {path.split(".")[-1]: value for path, value in flatten(row.first.identity.get("objective")).items()}
    for each in REPLICATES:
        same = all(values.get(key, value) == value for key, value in each.settings.items())
        if row.loss == each.preset and same:
            return each
    return None
