"""`alpha`: one number for the two weights of a distillation loss."""

from collections.abc import Iterable, Mapping
from typing import Any

WEIGHTS = ("ce_weight", "kd_weight")


def reduce_alpha(loss: Mapping[str, Any], explicit: Iterable[str], faults: list[str], *, option: str) -> dict[str, Any]:
    """The loss node with `alpha` replaced by `ce_weight` = 1 - alpha and `kd_weight` = alpha.

    Args:
        loss: the composed node; `alpha: null` means not given.
        explicit: keys of the node that the command sets; a weight among them contradicts a given alpha.
        faults: sentences are added here.
        option: the preset's name, for the sentences.
    """
    reduced = {key: value for key, value in loss.items() if key != "alpha"}
    alpha = loss.get("alpha")
    if alpha is None:
        return reduced
    contradicted = sorted(set(WEIGHTS) & set(explicit))
    if contradicted:
        faults.append(
            f"loss.alpha={alpha} replaces ce_weight and kd_weight, but loss.{contradicted[0]} is given too: "
            "give either alpha or the weights"
        )
    elif not all(weight in loss for weight in WEIGHTS):
        faults.append(
            f"loss.alpha={alpha} needs a preset with ce_weight and kd_weight; loss={option} has its own weights"
        )
    elif isinstance(alpha, bool) or not isinstance(alpha, int | float):
        faults.append(f"loss.alpha must be a number, got {alpha!r}")
    elif not 0 <= alpha <= 1:
        faults.append(f"loss.alpha must be between 0 and 1, got {alpha}: it is the weight of the soft term")
    else:
        # to 12 digits, as in run ids: 1 - 0.9 is then the 0.1 one would type
        reduced |= {"ce_weight": float(f"{1.0 - alpha:.12g}"), "kd_weight": float(alpha)}
    return reduced
