"""A run's identity: the parts of its configuration that can change its numbers. The run id is its digest."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distill import losses
from distill.config.check import RESERVED, public_name, resolve, signature
from distill.config.own_code import OWN_CODE, own_code
from distill.runs.identity import NUMERICS_VERSION
from distill.runs.layout import FIRST_STAGE, folder_of, run_path
from distill.runs.target_names import current_name

# arguments that name the method, where one objective class serves several
NAMING = ("divergence", "distance")
FORMULAS = {"soft_cross_entropy": "soft_ce"}  # those whose presets have another name


def canonical_network(node: Mapping[str, Any]) -> dict[str, Any]:
    """The `canonical_node` of a network, without its number of classes, which follows from the data set."""
    return canonical_node({key: value for key, value in node.items() if key != "num_classes"})


def canonical_node(node: Mapping[str, Any]) -> dict[str, Any]:
    """A `_target_` node under its public name, without the arguments that equal the target's own defaults.

    An argument set to its default, one left out, and one that did not exist yet therefore give one id. A target of the
    user's own has the digest of its code beside it, a method of this package its version where that is above 1. Raises
    Unreadable where own code has no source.
    """
    target = resolve(str(node["_target_"]))
    defaults = signature(target).defaults
    arguments = {
        key: _canonical(value)
        for key, value in node.items()
        if key not in RESERVED and not (key in defaults and _same(value, defaults[key]))
    }
    return {"target": public_name(str(node["_target_"])), **arguments, **code_of(node)}


def code_of(node: Mapping[str, Any]) -> dict[str, Any]:
    """The digest of a target of the user's own, or the version of one of this package where that is above 1."""
    code = own_code(str(node["_target_"]))
    if code is not None:
        return {OWN_CODE: code.digest}
    target = resolve(str(node["_target_"]))
    ours = str(getattr(target, "__module__", "")).startswith("distill.")
    version = 1
    if ours:  # a method, or a function
        version = target.version_of(node) if hasattr(target, "version_of") else getattr(target, "version", 1)
    return {"version": version} if version > 1 else {}


def without_code(identity: Any) -> Any:
    """An identity without the digests of own code: equal for runs that differ in nothing else."""
    if isinstance(identity, Mapping):
        return {key: without_code(value) for key, value in identity.items() if key != OWN_CODE}
    return [without_code(value) for value in identity] if isinstance(identity, list | tuple) else identity


def _canonical(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_listed(part) for part in value]
    if not isinstance(value, Mapping):
        return value
    return canonical_node(value) if "_target_" in value else {key: _canonical(part) for key, part in value.items()}


def _listed(value: Any) -> Any:
    """A member of a list, unchanged but for added digests of own code: early run ids held it in this form."""
    if isinstance(value, list | tuple):
        return [_listed(part) for part in value]
    if not isinstance(value, Mapping):
        return value
    return {key: _listed(part) for key, part in value.items()} | (code_of(value) if "_target_" in value else {})


def run_identity(
    *,
    data: Mapping[str, Any],
    student: Mapping[str, Any],
    teacher: Mapping[str, Any] | None,
    loss: Mapping[str, Any],
    recipe: Mapping[str, Any],
    seed: int,
    precision: str,
    start: str | None = None,
    first_stage: str | None = None,
    processes: int = 1,
) -> dict[str, Any]:
    """The identity of a run.

    Args:
        data: the data set's own part.
        student: its node; `loss` and `recipe` likewise.
        teacher: `{"run": id}` or `{"weights": sha256}`; None without one.
        loss: without its first stage.
        recipe: with `batch_norm: local`, the number of processes counts too: each normalises its own part of a batch.
        seed: the run's own.
        precision: resolved.
        start: digest of the weights that the student starts from.
        first_stage: id of the run of the method's first stage.
        processes: how many train the run.
    """
    local = recipe.get("batch_norm", "global") == "local"
    return {
        "numerics": NUMERICS_VERSION,
        "data": dict(data),
        "student": canonical_network(student) | ({} if start is None else {"weights": start}),
        "teacher": None if teacher is None else dict(teacher),
        "objective": canonical_node(loss) | ({} if first_stage is None else {FIRST_STAGE: {"run": first_stage}}),
        "recipe": canonical_node(recipe) | ({"processes": processes} if local else {}),
        "seed": seed,
        "precision": precision,
    }


def short_names(identity: Mapping[str, Any]) -> tuple[str, str]:
    """Student and method in the name of the run's folder: `("resnet8", "zscore_kd")`."""
    objective = identity["objective"]
    named = next((objective[key] for key in NAMING if isinstance(objective.get(key), Mapping)), objective)
    method = _family(str(objective["target"])) or _formula(str(named["target"]))
    transform = objective.get("transform")
    if isinstance(transform, Mapping) and str(transform.get("target")).endswith(".standardize"):
        method = f"zscore_{method}"
    student = str(identity["student"]["target"]).rsplit(".", 1)[-1]
    detail = identity["student"].get("name")  # timm and torchvision networks
    return f"{student}.{detail}" if detail else student, method


def run_folder(identity: Mapping[str, Any], runs_dir: Path, *, run_id: str) -> Path:
    """Where a run lies: a folder that ends in its id, whatever stands before it; without one, where it is to lie."""
    student, method = short_names(identity)
    path = run_path(runs_dir, student=student, objective=method, seed=int(identity["seed"]), run_id=run_id)
    return path if path.is_dir() else folder_of(runs_dir, run_id) or path


def _family(target: str) -> str:
    """The family of an objective of distill's, empty where it states none; nothing is imported."""
    module, _, name = current_name(target).rpartition(".")
    return str(getattr(getattr(losses, name, None), "family", "")) if module == "distill.losses" else ""


def _formula(target: str) -> str:
    name = target.rpartition(".")[2]
    return FORMULAS.get(name) or re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def _same(value: Any, default: Any) -> bool:
    if isinstance(default, tuple):
        default = list(default)
    if isinstance(value, tuple):
        value = list(value)
    return type(value) is type(default) and bool(value == default)
