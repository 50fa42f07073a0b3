"""What the files of configs/loss say: their headers, the published numbers, how the arms and ablations relate.

Whether each computes what it should is the conformance suite's to say.
"""

from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from distill.data import Batch
from distill.losses import Task
from distill.losses.networks import outlines
from distill.losses.taps import pair_taps
from distill.models import Output, mobilenet_v2, wrn_40_2

FOLDER = Path(__file__).parents[2] / "configs" / "loss"
NAMES = sorted(path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.rglob("*.yaml"))
PAIR = {"ce_weight": 0.6, "zscore_temperature": 3.0, "zscore_weight": 12.0}

WEIGHTS = {  # temperature, ce_weight, kd_weight as published, or as chosen in the preset's header
    "kd": (4, 0.1, 0.9),
    "zscore_kd": (2, 0.1, 9),
    "zscore_kd_paper": (3, 0.1, 12),
    "kd_soft_only": (4, 0, 1),
    "soft_ce": (4, 0.1, 0.9),
    "logit_mse": (None, 0.1, 0.0045),
    "kd_w09_t2": (2, 0.1, 0.9),
    "kd_w9_t2": (2, 0.1, 9),
    "zscore_kd_w09": (2, 0.1, 0.9),
    "imagenet/kd": (1, 0.5, 0.5),
    "imagenet/kd_paper": (1, 0.6, 0.5),
    "imagenet/kd_w9_t2": (2, 0.6, 9),
    "imagenet/zscore_kd": (2, 0.6, 9),
    "ablation/deviation_only": (2, 0.1, 9),
    "ablation/mean_only": (2, 0.1, 9),
    "ablation/population_deviation": (2, 0.1, 9),
    "ablation/student_only": (2, 0.1, 9),
    "ablation/teacher_only": (2, 0.1, 9),
}


def text(name):
    return (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")


def node(name):
    """The preset as a run holds it: inside a root config with the pair's values, resolved."""
    root = OmegaConf.create({"loss": OmegaConf.create(text(name)), "pair": PAIR})
    return OmegaConf.to_container(root, resolve=True)["loss"]


def build(name):
    arguments = node(name)
    arguments.pop("alpha", None)  # composition reduces alpha to the weights; no constructor knows it
    return instantiate(arguments, _convert_="all")


@pytest.fixture
def outputs():
    generator = torch.Generator().manual_seed(9)
    student, teacher = torch.randn(2, 16, 100, generator=generator)
    positions = torch.arange(16)
    batch = Batch(
        images=torch.zeros(16, 3, 4, 4),
        labels=torch.randint(100, (16,), generator=generator),
        index=positions,
        view=torch.full_like(positions, -1),
    )
    return Output(logits=student.requires_grad_()), Output(logits=3 * teacher + 1), batch, torch.tensor(0.0)


@pytest.mark.parametrize("name", NAMES)
def test_header_says_what_source_and_command(name):
    header = [line for line in text(name).splitlines() if line.startswith("#")]
    assert text(name).startswith("# ")
    assert any(line.startswith("# Source: ") for line in header)
    assert any(line.startswith("# Run: distill train ") and f" loss={name} " in f"{line} " for line in header)


@pytest.mark.parametrize("name", WEIGHTS)
def test_numbers_of_a_preset(name):
    loss = node(name)
    assert (loss.get("temperature"), loss["ce_weight"], loss["kd_weight"]) == WEIGHTS[name]
    assert loss["alpha"] is None
    objective = build(name)
    assert (objective.ce_weight, objective.kd_weight) == WEIGHTS[name][1:]
    assert getattr(objective, "temperature", None) == WEIGHTS[name][0]


def test_ce_has_no_alpha():
    assert node("ce") == {"_target_": "distill.losses.CrossEntropy", "ce_weight": 1.0}


def test_two_weights_go_with_an_alpha():
    for name in NAMES:
        loss = OmegaConf.to_container(OmegaConf.create(text(name)), resolve=False)
        assert ("alpha" in loss) == ({"ce_weight", "kd_weight"} <= set(loss)), name


def kd_term(name, outputs):
    return build(name)(*outputs)["kd"].item()


def test_mean_only_is_a_replicate_of_kd_w9_t2_by_another_computation(outputs):
    replicate, plain = build("ablation/mean_only"), build("kd_w9_t2")
    assert replicate.divergence.func is not plain.divergence.func
    assert replicate(*outputs)["kd"].item() == pytest.approx(plain(*outputs)["kd"].item(), rel=1e-5)
    assert "a replicate of loss=kd_w9_t2" in text("ablation/mean_only").replace("\n# ", " ")


def test_ablations_differ_from_each_other_and_population_deviation_from_zscore_kd(outputs):
    terms = {name: kd_term(name, outputs) for name in NAMES if name.startswith("ablation/")}
    assert len({round(term, 3) for term in terms.values()}) == len(terms)
    assert terms["ablation/population_deviation"] != pytest.approx(kd_term("zscore_kd", outputs), rel=1e-3)


def test_deviation_only_is_zscore_kd_up_to_rounding(outputs):
    """A softmax does not see the mean, so what acts in the z-score is the standard deviation."""
    assert kd_term("ablation/deviation_only", outputs) == pytest.approx(kd_term("zscore_kd", outputs), rel=1e-4)


def test_soft_ce_has_the_gradient_of_kd(outputs):
    logits = outputs[0].logits
    grads = [torch.autograd.grad(build(name)(*outputs)["kd"], logits)[0] for name in ("kd", "soft_ce")]
    torch.testing.assert_close(*grads)
    assert kd_term("soft_ce", outputs) > kd_term("kd", outputs) + 1


def test_control_arms_differ_in_one_thing_each(outputs):
    assert {**node("imagenet/zscore_kd"), "divergence": node("kd")["divergence"]} == node("imagenet/kd_w9_t2")
    assert kd_term("kd_w9_t2", outputs) == pytest.approx(10 * kd_term("kd_w09_t2", outputs))
    assert kd_term("zscore_kd", outputs) == pytest.approx(10 * kd_term("zscore_kd_w09", outputs))
    assert kd_term("zscore_kd", outputs) != pytest.approx(kd_term("kd_w9_t2", outputs), rel=0.1)


def test_defaults_are_those_of_the_published_numbers():
    """RepDistiller's first stages and the map of SimKD's code; wrn_40_2 to mobilenet_v2 has three pairs of maps."""
    assert node("fsp")["first_stage"]["loss"]["feature_weight"] == 1
    assert node("ft")["first_stage"]["learning_rate"] == 0.01
    assert node("simkd")["student_map"] == "last_tap"
    ours, theirs = outlines(mobilenet_v2(num_classes=4), wrn_40_2(num_classes=4), Task(32, torch.arange(4)))
    for name in ("ab", "at", "nst", "ofd", "review_kd", "vid"):
        loss = node(name).get("first_stage", node(name))
        pairing = loss.get("loss", loss)["pairing"]
        assert len(pair_taps(ours.features, theirs.features, pairing=pairing)) == 3, name
