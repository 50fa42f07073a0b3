"""Finished runs of CIFAR-100 pairs written by hand, as `distill train` records them. Loaded by path."""

import hashlib
import json
from pathlib import Path
from typing import Any

import yaml

Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
DATA = {
    "_target_": "distill.data.cifar100",
    "npz": "elsewhere/cifar100.npz",
    "root": "data",
    "download": False,
    "mean": [0.5071, 0.4867, 0.4408],
    "std": [0.2675, 0.2565, 0.2761],
    "pad": 4,
    "flip": True,
    "limit": None,
    "holdout": 0,
}
CE = {"_target_": "distill.losses.CrossEntropy", "ce_weight": 1.0}
PARTIAL = {"_partial_": True}


def soft(divergence: str, temperature: float, kd_weight: float) -> dict[str, Any]:
    """A loss node of soft targets, without `alpha`, as runs record it."""
    node = {"_target_": f"distill.losses.{divergence}", "_partial_": True}
    weights = {"temperature": temperature, "ce_weight": 0.1, "kd_weight": kd_weight}
    return {"_target_": "distill.losses.SoftTargets", "divergence": node, **weights}


LOSSES = {
    "ce": CE,
    "kd": soft("kd", 4.0, 0.9),
    "kd_w9_t2": soft("kd", 2.0, 9.0),
    "zscore_kd": soft("zscore_kd", 2.0, 9.0),
}


def recipe(epochs: int) -> dict[str, Any]:
    """The field's CIFAR recipe."""
    optimizer = {"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.05, "momentum": 0.9, "weight_decay": 0.0005}
    steps = {"_target_": "distill.training.Steps", "milestones": [0.625, 0.75, 0.875], "gamma": 0.1}
    sizes = {"epochs": epochs, "batch_size": 64, "reference_epochs": 240}
    return {"_target_": "distill.training.Recipe", **sizes, "optimizer": optimizer, "schedule": steps}


def add(
    runs_dir: Path,
    accuracy: float,
    *,
    loss: str,
    seed: int = 1,
    best: float | None = None,
    student: str = "resnet20",
    teacher: str = "resnet56",
    weights: str = "a1b2",
    teacher_seed: int = 0,
    teacher_accuracy: float = 72.0,
    given_as: str | None = None,
    teacher_precision: str | None = None,
    epochs: int = 240,
    teacher_epochs: int | None = None,
    precision: str = "fp32",
    source: str = "live",
    named: str | None = None,
    seconds: float = 3600.0,
    holdout: int = 0,
    **changes: Any,
) -> str:
    """One finished run and its id; `changes` are values of its loss, `given_as` the run that was named as teacher,
    `teacher_precision` its precision where it is not that of the student.
    """
    node = LOSSES[loss] | changes
    network = {"_target_": f"distill.models.{teacher}"}
    taught = loss != "ce"
    own = {"seed": teacher_seed, "precision": teacher_precision, "source": "auto", "run": given_as}
    own |= {"network": network, "loss": CE, "recipe": recipe(teacher_epochs or epochs)}
    config = {
        "seed": seed,
        "precision": precision,
        "teacher": own if taught else None,
        "dataset": DATA | {"holdout": holdout},
        "student": {"_target_": f"distill.models.{student}"},
        "loss": node,
        "recipe": recipe(epochs),
    }
    by_weights = {"weights": weights} | ({"precision": teacher_precision} if teacher_precision else {})
    by_run = {"run": f"{teacher}{teacher_seed}{teacher_epochs or epochs}"}
    identity = {
        "numerics": 1,
        "data": {"train": "c1f", "test": "c1f", "holdout": holdout},
        "student": {"target": student},
        "teacher": (by_weights if given_as else by_run) if taught else None,
        "objective": node,
        "recipe": recipe(epochs),
        "seed": seed,
        "precision": precision,
    }
    run_id = hashlib.sha256(json.dumps([identity, weights, source]).encode()).hexdigest()[:12]
    names = {"dataset": "cifar100", "student": student, "recipe": "cifar"}
    names |= {"teacher": teacher if taught else "none", "loss": named or loss}
    facts = {"run_id": given_as or "7ea", "weights_sha256": weights + "0" * 60, "accuracy": teacher_accuracy}
    result = {
        "run_id": run_id,
        "seconds": seconds,
        "parameters": 278324,
        "epochs": epochs,
        "split": "holdout" if holdout else "test",
        "last": {"epoch": epochs, "accuracy": accuracy},
        "best": {"epoch": 9, "accuracy": accuracy if best is None else best},
        "weights_sha256": run_id,
        "teacher": facts | {"source": source} if taught else None,
        "precision": precision,
    }
    path = runs_dir / f"{student}-{loss}-s{seed}-{run_id}"
    path.mkdir(parents=True)
    content = json.loads(json.dumps({"run_id": run_id, "names": names, "config": config, "identity": identity}))
    (path / "config.yaml").write_text(yaml.dump(content, Dumper=Dumper))
    (path / "result.json").write_text(json.dumps(result))
    return run_id


def add_all(runs_dir: Path, accuracies: list[float], *, gains: list[float] | None = None, **run: Any) -> list[str]:
    """One run for each accuracy, with seeds 1, 2, ...; the best epoch is better by `gains`."""
    more = gains or [0.0] * len(accuracies)
    return [
        add(runs_dir, value, seed=seed, best=value + gain, **run)
        for seed, (value, gain) in enumerate(zip(accuracies, more, strict=True), start=1)
    ]
