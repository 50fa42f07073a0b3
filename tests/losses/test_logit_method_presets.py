"""The logit methods' presets have the published numbers, and variants differ in nothing but what they say."""

from pathlib import Path

import pytest
import yaml

FOLDER = Path(__file__).parents[2] / "configs" / "loss"
ZSCORE = {"_target_": "distill.losses.standardize", "_partial_": True}

NUMBERS = {
    "dkd": {"temperature": 4, "ce_weight": 1, "target_weight": 1, "nontarget_weight": 8, "ramp_epochs": 20},
    "zscore_dkd": {"temperature": 2, "ce_weight": 1, "target_weight": 9, "nontarget_weight": 72, "ramp_epochs": 20},
    "mlkd": {"base_temperature": 4, "ce_weight": 0.1, "kd_weight": 0.9},
    "mlkd_public": {"base_temperature": 4, "ce_weight": 0.1, "kd_weight": 0.9},
    "zscore_mlkd": {"base_temperature": 2, "ce_weight": 0.1, "kd_weight": 9},
    "ctkd": {"ce_weight": 0.1, "kd_weight": 0.9, "ramp_epochs": 10},
    "ctkd_instance": {"ce_weight": 0.1, "kd_weight": 0.9, "ramp_epochs": 10},
    "zscore_ctkd": {"ce_weight": 0.1, "kd_weight": 9, "ramp_epochs": 10},
    "nkd": {"temperature": 3, "ce_weight": 1, "target_weight": 1, "nontarget_weight": 3.5},
    "ttm": {"temperature": 10, "ce_weight": 1, "kd_weight": 100},
    "wttm": {"temperature": 10, "ce_weight": 1, "kd_weight": 3},
    "wsld": {"temperature": 4, "ce_weight": 1, "kd_weight": 2.25},
    "label_smoothing": {"smoothing": 0.1, "ce_weight": 1},
    "tf_kd": {"temperature": 20, "correct_probability": 0.99, "ce_weight": 0.9, "kd_weight": 0.1},
}


def preset(name):
    return yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", NUMBERS)
def test_published_numbers(name):
    loss = preset(name)
    assert {key: loss[key] for key in NUMBERS[name]} == NUMBERS[name]


@pytest.mark.parametrize("method", ["dkd", "dist", "ctkd"])
def test_a_zscore_variant_is_the_method_given_standardize(method):
    plain, standardised = preset(method), preset(f"zscore_{method}")
    assert standardised["transform"] == ZSCORE
    assert "transform" not in plain
    assert plain["_target_"] == standardised["_target_"]


def test_mlkd_its_public_code_and_the_zscore_on_top():
    paper, public, zscore = preset("mlkd"), preset("mlkd_public"), preset("zscore_mlkd")
    assert {key for key in paper if paper[key] != public[key]} == {
        "selection",
        "strong_temperatures",
        "unselected_temperatures",
    }
    assert sorted(public["strong_temperatures"] + public["unselected_temperatures"]) == [2, 3, 5, 6]
    assert (public["unselected_temperatures"], paper["unselected_temperatures"]) == ([2, 6], [])
    assert {key for key in zscore if zscore[key] != public.get(key)} == {"transform", "base_temperature", "kd_weight"}
    assert zscore["transform"] == ZSCORE
    assert paper["strong"] == {"_target_": "distill.data.StrongView", "ops": 2, "cutout": 0.5}


@pytest.mark.parametrize(
    ("name", "of_pair"),
    [
        ("dkd", {"target_weight", "nontarget_weight"}),
        ("zscore_dkd", {"temperature", "target_weight", "nontarget_weight"}),
        ("zscore_mlkd", {"base_temperature", "kd_weight"}),
    ],
)
def test_a_paper_preset_is_the_preset_with_the_pairs_numbers(name, of_pair):
    plain, paper = preset(name), preset(f"{name}_paper")
    assert {key for key in paper if paper[key] != plain.get(key)} == of_pair
    assert paper.keys() == plain.keys()
    for key in of_pair:
        assert paper[key].startswith("${pair.")


def test_the_learned_temperatures():
    modules = {name: preset(name)["temperature_module"] for name in ("ctkd", "ctkd_instance", "zscore_ctkd")}
    numbers = {name: (module["start"], module["span"], module["initial"]) for name, module in modules.items()}
    assert numbers == {"ctkd": (1, 20, 1), "ctkd_instance": (1, 20, 1), "zscore_ctkd": (2, 40, 1)}
    assert modules["ctkd_instance"]["_target_"].endswith("InstanceTemperature")


@pytest.mark.parametrize("name", ["zscore_dist", "zscore_ctkd"])
def test_numbers_nobody_published_say_so(name):
    header = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8").replace("\n# ", " ")
    assert "no published value is known" in header or "could not be checked" in header
