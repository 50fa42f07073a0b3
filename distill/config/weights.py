"""`alpha`: one number for the two weights of a distillation loss."""

from collections.abc import Iterable, Mapping
from typing import Any

WEIGHTS = ("ce_weight", "kd_weight")


def reduce_alpha(
    loss: Mapping[str, Any], explicit: Iterable[str], faults: list[str], *, option: str, path: str = "loss"
) -> dict[str, Any]:
    """The loss node, and those inside it, with `alpha` replaced by `ce_weight` = 1 - alpha and `kd_weight` = alpha.

    Args:
        loss: the composed node; `alpha: null` means not given.
        explicit: keys of the node that the command sets; a weight among them contradicts a given alpha.
        faults: sentences are added here.
        option: the preset's name, for the sentences.
        path: where the node stands, for the sentences.
    """
    explicit = set(explicit)
    reduced = {key: _reduced(key, value, explicit, faults, path) for key, value in loss.items() if key != "alpha"}
    alpha = loss.get("alpha")
    if alpha is None:
        return reduced
    contradicted = sorted(set(WEIGHTS) & set(explicit))
    if contradicted:
        faults.append(
            f"{path}.alpha={alpha} replaces ce_weight and kd_weight, but {path}.{contradicted[0]} is given too: "
            "give either alpha or the weights"
        )
    elif not all(weight in loss for weight in WEIGHTS):
        faults.append(
            f"{path}.alpha={alpha} needs a preset with ce_weight and kd_weight; loss={option} has its own weights"
        )
    elif isinstance(alpha, bool) or not isinstance(alpha, int | float):
        faults.append(f"{path}.alpha must be a number, got {alpha!r}")
    elif not 0 <= alpha <= 1:
        faults.append(f"{path}.alpha must be between 0 and 1, got {alpha}: it is the weight of the soft term")
    else:
        # to 12 digits, as in run ids: 1 - 0.9 is then the 0.1 one would type
        reduced |= {"ce_weight": float(f"{1.0 - alpha:.12g}"), "kd_weight": float(alpha)}
    return reduced


def _reduced(key: str, value: Any, explicit: set[str], faults: list[str], path: str) -> Any:
    if not isinstance(value, Mapping):
        return value
    inside = {name.removeprefix(f"{key}.") for name in explicit if name.startswith(f"{key}.")}
    return reduce_alpha(value, inside, faults, option=key, path=f"{path}.{key}")
