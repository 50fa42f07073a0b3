"""Accuracy and loss by epoch, and the epochs that an accuracy takes. Imports no numpy."""

from collections.abc import Mapping, Sequence
from typing import Any

History = Sequence[Mapping[str, Any]]  # the lines of metrics.jsonl

SHARES = (0.5, 0.8, 0.9, 0.95, 1.0)


def curves(histories: Mapping[str, History], *, split: str) -> dict[str, Any]:
    """By epoch: accuracy (percent) and cross-entropy (nats) on `split`, and what was minimised on the training set.

    `terms` are the weighted terms of the loss; their sum is `train_loss`. None where a line lacks a number.
    """
    return {"split": split, "runs": {name: _curve(lines, split) for name, lines in histories.items()}}


def _curve(lines: History, split: str) -> dict[str, Any]:
    terms = list(
        dict.fromkeys(key for line in lines for key in _part(line, "train") if key not in ("accuracy", "loss"))
    )
    return {
        "epoch": [line.get("epoch") for line in lines],
        "accuracy": [_part(line, split).get("accuracy") for line in lines],
        "loss": [_part(line, split).get("loss") for line in lines],
        "train_accuracy": [_part(line, "train").get("accuracy") for line in lines],
        "train_loss": [_part(line, "train").get("loss") for line in lines],
        "terms": {term: [_part(line, "train").get(term) for line in lines] for term in terms},
        "learning_rate": [line.get("learning_rate") for line in lines],
    }


def gradient_norms(histories: Mapping[str, History]) -> dict[str, Any]:
    """By epoch, of the runs that recorded them: the 2-norm of each weighted term's gradient over the student's weights.

    None where a line lacks a number.
    """
    found = {}
    for name, lines in histories.items():
        terms = list(dict.fromkeys(key for line in lines for key in _part(line, "gradient_norms")))
        if terms:
            of = {term: [_part(line, "gradient_norms").get(term) for line in lines] for term in terms}
            found[name] = {"epoch": [line.get("epoch") for line in lines], "terms": of}
    return {"runs": found}


def _part(line: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    part = line.get(key)
    return part if isinstance(part, Mapping) else {}


def levels(last: float, asked: Sequence[float]) -> list[float]:
    """The accuracies whose epochs are told: those asked for, else shares of `last`, the accuracy of the baseline."""
    return list(asked) or [min(round(share * last, 2), last) for share in SHARES]  # who ends at `last` reaches it


def epochs_to(drawn: Mapping[str, Any], targets: Sequence[float]) -> dict[str, Any]:
    """The first epoch after which each run is at least as accurate as each target, None where it never is."""
    return {
        "targets": list(targets),
        "runs": {name: [_first(run, target) for target in targets] for name, run in drawn["runs"].items()},
    }


def _first(run: Mapping[str, Any], target: float) -> int | None:
    reached = (epoch for epoch, value in zip(run["epoch"], run["accuracy"], strict=True) if value and value >= target)
    return next(reached, None)
