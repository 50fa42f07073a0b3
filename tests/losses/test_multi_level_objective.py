"""MLKD: which view meets which temperature, what is selected, what the public code does differently."""

import re
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional

from distill.data import StrongView
from distill.losses import (
    MultiLevelKD,
    batch_correlation,
    class_correlation,
    everything,
    kd,
    share_of_lower_half,
    standardize,
    zscore_kd,
)

LABELS = torch.tensor([1, 0, 6, 4])
BATCH = SimpleNamespace(labels=LABELS)
PROGRESS = torch.tensor(0.0)
VIEW = StrongView()


def output(seed, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    weak, strong = ((scale * torch.randn(4, 7, generator=generator)).requires_grad_() for _ in range(2))
    return SimpleNamespace(logits=weak, strong=SimpleNamespace(logits=strong))


@pytest.fixture
def student():
    return output(1)


@pytest.fixture
def teacher():
    return output(2, 3.0)


mlkd = partial(
    MultiLevelKD,
    strong=VIEW,
    base_temperature=4.0,
    temperatures=(3.0, 6.0),
    strong_temperatures=(5.0,),
    unselected_temperatures=(2.0,),
    ce_weight=0.1,
    kd_weight=0.9,
    selection=everything,
)


def test_terms(student, teacher):
    weak_s, weak_t = student.logits, teacher.logits
    strong_s, strong_t = student.strong.logits, teacher.strong.logits
    instance = sum(kd(weak_s, weak_t, temperature=t) for t in (4, 3, 6, 2))
    instance = instance + sum(kd(strong_s, strong_t, temperature=t) for t in (4, 5))
    samples, classes = torch.ones(4), torch.ones(7)
    over_batch = sum(batch_correlation(weak_s, weak_t, temperature=t, weights=samples) for t in (4, 3, 6))
    over_classes = sum(class_correlation(weak_s, weak_t, temperature=t, weights=classes) for t in (4, 3, 6))
    ce = functional.cross_entropy(weak_s, LABELS) + functional.cross_entropy(strong_s, LABELS)
    expected = {"ce": 0.1 * ce, "instance": 0.9 * instance, "batch": 0.9 * over_batch, "class": 0.9 * over_classes}
    found = mlkd()(student, teacher, BATCH, PROGRESS)
    assert list(found) == list(expected)
    torch.testing.assert_close(found, expected)


def test_the_teachers_confidence_in_the_weak_view_selects(student, teacher):
    """The sure half may say what it likes in the weak view's terms; the strong view's are for all."""
    sure = teacher.logits.softmax(-1).amax(-1).argsort(descending=True)[:2]
    unsure = [i for i in range(4) if i not in sure.tolist()]
    given = {key: value for key, value in mlkd.keywords.items() if key != "selection"}  # lower_half is the default
    chosen = MultiLevelKD(**given | {"unselected_temperatures": (), "ce_weight": 0})
    terms = chosen(student, teacher, BATCH, PROGRESS)
    terms["instance"].backward()
    assert student.logits.grad[sure].abs().max() == 0
    assert student.logits.grad[unsure].abs().amax(-1).min() > 0
    assert student.strong.logits.grad.abs().amax(-1).min() > 0


def test_selections_see_the_confidence_of_samples_and_the_mass_of_classes(student, teacher):
    seen = []

    def spy(values):
        seen.append(values)
        return everything(values)

    mlkd(selection=spy)(student, teacher, BATCH, PROGRESS)
    p = teacher.logits.detach().softmax(-1)
    torch.testing.assert_close(seen, [p.amax(-1), p.sum(0)])


def test_the_public_codes_mask_halves_and_selects_nothing(student, teacher):
    plain = mlkd(unselected_temperatures=())(student, teacher, BATCH, PROGRESS)
    public = mlkd(selection=share_of_lower_half, unselected_temperatures=())(student, teacher, BATCH, PROGRESS)
    torch.testing.assert_close(public["batch"], plain["batch"] * 2 / 4)  # 2 of 4 samples
    torch.testing.assert_close(public["class"], plain["class"] * 4 / 7)  # 4 of 7 classes
    strong = 0.9 * sum(kd(student.strong.logits, teacher.strong.logits, temperature=t) for t in (4, 5))
    torch.testing.assert_close(public["instance"] - strong, (plain["instance"] - strong) * 2 / 4)
    assert public["ce"] == plain["ce"]


def test_the_zscore_is_the_instance_levels_alone(student, teacher):
    plain = mlkd()(student, teacher, BATCH, PROGRESS)
    standardised = mlkd(transform=standardize)(student, teacher, BATCH, PROGRESS)
    for term in ("ce", "batch", "class"):
        assert standardised[term] == plain[term]
    weak = sum(zscore_kd(student.logits, teacher.logits, temperature=t) for t in (4, 3, 6, 2))
    strong = sum(zscore_kd(student.strong.logits, teacher.strong.logits, temperature=t) for t in (4, 5))
    torch.testing.assert_close(standardised["instance"], 0.9 * (weak + strong))


def test_a_gradient_for_both_views_of_the_student_and_none_for_the_teachers(student, teacher):
    sum(mlkd()(student, teacher, BATCH, PROGRESS).values()).backward()
    assert student.logits.grad.norm() > 0
    assert student.strong.logits.grad.norm() > 0
    assert teacher.logits.grad is None
    assert teacher.strong.logits.grad is None


def test_what_it_says_of_itself(student, teacher):
    objective = mlkd()
    assert (objective.two_views, objective.logits_only, objective.needs_teacher) == (True, True, True)
    assert objective.strong_view is VIEW
    assert "four times the class term" in objective.relational
    labels_only = mlkd(kd_weight=0)
    assert not labels_only.needs_teacher
    assert list(labels_only(student, None, BATCH, PROGRESS)) == ["ce"]
    assert list(mlkd(ce_weight=0)(student, teacher, BATCH, PROGRESS)) == ["instance", "batch", "class"]


def test_without_a_strong_view_of_either(student, teacher):
    blind = SimpleNamespace(logits=student.logits, strong=None)
    for sides in ((blind, teacher), (student, blind), (student, None)):
        with pytest.raises(ValueError, match=r"must be an output, got None: "):
            mlkd()(*sides, BATCH, PROGRESS)


SENTENCES = [
    ({"base_temperature": 0}, "base_temperature must be > 0 and finite, got 0: set loss.base_temperature"),
    ({"temperatures": (3.0, -5.0)}, "temperatures must be > 0 and finite, got -5.0: set loss.temperatures"),
    ({"strong_temperatures": (float("inf"),)}, "strong_temperatures must be > 0 and finite, got inf: "),
    ({"unselected_temperatures": (float("nan"),)}, "unselected_temperatures must be > 0 and finite, got nan: "),
    ({"kd_weight": -1}, "kd_weight must be >= 0, got -1: set loss.kd_weight"),
    ({"strong": None}, "strong must be a strong view, got None: set loss.strong._target_=distill.data.StrongView"),
]


@pytest.mark.parametrize(("changed", "sentence"), SENTENCES)
def test_refusals_name_value_rule_and_fix(changed, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}"):
        mlkd(**changed)
