"""CAT-KD: whose classifier makes whose maps, who learns, and which networks have such maps."""

import copy

import pytest
import torch

from distill.losses import ClassAttention, Task, class_activation, class_attention, identity, unit_map
from distill.models import plain_cnn, resnet8, timm_network, wrn_16_1

TASK = Task(16, torch.arange(10))
PROGRESS = torch.tensor(0.0)


def attached(student, teacher, **options):
    objective = ClassAttention(**{"ce_weight": 0.0, "feature_weight": 2.0} | options)
    assert objective.attach(student, teacher, TASK) is None
    return objective


@pytest.fixture
def pair():
    torch.manual_seed(1)
    return plain_cnn(), wrn_16_1(num_classes=10).eval()


def seen(*networks):
    images = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    return [network(images, taps=True) for network in networks]


@pytest.mark.parametrize(("normalize", "grid"), [(unit_map, 2), (identity, 1), (unit_map, 4)])
def test_each_networks_map_times_its_own_classifier(pair, normalize, grid):
    objective = attached(*pair, normalize=normalize, grid=grid)
    student, teacher = seen(*pair)
    cams = [
        class_activation(output.final_map, network.head.weight, grid=grid)
        for output, network in zip((student, teacher), pair, strict=True)
    ]
    terms = objective(student, teacher, None, PROGRESS)
    torch.testing.assert_close(terms, {"feature": 2 * class_attention(*cams, normalize=normalize)})


def test_map_and_classifier_of_the_student_learn_and_nothing_of_the_teacher(pair):
    objective = attached(*pair)
    objective(*seen(*pair), None, PROGRESS)["feature"].backward()
    assert pair[0].head.weight.grad.norm() > 0
    assert pair[0].stages[0][0].weight.grad.norm() > 0
    assert all(parameter.grad is None for parameter in pair[1].parameters())


def test_it_follows_the_classifiers_as_they_change_and_owns_none(pair):
    objective = attached(*pair)
    assert list(objective.parameters()) == []
    assert objective.state_dict() == {}
    outputs = seen(*pair)
    before = objective(*outputs, None, PROGRESS)["feature"].item()
    with torch.no_grad():
        pair[0].head.weight.neg_()
    assert objective(*outputs, None, PROGRESS)["feature"].item() != pytest.approx(before)
    twin = copy.deepcopy(objective)
    assert twin(*outputs, None, PROGRESS) == objective(*outputs, None, PROGRESS)


def test_networks_without_class_maps_are_refused(pair):
    vit = timm_network(name="test_vit", num_classes=10, img_size=16, patch_size=4)
    with pytest.raises(ValueError, match=r"^the student must have a classifier that reads the average"):
        attached(vit, pair[1])
    with pytest.raises(ValueError, match=r"^the teacher must have a classifier that reads the average"):
        attached(pair[0], vit)
    with pytest.raises(ValueError, match=r"^the teacher must have the student's 10 classes, got 7"):
        attached(pair[0], resnet8(num_classes=7))


def test_refusals():
    with pytest.raises(ValueError, match=r"^grid must be >= 1, got 0: set loss.grid=2"):
        ClassAttention(grid=0, feature_weight=1.0)
    with pytest.raises(ValueError, match="ce_weight and feature_weight must not both be 0"):
        ClassAttention(ce_weight=0.0, feature_weight=0.0)


def test_without_its_term_it_needs_nothing(pair):
    objective = ClassAttention(feature_weight=0.0)
    assert not objective.needs_teacher
    assert objective.attach(pair[0], None, TASK) is None
