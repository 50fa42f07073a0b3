"""A mixture is its parts: their terms by name, what they need, what they learn, and what cannot be mixed."""

import re

import pytest
import torch
from torch import nn

from distill.config.build import build_objective
from distill.config.check import check_target, reduce_alpha
from distill.config.compose.presets import Presets
from distill.data import Batch, StrongView
from distill.losses import (
    AttentionTransfer,
    ClassAttention,
    ClassifierReuse,
    ContrastiveRepresentation,
    CrossEntropy,
    FeatureOverhaul,
    Mixture,
    Objective,
    ReusedClassifier,
    SimilarityPreserving,
    SoftTargets,
    Task,
    kd,
)
from distill.models import resnet8, resnet8x4

PROGRESS = torch.tensor(0.0)
LABELS = torch.arange(12) % 5
TASK = Task(16, LABELS)
INDEX = torch.tensor([3, 8, 0, 11])


def soft_targets(**options):
    return SoftTargets(**{"divergence": kd, "temperature": 4.0, "ce_weight": 0.1, "kd_weight": 0.9} | options)


def attention(**options):
    return AttentionTransfer(**{"ce_weight": 1.0, "feature_weight": 1000.0} | options)


@pytest.fixture
def pair():
    torch.manual_seed(1)
    return resnet8(num_classes=5), resnet8x4(num_classes=5).eval()


def batch():
    images = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    return Batch(images, LABELS[INDEX], INDEX, torch.zeros_like(INDEX))


def seen(*networks):
    return [network(batch().images, taps=True) for network in networks]


def test_the_terms_of_all_parts_times_their_factors(pair):
    parts = {"kd": soft_targets(), "at": attention()}
    mixture = Mixture(parts=parts, weights={"at": 0.5})
    assert mixture.attach(*pair, TASK) is None
    outputs = seen(*pair)
    terms = mixture(*outputs, batch(), PROGRESS)
    assert list(terms) == ["kd/ce", "kd/kd", "at/ce", "at/feature"]
    for name, factor in {"kd": 1, "at": 0.5}.items():
        for term, value in parts[name](*outputs, batch(), PROGRESS).items():
            torch.testing.assert_close(terms[f"{name}/{term}"], factor * value)


def test_the_order_of_the_parts_is_kept():
    given = {"b": CrossEntropy(), "a": CrossEntropy(ce_weight=2.0)}
    assert list(Mixture(parts=given).parts) == ["b", "a"]
    assert list(Mixture(parts=given, weights={"a": 3.0}).weights) == ["b", "a"]


class Weak(Objective):
    """Needs a strong view of given operations."""

    reads = ("logits", "strong")
    two_views = True
    relational = "Compares everything with everything, twice over."

    def __init__(self, view: StrongView) -> None:
        super().__init__()
        self.strong_view = view


@pytest.mark.parametrize(
    ("parts", "needs"),
    [
        ([CrossEntropy], (False, True, False, False)),
        ([CrossEntropy, soft_targets], (True, True, False, False)),
        ([soft_targets, attention], (True, False, False, False)),
        ([CrossEntropy, lambda: Weak(StrongView())], (True, True, True, False)),
        ([CrossEntropy, ClassifierReuse], (True, False, False, True)),
    ],
)
def test_it_needs_what_any_part_needs(parts, needs):
    mixture = Mixture(parts={f"part{i}": make() for i, make in enumerate(parts)})
    assert (mixture.needs_teacher, mixture.logits_only, mixture.two_views, mixture.deploys) == needs
    assert (mixture.strong_view is not None) is mixture.two_views


def test_it_needs_batch_statistics_of_the_teacher_where_a_part_does():
    overhaul = FeatureOverhaul()
    assert overhaul.teacher_batch_statistics
    assert Mixture(parts={"kd": soft_targets(), "ofd": overhaul}).teacher_batch_statistics
    assert not Mixture(parts={"kd": soft_targets(), "ofd": overhaul}, weights={"ofd": 0}).teacher_batch_statistics


