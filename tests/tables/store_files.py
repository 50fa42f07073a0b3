"""Run directories written by hand, with the test's accuracies. Loaded by path: tests are no package."""

import hashlib
import json
from pathlib import Path
from typing import Any

import yaml

Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
LOSSES: dict[str, dict[str, Any]] = {
    "ce": {"_target_": "distill.losses.CrossEntropy", "ce_weight": 1.0},
    "kd": {"divergence": "kd", "temperature": 4.0, "ce_weight": 0.1, "kd_weight": 0.9},
    "kd_w9_t2": {"divergence": "kd", "temperature": 2.0, "ce_weight": 0.1, "kd_weight": 9.0},
    "zscore_kd": {"divergence": "zscore_kd", "temperature": 2.0, "ce_weight": 0.1, "kd_weight": 9.0},
    "ablation/mean_only": {
        "divergence": "transformed_kd",
        "temperature": 2.0,
        "ce_weight": 0.1,
        "kd_weight": 9.0,
    },
}
RECIPES = {
    "demo": {"epochs": 10, "milestones": [6, 8]},
    "cifar_short": {"epochs": 20, "milestones": [12, 16]},
}
TEACHER = {"run_id": "7eac4e700000", "weights_sha256": "a1b2" + "0" * 60, "accuracy": 97.0, "source": "live"}
PARAMETERS = {"resnet8": 78042, "resnet20": 278324}


def add_run(
    runs_dir: Path,
    *,
    accuracy: float | None = 90.0,
    top5: float | None = None,
    classes: int = 10,
    best: float | None = None,
    student: str = "resnet8",
    loss: str = "kd",
    seed: int = 1,
    dataset: str = "digits",
    recipe: str = "demo",
    precision: str = "fp32",
    holdout: int = 0,
    limit: int | None = None,
    npz: str | None = None,
    named: str | None = None,
    teacher: dict[str, Any] | None = TEACHER,
    teacher_name: str = "resnet20",
    overrides: dict[str, Any] | None = None,
    recipe_overrides: dict[str, Any] | None = None,
    failure: dict[str, Any] | None = None,
    epochs_done: int = 0,
    seconds: float = 12.5,
    memory: int | None = None,
) -> str:
    """Write one run and return its id: finished with `accuracy`, failed with `failure`, else unfinished."""
    teacher = None if loss == "ce" else teacher
    node = _loss_node(loss) | (overrides or {})
    recipe_node = {"_target_": "distill.training.Recipe"} | RECIPES[recipe] | (recipe_overrides or {})
    data_node = {"_target_": f"distill.data.{dataset}", "npz": npz, "limit": limit, "holdout": holdout}
    named_loss = " ".join([loss, *(f"{key}={value:g}" for key, value in (overrides or {}).items())])
    named_recipe = " ".join([recipe, *(f"{key}={value}" for key, value in (recipe_overrides or {}).items())])
    places = [f"npz={npz}"] if npz else []
    sizes = [f"limit={limit}"] if limit else []
    sizes += [f"holdout={holdout}"] if holdout else []
    named_dataset = " ".join([dataset, *places, *sizes])
    names = {
        "dataset": named_dataset,
        "student": student,
        "loss": named or named_loss,
        "recipe": named_recipe,
    }
    names["teacher"] = teacher_name if teacher else "none"
    identity = {
        "numerics": 1,
        "data": {
            "train": _digest(dataset, limit),
            "test": None if holdout else _digest(dataset),
            "holdout": holdout,
        },
        "student": {"target": f"distill.models.{student}"},
        "teacher": {"run": teacher["run_id"]} if teacher else None,
        "objective": _as_targets(node),
        "recipe": _as_targets(recipe_node),
        "seed": seed,
        "precision": precision,
    }
    run_id = _digest(identity)[:12]
    config = {
        "dataset": data_node,
        "student": {"_target_": f"distill.models.{student}"},
        "teacher": {"seed": 0, "network": {"_target_": f"distill.models.{teacher_name}"}} if teacher else None,
        "loss": node,
        "recipe": recipe_node,
        "seed": seed,
        "precision": precision,
    }
    weights = teacher["weights_sha256"][:6] + teacher["source"] if teacher else ""  # retrained: another folder
    path = runs_dir / f"{student}-{loss.replace('/', '_')}-s{seed}{weights}-{run_id}"
    path.mkdir(parents=True)
    content = {"run_id": run_id, "names": names, "config": config, "identity": identity}
    content = json.loads(json.dumps(content))  # no list is shared, since a run's file has no YAML aliases
    (path / "config.yaml").write_text(yaml.dump(content, Dumper=Dumper))
    split = "holdout" if holdout else "test"
    if failure is not None:
        (path / "failed.json").write_text(json.dumps(failure))
    elif accuracy is not None:
        result = {
            "run_id": run_id,
            "finished": "2025-01-02T03:04:05+00:00",
            "seconds": seconds,
            "peak_memory_bytes": memory,
            "parameters": PARAMETERS.get(student),
            "epochs": recipe_node["epochs"],
            "split": split,
            "classes": classes,
            "last": {"epoch": recipe_node["epochs"], "accuracy": accuracy, **({} if top5 is None else {"top5": top5})},
            "best": {"epoch": 7, "accuracy": accuracy if best is None else best},
            "weights_sha256": _digest(run_id),
            "teacher": teacher,
            "precision": precision,
        }
        (path / "result.json").write_text(json.dumps(result))
    lines = [{"epoch": n, "train": {"loss": 1.0}, split: {"accuracy": 50.0 + n}} for n in range(1, epochs_done + 1)]
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return run_id


def add_seeds(runs_dir: Path, accuracies: list[float], **run: Any) -> list[str]:
    """One finished run for each accuracy, with seeds 1, 2, ..."""
    return [add_run(runs_dir, accuracy=value, seed=seed, **run) for seed, value in enumerate(accuracies, start=1)]


def _loss_node(loss: str) -> dict[str, Any]:
    node = dict(LOSSES[loss])
    if "divergence" in node:
        node["divergence"] = {"_target_": f"distill.losses.{node['divergence']}", "_partial_": True}
        node = {"_target_": "distill.losses.SoftTargets"} | node
    return node


def _as_targets(node: dict[str, Any]) -> dict[str, Any]:
    inner = {key: _as_targets(value) if isinstance(value, dict) else value for key, value in node.items()}
    inner.pop("_partial_", None)
    return {"target": inner.pop("_target_")} | inner


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
