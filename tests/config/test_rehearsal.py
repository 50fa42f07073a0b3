"""Methods and data sets that break their contract, or teach nothing, are refused before any work."""

import re
from pathlib import Path

import pytest

from distill.config import rehearsal

MODULE = """
import torch
from torch.nn import functional as F

from distill.losses import Objective


def good(student_logits, teacher_logits, *, temperature):
    wrong = student_logits.argmax(1) != teacher_logits.argmax(1)  # values decide on a shape
    return F.mse_loss(student_logits[wrong] / temperature, teacher_logits[wrong] / temperature)


def vector(student_logits, teacher_logits, *, temperature):
    return (student_logits - teacher_logits).square().mean(1)


def number(student_logits, teacher_logits, *, temperature):
    return 1.0


def by_name(student_logits, teacher_logits, *, temperature):
    return {"kd": F.mse_loss(student_logits, teacher_logits)}


def without_temperature(student_logits, teacher_logits):
    return F.mse_loss(student_logits, teacher_logits)


def of_three(student_logits, teacher_logits, labels, *, temperature):
    return F.mse_loss(student_logits, teacher_logits)


def fails(student_logits, teacher_logits, *, temperature):
    return student_logits @ teacher_logits


def without_the_teacher(student_logits, teacher_logits, *, temperature):
    return student_logits.square().mean() + 0 * teacher_logits.mean()


class Bare(Objective):
    reads = ("logits",)

    def forward(self, student, teacher, batch, progress):
        return F.mse_loss(student.logits, teacher.logits)


class Listed(Bare):
    reads = None

    def forward(self, student, teacher, batch, progress):
        return [student.logits.mean()]


class Numbers(Bare):
    def forward(self, student, teacher, batch, progress):
        return {"kd": 1.0}


class Empty(Bare):
    def forward(self, student, teacher, batch, progress):
        return {}


def nothing():
    return None


def pair():
    return torch.zeros(2), torch.zeros(2)


def raising():
    raise KeyError("x_train")
"""
SOFT = """
_target_: distill.losses.SoftTargets
divergence: {{_target_: own_losses.{name}, _partial_: true}}
temperature: 4.0
ce_weight: 0.1
kd_weight: 0.9
alpha: null
"""


@pytest.fixture(autouse=True)
def own_losses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of the user's own on the path."""
    (tmp_path / "own_losses.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))


BROKEN = {
    "vector": r"own_losses.vector must return a scalar tensor, the mean over the batch, got a tensor of shape \(16,\)",
    "number": r"own_losses.number must return a scalar tensor, the mean over the batch, got a float",
    "by_name": r"own_losses.by_name must return a scalar tensor, the mean over the batch, got a dict",
    "without_temperature": r"own_losses.without_temperature failed when it got \(a tensor of shape \(16, 10\), "
    r"a tensor of shape \(16, 10\), temperature=\): TypeError: .*unexpected keyword argument 'temperature'",
    "of_three": r"own_losses.of_three failed when it got .*missing 1 required positional argument: 'labels'",
    "fails": r"own_losses.fails failed when it got .*RuntimeError",
    "without_the_teacher": r"loss: with 10 classes the teacher has no influence on the student's gradient",
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_function_that_breaks_its_contract(command, presets_of, name: str) -> None:
    own = presets_of({"loss/broken.yaml": SOFT.format(name=name)})
    (sentence,) = command.refused(*command.tiny, "loss=broken", config_dir=own)
    assert re.search(BROKEN[name], sentence), sentence


def test_one_that_keeps_it_may_choose_rows_by_their_values(command, presets_of) -> None:
    own = presets_of({"loss/good.yaml": SOFT.format(name="good")})
    plan = command.plan(*command.tiny, "loss=good", config_dir=own)
    assert not [note for note in plan.notes if "gradient" in note]


OBJECTIVES = {
    "Bare": "Bare.forward must return its terms by name, {'kd': tensor}, got a tensor of shape ()",
    "Listed": "Listed.forward must return its terms by name, {'kd': tensor}, got a list",
    "Numbers": "the term kd of Numbers must be a scalar tensor, got a float",
    "Empty": "Empty.forward must return its terms by name, {'kd': tensor}, got none",
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_that_breaks_its_contract(command, presets_of, name: str) -> None:
    own = presets_of({"loss/broken.yaml": f"_target_: own_losses.{name}\n"})
    (sentence,) = command.refused(*command.tiny, "loss=broken", config_dir=own)
    assert OBJECTIVES[name] in sentence
    assert "docs/extending.md" in sentence


@pytest.mark.parametrize(("name", "got"), [("nothing", "None"), ("pair", "a tuple")])
def test_a_data_set_that_is_none(command, presets_of, name: str, got: str) -> None:
    own = presets_of({"dataset/broken.yaml": f"_target_: own_losses.{name}\n"})
    sentences = command.refused("dataset=broken", "recipe=demo", "student=resnet8", "teacher=resnet8", config_dir=own)
    assert [s for s in sentences if f"own_losses.{name} must return a data set, got {got}: return distill" in s]


def test_a_data_set_function_that_raises_is_named(command, presets_of) -> None:
    own = presets_of({"dataset/broken.yaml": "_target_: own_losses.raising\n"})
    sentences = command.refused("dataset=broken", "recipe=demo", "student=resnet8", "teacher=resnet8", config_dir=own)
    assert "own_losses.raising failed: KeyError: 'x_train'" in sentences


NO_INFLUENCE = "loss: with 2 classes the teacher has no influence on the student's gradient"
FLAT = {"dist": ["inter"], "dkd": ["nckd"], "nkd": ["nontarget"], "kd": [], "ttm": [], "logit_mse": [], "ce": []}


@pytest.mark.parametrize("loss", ["zscore_kd", "zscore_dist", "zscore_dkd", "zscore_ctkd"])
def test_a_loss_that_teaches_nothing_with_two_classes_is_refused(command, loss: str) -> None:
    (sentence,) = command.refused(*command.tiny, "dataset.classes=2", f"loss={loss}")
    assert sentence.startswith(NO_INFLUENCE)
    command.plan(*command.tiny, "dataset.classes=3", f"loss={loss}")


@pytest.mark.parametrize("loss", FLAT)
def test_a_term_that_teaches_nothing_with_two_classes_is_named(command, loss: str) -> None:
    plan = command.plan(*command.tiny, "dataset.classes=2", f"loss={loss}")
    expected = [f"loss: with 2 classes the term {term} has no gradient, so it teaches nothing" for term in FLAT[loss]]
    assert [note for note in plan.notes if "gradient" in note] == expected


def test_jobs_that_differ_in_their_seed_alone_are_tried_once(command, monkeypatch: pytest.MonkeyPatch) -> None:
    tried, rehearse = [], rehearsal.rehearse_logits
    monkeypatch.setattr(rehearsal, "rehearse_logits", lambda *a, **k: tried.append(a) or rehearse(*a, **k))
    command.plans(*command.tiny, "loss=kd", "loss.temperature=3.21,3.22", "seed=1,2,3", multirun=True)
    assert len(tried) == 2