def test_it_is_relational_where_a_part_is():
    assert Mixture(parts={"kd": soft_targets(), "ce": CrossEntropy()}).relational == ""
    sp = SimilarityPreserving(ce_weight=0.0, feature_weight=1.0)
    assert Mixture(parts={"kd": soft_targets(), "sp": sp}).relational == f"sp: {sp.relational}"


def test_a_part_of_factor_0_is_left_out_with_all_that_it_needs(pair):
    mixture = Mixture(parts={"ce": CrossEntropy(), "ofd": FeatureOverhaul()}, weights={"ofd": 0.0})
    assert not mixture.needs_teacher
    assert mixture.logits_only
    assert mixture.attach(pair[0], None, TASK) is None
    assert list(mixture(seen(pair[0])[0], None, batch(), PROGRESS)) == ["ce/ce"]
    assert mixture.state_dict() == {}


def test_what_the_parts_learn_and_remember_is_the_mixtures(pair):
    parts = {"crd": ContrastiveRepresentation(dim=4, negatives=3), "ofd": FeatureOverhaul()}
    mixture = Mixture(parts=parts)
    mixture.attach(*pair, TASK)
    state = mixture.state_dict()
    assert {
        "parts.crd.student_bank.rows",
        "parts.crd.student_embed.weight",
        "parts.ofd.margins.0.total",
    } <= state.keys()
    assert len(list(mixture.parameters())) == sum(len(list(part.parameters())) for part in parts.values())
    mixture(*seen(*pair), batch(), PROGRESS)
    assert parts["crd"].estimated
    mixture.eval()
    assert not parts["ofd"].margins[0].training


def test_the_others_are_attached_to_the_network_that_one_part_deploys(pair):
    cat = ClassAttention(ce_weight=0.0, feature_weight=1.0)  # asks its network for the classifier
    mixture = Mixture(parts={"cat": cat, "simkd": ClassifierReuse(), "kd": soft_targets()})
    network = mixture.attach(*pair, TASK)
    assert isinstance(network, ReusedClassifier)
    assert list(mixture.parameters()) == []
    terms = mixture(*seen(network, pair[1]), batch(), PROGRESS)
    assert list(terms) == ["cat/feature", "simkd/feature", "kd/ce", "kd/kd"]
    torch.stack(list(terms.values())).sum().backward()
    assert network.projector[0].weight.grad.norm() > 0


class Starting(CrossEntropy):
    """Takes the weights of a first stage to itself."""

    def start(self, student, weights):
        self.taken = dict(weights)


def test_a_first_stage_goes_to_the_parts_that_take_it_over_and_else_to_the_student():
    student, other = nn.Linear(2, 2), nn.Linear(2, 2)
    weights = other.state_dict()
    part = Starting()
    Mixture(parts={"ce": CrossEntropy(), "own": part}).start(student, weights)
    assert part.taken.keys() == weights.keys()
    assert not torch.equal(student.weight, other.weight)
    Mixture(parts={"ce": CrossEntropy(), "again": CrossEntropy()}).start(student, weights)
    assert torch.equal(student.weight, other.weight)
    with pytest.raises(ValueError, match="simkd must not have a first stage"):
        Mixture(parts={"simkd": ClassifierReuse()}).start(student, weights)


def test_a_mixture_of_mixtures(pair):
    inner = Mixture(parts={"ce": CrossEntropy(), "at": attention(ce_weight=0.0)}, weights={"ce": 2.0})
    mixture = Mixture(parts={"inner": inner, "ce": CrossEntropy()}, weights={"inner": 3.0})
    mixture.attach(*pair, TASK)
    terms = mixture(*seen(*pair), batch(), PROGRESS)
    assert list(terms) == ["inner/ce/ce", "inner/at/feature", "ce/ce"]
    torch.testing.assert_close(terms["inner/ce/ce"], 6 * terms["ce/ce"])


