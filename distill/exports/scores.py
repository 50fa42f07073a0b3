"""The accuracies of a run as its model card tells them, and what each is worth."""

from collections.abc import Mapping
from typing import Any

_LAST_EPOCH = (
    "The exported weights are those of the last epoch. The best epoch is chosen by looking at the same images that "
    "measure it, so its accuracy is too high by construction."
)
_CLAIMED = "The accuracy is what the file said that these weights were imported from. Nobody has measured it here."
_IMPORTED = "The weights were imported; the accuracy was measured with them."
_RESTORED = (
    "The run was restored from weights that were stored otherwise than it recorded (rounded, as a rule). Its "
    "accuracies are those of the record; they were not measured again."
)


def scores(result: Mapping[str, Any]) -> tuple[dict[str, str], str]:
    """Rows of the card's table, and what must be known to read them; `result` is a run's result.json."""
    last, best = result["last"], result["best"]
    split = "held-out" if result["split"] == "holdout" else "test"
    counted = f" ({last['correct']} of {last['count']} {split} images)" if {"correct", "count"} <= last.keys() else ""
    told = f"**{last['accuracy']:.2f} %**{counted}"
    imported = result.get("imported")
    if isinstance(imported, Mapping):
        claimed = imported.get("accuracy") == "claimed"
        return {"accuracy": f"{told}{', not measured' if claimed else ''}"}, _CLAIMED if claimed else _IMPORTED
    rows = {
        "accuracy, last epoch": told,
        "accuracy, best epoch": f"{best['accuracy']:.2f} % in epoch {best['epoch']}, selected on {split} images",
    }
    return rows, f"{_LAST_EPOCH} {_RESTORED}" if _only_recorded(result) else _LAST_EPOCH


def _only_recorded(result: Mapping[str, Any]) -> bool:
    """Whether these weights came back without their accuracy being measured, and are not the bytes on record."""
    restored = result.get("restored")
    if not isinstance(restored, Mapping) or restored.get("measured") is not None:
        return False
    recorded = restored.get("recorded")
    return not isinstance(recorded, Mapping) or recorded.get("weights_sha256") != result["weights_sha256"]
