"""The hierarchical context loss: grids, weights, gradient."""

import pytest
import torch

from distill.losses import hierarchical_context


def maps(size, dtype=torch.float64):
    generator = torch.Generator().manual_seed(4)
    return torch.randn(2, 3, 2, size, size, dtype=torch.float64, generator=generator).to(dtype)


def pooled(feature_map, grid):
    step = feature_map.shape[-1] // grid
    return feature_map.unflatten(3, (grid, step)).unflatten(2, (grid, step)).mean((3, 5))


@pytest.mark.parametrize(
    ("size", "grids"),
    [(8, {4: 1 / 2, 2: 1 / 4, 1: 1 / 8}), (4, {2: 1 / 2, 1: 1 / 4}), (2, {1: 1 / 2}), (1, {})],
)
def test_the_map_counts_whole_and_every_coarser_grid_half_of_the_one_before(size, grids):
    student, teacher = maps(size)
    expected = (student - teacher).square().mean()
    for grid, weight in grids.items():
        expected = expected + weight * (pooled(student, grid) - pooled(teacher, grid)).square().mean()
    expected = expected / (1 + sum(grids.values()))
    torch.testing.assert_close(hierarchical_context(student, teacher), expected, rtol=1e-12, atol=0)


def test_its_gradient():
    pair = tuple(side.clone().requires_grad_() for side in maps(4))
    assert torch.autograd.gradcheck(hierarchical_context, pair)


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16], ids=str)
def test_half_types_are_raised(half):
    student, teacher = maps(4, half)
    value = hierarchical_context(student, teacher)
    assert value.dtype == torch.float32
    assert value == hierarchical_context(student.float(), teacher.float())