FAULTY = [
    ({"parts": {}}, "parts must hold one objective or more, got none: add one, e.g. +loss@loss.parts.kd=kd"),
    ({"parts": {"kd": nn.Linear(1, 1)}}, "parts.kd must be an objective, got Linear: set loss.parts.kd._target_"),
    (
        {"parts": {"a/b": CrossEntropy()}},
        "a part's name must be letters, digits and underscores and not a dict method, got 'a/b': rename",
    ),
    (
        {"parts": {"a.b": CrossEntropy()}},
        "a part's name must be letters, digits and underscores and not a dict method, got 'a.b': rename",
    ),
    (
        {"parts": {"keys": CrossEntropy()}},
        "a part's name must be letters, digits and underscores and not a dict method, got 'keys': rename",
    ),
    ({"weights": {"kd": 1.0}}, "weights.kd must belong to one of the parts ce: remove it"),
    ({"weights": {"ce": -1.0}}, "weights.ce must be finite and >= 0, got -1.0: set loss.weights.ce"),
    ({"weights": {"ce": float("nan")}}, "weights.ce must be finite and >= 0, got nan: set loss.weights.ce"),
    ({"weights": {"ce": 0.0}}, "weights must not all be 0: set one of loss.weights to a positive number"),
    (
        {"parts": {"one": ClassifierReuse(), "two": ClassifierReuse()}},
        "at most one part may deploy a network, got one, two: remove one",
    ),
]


@pytest.mark.parametrize(("options", "sentence"), FAULTY)
def test_refusals(options, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}"):
        Mixture(**{"parts": {"ce": CrossEntropy()}} | options)


def test_strong_views_must_be_alike():
    one, other = StrongView(), StrongView(**{next(iter(StrongView.__dataclass_fields__)): 1})
    assert one != other
    assert Mixture(parts={"a": Weak(one), "b": Weak(StrongView())}).strong_view == one
    with pytest.raises(ValueError, match="the strong views of a, b must be equal"):
        Mixture(parts={"a": Weak(one), "b": Weak(other)})


@pytest.fixture(scope="module")
def presets():
    return Presets()


def composed(presets, *overrides):
    faults = []
    given = presets.compose(["loss=mixture", *overrides])
    faults += [fault for fault in given.faults if not fault.within("pair")]
    node = check_target(reduce_alpha(given.config["loss"], (), faults, option="mixture"), "loss", faults)
    assert faults == []
    return build_objective(node, seed=1)


def test_the_preset(presets):
    mixture = composed(presets)
    assert {name: type(part) for name, part in mixture.parts.items()} == {"kd": SoftTargets, "at": AttentionTransfer}
    kd_part, at = mixture.parts["kd"], mixture.parts["at"]
    assert (kd_part.temperature, kd_part.ce_weight, kd_part.kd_weight) == (4.0, 0.1, 0.9)
    assert (at.ce_weight, at.feature_weight) == (0.0, 1000.0)
    assert mixture.weights == {"kd": 1.0, "at": 1.0}


def test_parts_are_added_removed_and_weighed_on_the_command_line(presets):
    added = composed(presets, "+loss@loss.parts.sp=sp", "loss.parts.sp.ce_weight=0", "+loss.weights.sp=0.5")
    assert list(added.parts) == ["kd", "at", "sp"]
    assert isinstance(added.parts["sp"], SimilarityPreserving)
    assert added.parts["sp"].ce_weight == 0
    assert added.weights == {"kd": 1.0, "at": 1.0, "sp": 0.5}
    assert list(composed(presets, "~loss.parts.at").parts) == ["kd"]
    assert composed(presets, "loss.parts.kd.alpha=0.5").parts["kd"].ce_weight == 0.5
    assert composed(presets, "loss.parts.at.feature_weight=7").parts["at"].feature_weight == 7
