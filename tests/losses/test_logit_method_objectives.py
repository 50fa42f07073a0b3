"""DKD, NKD, WSLD, DIST, label smoothing, the virtual teacher: their terms, ramps, needs and refusals.

The stand-ins offer logits and labels and nothing else, so an objective that says `logits_only` is held to it.
"""

import math
import re
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional

from distill.losses import (
    DecoupledKD,
    LabelSmoothing,
    NormalizedKD,
    PearsonKD,
    VirtualTeacher,
    WeightedSoftLabels,
    inter_class,
    intra_class,
    nckd,
    nkd_nontarget,
    nkd_target,
    standardize,
    tckd,
    virtual_teacher_kd,
    weighted_soft_labels,
)

LABELS = torch.tensor([1, 0, 9, 4])
BATCH = SimpleNamespace(labels=LABELS)
DONE = torch.tensor(300.0)


def output(seed, scale=1.0):
    drawn = torch.randn(4, 10, generator=torch.Generator().manual_seed(seed))
    return SimpleNamespace(logits=(scale * drawn).requires_grad_())


@pytest.fixture
def student():
    return output(1)


@pytest.fixture
def teacher():
    return output(2, 3.0)


dkd = partial(DecoupledKD, temperature=4.0, ce_weight=0.5, target_weight=2.0, nontarget_weight=8.0, ramp_epochs=20)
nkd = partial(NormalizedKD, temperature=3.0, ce_weight=0.5, target_weight=2.0, nontarget_weight=3.5)
wsld = partial(WeightedSoftLabels, temperature=4.0, ce_weight=0.5, kd_weight=2.25)
dist = partial(PearsonKD, temperature=4.0, ce_weight=0.5, inter_weight=2.0, intra_weight=3.0)
smoothing = partial(LabelSmoothing, smoothing=0.1)
virtual = partial(VirtualTeacher, temperature=20.0, correct_probability=0.99, ce_weight=0.5, kd_weight=0.25)
TAUGHT = {"dkd": dkd, "nkd": nkd, "wsld": wsld, "dist": dist}
ALL = TAUGHT | {"smoothing": smoothing, "virtual": virtual}


def test_every_term_is_its_loss_times_its_weight(student, teacher):
    s, t = student.logits, teacher.logits
    ce = 0.5 * functional.cross_entropy(s, LABELS)
    numbers = {"temperature": 20.0, "correct_probability": 0.99}
    expected = {
        "dkd": {
            "ce": ce,
            "tckd": 2 * tckd(s, t, LABELS, temperature=4.0),
            "nckd": 8 * nckd(s, t, LABELS, temperature=4.0),
        },
        "nkd": {
            "ce": ce,
            "target": 2 * nkd_target(s, t, LABELS),
            "nontarget": 3.5 * nkd_nontarget(s, t, LABELS, temperature=3.0),
        },
        "wsld": {"ce": ce, "kd": 2.25 * weighted_soft_labels(s, t, LABELS, temperature=4.0)},
        "dist": {
            "ce": ce,
            "inter": 2 * inter_class(s, t, temperature=4.0),
            "intra": 3 * intra_class(s, t, temperature=4.0),
        },
        "smoothing": {"ce": functional.cross_entropy(s, LABELS, label_smoothing=0.1)},
        "virtual": {"ce": ce, "kd": 0.25 * virtual_teacher_kd(s, LABELS, **numbers)},
    }
    for name, terms in expected.items():
        found = ALL[name]()(student, teacher, BATCH, DONE)
        assert list(found) == list(terms), name
        for term, value in terms.items():
            torch.testing.assert_close(found[term], value, msg=f"{name} {term}")


@pytest.mark.parametrize("build", [dkd, dist])
def test_a_transform_acts_on_both_sides_and_not_on_ce(build, student, teacher):
    standardised = build(transform=standardize)(student, teacher, BATCH, DONE)
    sides = (SimpleNamespace(logits=standardize(side.logits)) for side in (student, teacher))
    by_hand = build()(*sides, BATCH, DONE)
    plain = build()(student, teacher, BATCH, DONE)
    for term in plain:
        torch.testing.assert_close(standardised[term], plain[term] if term == "ce" else by_hand[term])
        assert term == "ce" or abs(standardised[term] - plain[term]) > 1e-3


@pytest.mark.parametrize(
    ("progress", "factor"), [(0.0, 1 / 20), (0.99, 1 / 20), (1.0, 2 / 20), (5.5, 6 / 20), (19.0, 1), (239.9, 1)]
)
def test_dkd_is_ramped_epoch_by_epoch_and_ce_is_not(progress, factor, student, teacher):
    full = dkd()(student, teacher, BATCH, DONE)
    found = dkd()(student, teacher, BATCH, torch.tensor(progress))
    assert found["ce"] == full["ce"]
    for term in ("tckd", "nckd"):
        torch.testing.assert_close(found[term], factor * full[term])
    at_once = dkd(ramp_epochs=1)(student, teacher, BATCH, torch.tensor(0.0))
    torch.testing.assert_close(at_once, full)


