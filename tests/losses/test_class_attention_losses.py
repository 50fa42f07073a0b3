"""Class activation maps: what they are, how they are compared, what a dead map does."""

import pytest
import torch

from distill.losses import class_activation, class_attention, identity, unit_map


@pytest.fixture
def network():
    """A map (B, C, H, W) and a classifier's weights (K, C)."""
    generator = torch.Generator().manual_seed(5)
    return (
        torch.rand(3, 4, 6, 6, dtype=torch.float64, generator=generator),
        torch.randn(5, 4, dtype=torch.float64, generator=generator),
    )


def test_the_maps_average_is_the_logit_without_its_bias(network):
    final_map, weight = network
    logits = final_map.mean((2, 3)) @ weight.T
    for grid in (1, 2, 3, 6):
        cams = class_activation(final_map, weight, grid=grid)
        assert cams.shape == (3, 5, grid**2)
        torch.testing.assert_close(cams.mean(-1), logits)


def test_averaging_first_is_averaging_last(network):
    final_map, weight = network
    cams = torch.einsum("kc,bchw->bkhw", weight, final_map)
    expected = cams.unflatten(3, (2, 3)).unflatten(2, (2, 3)).mean((3, 5)).flatten(2)
    torch.testing.assert_close(class_activation(final_map, weight, grid=2), expected)


def test_mean_over_batch_classes_and_cells():
    student, teacher = torch.randn(2, 3, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    expected = 0.0
    for s, t in zip(student.flatten(0, 1), teacher.flatten(0, 1), strict=True):
        expected += (s / s.norm() - t / t.norm()).square().sum().item()
    value = class_attention(student, teacher, normalize=unit_map)
    assert value.item() == pytest.approx(expected / (3 * 5 * 4), rel=1e-12)
    plain = class_attention(student, teacher, normalize=identity)
    assert plain.item() == pytest.approx((student - teacher).square().mean().item(), rel=1e-12)


def test_unit_maps_do_not_see_scale():
    student, teacher = torch.randn(2, 3, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    value = class_attention(student, teacher, normalize=unit_map)
    torch.testing.assert_close(class_attention(7 * student, 0.01 * teacher, normalize=unit_map), value)
    assert class_attention(-student, teacher, normalize=unit_map) != value


def test_its_gradient(network):
    final_map, weight = (tensor.clone().requires_grad_() for tensor in network)
    target = torch.randn(3, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(8))

    def loss(final_map, weight):
        return class_attention(class_activation(final_map, weight, grid=2), target, normalize=unit_map)

    assert torch.autograd.gradcheck(loss, (final_map, weight))


@pytest.mark.parametrize("half", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_a_dead_map_has_a_finite_gradient(network, half):
    final_map, weight = torch.zeros(3, 4, 6, 6, requires_grad=True), network[1].float().requires_grad_()
    cams = class_activation(final_map.to(half), weight.to(half), grid=2)
    value = class_attention(cams, torch.ones(3, 5, 4), normalize=unit_map)
    value.backward()
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(0.25)
    assert final_map.grad.abs().max() <= 1
    assert weight.grad.abs().max() <= 1
