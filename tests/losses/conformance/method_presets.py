"""Every loss preset, composed as a run composes it, and the reference that belongs to it.

A preset with a first stage is two methods: `NAME` and `NAME/first_stage`. The reference of a method is
tests/losses/references/METHOD.py, a slash becoming an underscore (`ablation/mean_only`: ablation_mean_only.py;
`fsp/first_stage`: fsp_first_stage.py). It holds

    reference(case) -> {term: value}  the terms in float64, from the formula. `case` is a `method_trials.Case`; torch's
                                      generator stands where it stood before the objective's forward
    law(single, doubled)              of a relational method: asserts its law, given the terms of a batch and those of
                                      the batch written twice
    ADVERSARIAL = "reason"            optional: the method's own parameters work against the loss
    OVERRIDES = ("loss.key=value",)   optional: what makes it small enough for tests, or fills what has no default
"""

import importlib
import os
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from distill.config import configs_dir
from distill.config.build import build_objective
from distill.config.check import check_target, check_typed, reduce_alpha
from distill.config.compose.presets import Presets
from distill.config.plan import split_stages
from distill.config.schema import FirstStage
from distill.losses import Objective
from distill.runs.layout import FIRST_STAGE

OWN = os.environ.get("DISTILL_TEST_PRESETS")
FOLDERS = [configs_dir(), *([Path(OWN)] if OWN else [])]
REFERENCES = [Path(__file__).parents[1] / "references", *([Path(OWN) / "references"] if OWN else [])]
PRESETS = Presets(Path(OWN) if OWN else None)
FILES = {
    path.relative_to(folder / "loss").with_suffix("").as_posix(): path
    for folder in FOLDERS
    for path in (folder / "loss").rglob("*.yaml")
}
TWO_STAGES = [name for name, path in FILES.items() if f"\n{FIRST_STAGE}:" in path.read_text(encoding="utf-8")]
METHODS = sorted([*FILES, *(f"{name}/{FIRST_STAGE}" for name in TWO_STAGES)])


@cache
def composed(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The checked node of `loss=NAME` and its first stage, if any.

    The first experiment that fills what the preset reads of `pair` is chosen with it.
    """
    overrides = [f"loss={name}", *getattr(reference_module(name), "OVERRIDES", ())]
    told: list[str] = []
    for experiment in ([], *([f"experiment={option}"] for option in PRESETS.groups["experiment"])):
        job = PRESETS.compose([*experiment, *overrides])
        faults = list(job.faults)
        if not faults:
            loss, stage = split_stages(reduce_alpha(job.config["loss"], (), faults, option=name))
            checked = check_target(loss, "loss", faults)
            first = check_typed(stage, FirstStage, FIRST_STAGE, faults) if stage else {}
        if not faults:
            return checked, first
        told += [fault.text for fault in faults if fault.text not in told]
    raise AssertionError(f"loss={name} cannot be composed:\n" + "\n".join(told))


def first_stage(method: str) -> dict[str, Any]:
    """The first stage that a method starts from: its `loss`, `epochs` and `network`; empty where there is none."""
    return {} if method.endswith(f"/{FIRST_STAGE}") else composed(method)[1]


def build(method: str, *, seed: int = 1) -> Objective:
    """The objective of a preset, or of its first stage."""
    name = method.removesuffix(f"/{FIRST_STAGE}")
    return build_objective(composed(name)[0] if name == method else composed(name)[1]["loss"], seed=seed)


@cache
def reference_module(method: str) -> ModuleType | None:
    """The module of a method's reference, None where nobody has written one."""
    stem = method.replace("/", "_")
    folder = next((folder for folder in REFERENCES if (folder / f"{stem}.py").is_file()), None)
    if folder is None:
        return None
    path, modules = list(sys.path), set(sys.modules)
    sys.path[:0] = map(str, REFERENCES)
    try:
        return importlib.import_module(stem)
    finally:
        sys.path[:] = path
        for added in set(sys.modules) - modules:  # `kd` and `at` are nobody else's modules
            if Path(getattr(sys.modules[added], "__file__", None) or "").parent in REFERENCES:
                del sys.modules[added]
