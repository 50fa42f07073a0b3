"""ReviewKD: its levels and their shapes, its ramp, the teacher's maps it aims at."""

import re
from dataclasses import replace

import pytest
import torch

from distill.losses import KnowledgeReview, Task
from distill.losses.review import AttentionFusion, TopLevel
from distill.models import plain_cnn, resnet8, resnet8x4, resnet14, timm_network

TASK = Task(16, torch.arange(10))


def attached(student, teacher, **options):
    torch.manual_seed(1)
    objective = KnowledgeReview(**{"ce_weight": 0.0} | options)
    assert objective.attach(student, teacher, TASK) is None
    return objective


def seen(*networks, count=3):
    images = torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    return [network(images, taps=True) for network in networks]


def test_every_level_ends_in_the_teachers_shape():
    student, teacher = plain_cnn(), resnet8x4(num_classes=10)
    objective = attached(student, teacher)
    assert [level.size for level in objective.levels] == [(16, 16), (8, 8), (4, 4)]
    assert [level.expand[0].out_channels for level in objective.levels] == [64, 128, 256]
    assert [level.reduce[0].in_channels for level in objective.levels] == [32, 64, 80]
    assert {level.reduce[0].out_channels for level in objective.levels} == {80}
    assert (objective.top.reduce[0].in_channels, objective.top.expand[0].out_channels) == (80, 256)
    narrow = attached(student, teacher, max_channels=8)
    assert {level.reduce[0].out_channels for level in (*narrow.levels, narrow.top)} == {8}


def test_each_level_sees_its_own_map_and_all_deeper_ones():
    networks = resnet8(num_classes=10), resnet14(num_classes=10).eval()
    student, teacher = seen(*networks)
    leaves = [tensor.detach().requires_grad_() for tensor in (*student.features, student.embedding)]
    student = replace(student, features=tuple(leaves[:-1]), embedding=leaves[-1])
    objective = attached(*networks).eval()
    made = []
    for level in (objective.top, *objective.levels):
        level.register_forward_hook(lambda _m, _i, output: made.append(output[0]))
    objective(student, teacher, None, torch.tensor(0.0))
    deepest_first = leaves[::-1]
    assert len(made) == 4
    for depth, output in enumerate(made):
        grads = torch.autograd.grad(output.sum(), deepest_first, retain_graph=True, allow_unused=True)
        assert [grad is not None for grad in grads] == [position <= depth for position in range(5)]


def test_the_ramp_is_over_after_twenty_epochs():
    student, teacher = seen(resnet8(num_classes=10), resnet14(num_classes=10).eval())
    objective = attached(resnet8(num_classes=10), resnet14(num_classes=10)).eval()

    def value(progress):
        return objective(student, teacher, None, torch.tensor(progress))["feature"].item()

    whole = value(300.0)
    for progress, share in {0.0: 1 / 20, 0.99: 1 / 20, 1.0: 2 / 20, 18.5: 19 / 20, 19.0: 1, 20.0: 1}.items():
        assert value(progress) == pytest.approx(share * whole, rel=1e-5)
    assert attached(resnet8(num_classes=10), resnet14(num_classes=10), ramp_epochs=1).ramp_epochs == 1


def test_it_aims_at_maps_before_the_relu_where_there_are_any():
    student, teacher = seen(resnet8(num_classes=10), resnet14(num_classes=10).eval())
    objective = attached(resnet8(num_classes=10), resnet14(num_classes=10)).eval()
    value = objective(student, teacher, None, torch.tensor(30.0))["feature"]
    for tap in teacher.preactivations:
        tap.add_(tap.lt(0) * -5)  # features and embedding stay
    assert objective(student, teacher, None, torch.tensor(30.0))["feature"] > value * 1.5

    timm = timm_network(name="test_resnet", num_classes=10)
    objective = attached(resnet8(num_classes=10), timm)
    terms = objective(*seen(resnet8(num_classes=10), timm), None, torch.tensor(0.0))
    assert terms["feature"].isfinite()


def test_a_batch_of_one_image_trains():
    """Its embedding is a map of one value per channel, on which BatchNorm has nothing to measure."""
    networks = resnet8(num_classes=10), resnet14(num_classes=10).eval()
    objective = attached(*networks).train()
    statistics = objective.top.reduce[1].running_mean.clone()
    objective(*seen(*networks, count=1), None, torch.tensor(0.0))["feature"].backward()
    assert torch.equal(objective.top.reduce[1].running_mean, statistics)
    assert all(parameter.grad.isfinite().all() for parameter in objective.parameters())


def test_fusion_weighs_both_maps():
    torch.manual_seed(3)
    fusion = AttentionFusion(4, 6, 5, size=(8, 8)).eval()
    maps, above = torch.randn(2, 4, 4, 4), torch.randn(2, 6, 2, 2)
    expanded, fused = fusion(maps, above)
    assert expanded.shape == (2, 5, 8, 8)
    assert fused.shape == (2, 6, 8, 8)
    with torch.no_grad():
        fusion.attend.weight.zero_()
        fusion.attend.bias.copy_(torch.tensor([-99.0, 99.0]))  # all attention on what comes from above
    torch.testing.assert_close(fusion(maps, above)[1], above.repeat_interleave(4, 2).repeat_interleave(4, 3))
    top = TopLevel(4, 6, 5).eval()
    assert [output.shape for output in top(maps)] == [(2, 5, 4, 4), (2, 6, 4, 4)]


def test_refusals():
    with pytest.raises(ValueError, match=re.escape("ramp_epochs must be >= 1, got 0")):
        KnowledgeReview(ramp_epochs=0)
    with pytest.raises(ValueError, match=re.escape("max_channels must be >= 1, got 0: set loss.max_channels")):
        KnowledgeReview(max_channels=0)
    with pytest.raises(ValueError, match="ce_weight and feature_weight must not both be 0"):
        KnowledgeReview(ce_weight=0.0, feature_weight=0.0)


def test_without_its_term_it_needs_nothing():
    objective = KnowledgeReview(feature_weight=0.0)
    assert not objective.needs_teacher
    assert objective.attach(resnet8(), None, TASK) is None