OMISSIONS = [
    (dkd, {"target_weight": 0}, ["ce", "nckd"]),
    (dkd, {"nontarget_weight": 0, "ce_weight": 0}, ["tckd"]),
    (nkd, {"target_weight": 0}, ["ce", "nontarget"]),
    (nkd, {"nontarget_weight": 0, "ce_weight": 0}, ["target"]),
    (dist, {"intra_weight": 0}, ["ce", "inter"]),
    (dist, {"inter_weight": 0, "ce_weight": 0}, ["intra"]),
    (wsld, {"ce_weight": 0}, ["kd"]),
    (virtual, {"ce_weight": 0}, ["kd"]),
    (virtual, {"kd_weight": 0}, ["ce"]),
]


@pytest.mark.parametrize(("build", "changed", "left"), OMISSIONS)
def test_a_term_of_weight_0_is_left_out(build, changed, left, student, teacher):
    assert list(build(**changed)(student, teacher, BATCH, DONE)) == left


@pytest.mark.parametrize("name", TAUGHT)
def test_who_needs_a_teacher(name, student):
    weights = {key: 0 for key in ALL[name].keywords if key.endswith("_weight") and key != "ce_weight"}
    labels_only = ALL[name](**weights)
    assert not labels_only.needs_teacher
    assert list(labels_only(student, None, BATCH, DONE)) == ["ce"]
    assert ALL[name]().needs_teacher
    with pytest.raises(ValueError, match="choose teacher=NAME"):
        ALL[name]()(student, None, BATCH, DONE)


@pytest.mark.parametrize("build", [smoothing, virtual])
def test_the_controls_read_no_teacher(build, student):
    assert not build().needs_teacher
    terms = build()(student, None, BATCH, DONE)
    sum(terms.values()).backward()
    assert student.logits.grad.abs().sum() > 0


@pytest.mark.parametrize("name", TAUGHT)
def test_no_gradient_reaches_the_teacher(name, student, teacher):
    sum(ALL[name]()(student, teacher, BATCH, DONE).values()).backward()
    assert teacher.logits.grad is None
    assert student.logits.grad.norm() > 0


def test_only_dist_compares_across_the_batch():
    assert [name for name, build in ALL.items() if build().relational] == ["dist"]
    assert all(build().logits_only and not build().two_views for build in ALL.values())


SENTENCES = [
    (partial(dkd, temperature=0), "temperature must be > 0, got 0: set loss.temperature"),
    (partial(dkd, ramp_epochs=0), "ramp_epochs must be >= 1, got 0: set loss.ramp_epochs to 1 for no ramp"),
    (partial(dkd, nontarget_weight=-1), "nontarget_weight must be >= 0, got -1: set loss.nontarget_weight"),
    (partial(dkd, ce_weight=0, target_weight=0, nontarget_weight=0), "ce_weight and target_weight and"),
    (partial(nkd, temperature=math.nan), "temperature must be > 0, got nan: set loss.temperature"),
    (partial(nkd, target_weight=math.inf), "target_weight must be finite, got inf: set loss.target_weight"),
    (partial(wsld, kd_weight=-2), "kd_weight must be >= 0, got -2: set loss.kd_weight"),
    (partial(wsld, temperature=-4), "temperature must be > 0, got -4: set loss.temperature"),
    (partial(dist, intra_weight=-1), "intra_weight must be >= 0, got -1: set loss.intra_weight"),
    (partial(dist, temperature=math.inf), "temperature must be finite, got inf: set loss.temperature"),
    (partial(smoothing, smoothing=1.0), "smoothing must be >= 0 and < 1, got 1.0: set loss.smoothing"),
    (partial(smoothing, smoothing=-0.1), "smoothing must be >= 0 and < 1, got -0.1: set loss.smoothing"),
    (partial(smoothing, ce_weight=0), "ce_weight must not be 0: set loss.ce_weight to a positive number"),
    (partial(virtual, correct_probability=0), "correct_probability must be > 0 and <= 1, got 0: set loss.correct_p"),
    (partial(virtual, correct_probability=1.1), "correct_probability must be > 0 and <= 1, got 1.1: set loss"),
    (partial(virtual, temperature=0), "temperature must be > 0, got 0: set loss.temperature"),
]


@pytest.mark.parametrize(("build", "sentence"), SENTENCES)
def test_refusals_name_value_rule_and_fix(build, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}") as refusal:
        build()
    assert ": set loss." in str(refusal.value)
