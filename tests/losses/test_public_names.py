"""What the package exports, without Hydra; former names of targets resolve, and run ids keep digesting them."""

import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

import distill.losses
from distill.config.check import public_name, resolve
from distill.losses import kd, nckd, standardize, tckd, zscore_kd
from distill.runs.target_names import current_name, with_current_names
from distill.tables.cells import Facts

ROOT = Path(__file__).parents[2]
EXPORTS = [
    name for name, item in vars(distill.losses).items() if getattr(item, "__module__", "").startswith("distill.")
]


@pytest.fixture
def logits_pair() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 8, 10, generator=generator).unbind()
    return student, teacher


def test_formulas_are_imported_without_hydra_omegaconf_or_timm() -> None:
    code = (
        "import sys; from distill.losses import dkd, kd, standardize, zscore_kd; "
        "print(sorted({'hydra', 'omegaconf', 'timm', 'torchvision'} & sys.modules.keys()))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert ran.stdout.strip() == "[]"


def test_no_module_has_the_name_of_what_the_package_exports() -> None:
    modules = {module.name for module in pkgutil.iter_modules(distill.losses.__path__)}
    assert all(inspect.ismodule(getattr(distill.losses, name)) for name in modules)
    assert len(EXPORTS) == 106  # a name that is dropped by mistake is not noticed otherwise


def test_zscore_kd_is_kd_of_standardized_logits(logits_pair) -> None:
    student, teacher = logits_pair
    expected = kd(standardize(student), standardize(teacher), temperature=2.0)
    assert zscore_kd(student, teacher, temperature=2.0) == expected


def test_dkd_is_the_weighted_sum_of_its_two_parts(logits_pair) -> None:
    student, teacher = logits_pair
    labels = teacher.argmax(dim=1)
    whole = distill.losses.dkd(student, teacher, labels, temperature=4.0, target_weight=1.5, nontarget_weight=8.0)
    parts = [part(student, teacher, labels, temperature=4.0) for part in (tckd, nckd)]
    assert whole == 1.5 * parts[0] + 8.0 * parts[1]


# what commit ba96155 digested for the names that its configurations could hold
DIGESTED = {
    "distill.objectives.SoftTargets": "distill.objectives.SoftTargets",
    "distill.objectives.soft_targets.SoftTargets": "distill.objectives.SoftTargets",
    "distill.objectives.temperatures.GlobalTemperature": "distill.objectives.GlobalTemperature",
    "distill.losses.logit.kd": "distill.losses.logit.kd",
    "distill.losses.logit.identity": "distill.losses.transform.identity",
    "distill.losses.logit.standardize": "distill.losses.transform.standardize",
    "distill.losses.transform.standardize": "distill.losses.transform.standardize",
    "distill.losses.multi_level.lower_half": "distill.losses.multi_level.lower_half",
    "distill.losses.matching.ttm": "distill.losses.matching.ttm",
    "distill.losses.factor.factor_transfer": "distill.losses.factor.factor_transfer",
    "distill.losses.class_attention.unit_map": "distill.losses.class_attention.unit_map",
    "distill.losses.norm.unit": "distill.losses.norm.unit",
    "distill.training.Recipe": "distill.training.Recipe",
    "distill.models.resnet8": "distill.models.resnet8",
    "distill.data.StrongView": "distill.data.StrongView",
    "torch.optim.SGD": "torch.optim.SGD",
}


@pytest.mark.parametrize("former", DIGESTED)
def test_a_former_name_resolves_and_its_digested_name_stays(former: str) -> None:
    today = current_name(former)
    assert resolve(former) is resolve(today)
    assert public_name(former) == public_name(today) == DIGESTED[former]


def test_every_export_has_one_name_today_and_unknown_names_stay() -> None:
    for name in EXPORTS:
        assert current_name(f"distill.losses.{name}") == f"distill.losses.{name}"
        assert resolve(f"distill.losses.{name}") is getattr(distill.losses, name)
    for foreign in ("my.own.kd", "distill.losses.os.system", "distill.objectives.nothing", "distill.training.kd"):
        assert current_name(foreign) == foreign


@pytest.mark.parametrize("folder", ["configs", "results"])
def test_every_target_that_stands_in_a_configuration_resolves(folder: str) -> None:
    def targets(node):
        if isinstance(node, dict):
            yield from ([node["_target_"]] if isinstance(node.get("_target_"), str) else [])
            for value in node.values():
                yield from targets(value)
        elif isinstance(node, list):
            for value in node:
                yield from targets(value)

    found = {t for path in (ROOT / folder).rglob("*.yaml") for t in targets(yaml.safe_load(path.read_text()))}
    assert found
    for target in found - {"???"}:
        assert callable(resolve(target)), target
    if folder == "configs":
        assert {current_name(target) for target in found} == found


def test_nested_nodes_are_renamed_everywhere_in_new_mappings() -> None:
    node = {"_target_": "distill.objectives.Mixture", "parts": [{"of": {"_target_": "distill.losses.logit.kd"}}]}
    renamed = with_current_names(node)
    assert renamed == {"_target_": "distill.losses.Mixture", "parts": [{"of": {"_target_": "distill.losses.kd"}}]}
    assert node["_target_"] == "distill.objectives.Mixture"


def test_a_preset_and_a_run_are_equal_whichever_names_they_hold() -> None:
    def of(prefix: str, formula: str) -> Facts:
        loss = {"_target_": f"{prefix}.SoftTargets", "divergence": {"_target_": formula, "_partial_": True}}
        return Facts.of({"dataset": {"_target_": "distill.data.digits"}, "loss": loss, "teacher": {"loss": dict(loss)}})

    former, today = of("distill.objectives", "distill.losses.logit.kd"), of("distill.losses", "distill.losses.kd")
    assert former.loss == today.loss
    assert former.teacher_training == today.teacher_training
    assert former.method == today.method
