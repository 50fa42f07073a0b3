"""Partial L2 behind a margin ReLU: where it looks, what it costs, how stages add up."""

import pytest
import torch

from distill.losses import halving_sum, partial_l2

MARGIN = torch.tensor([-1.0, -0.5], dtype=torch.float64)[:, None, None]


def one(student, teacher, margin=-1.0):
    """The distance of two maps of one cell."""
    maps = (torch.full((1, 1, 1, 1), value, dtype=torch.float64) for value in (student, teacher))
    return partial_l2(*maps, margin=torch.full((1, 1, 1), margin, dtype=torch.float64)).item()


@pytest.mark.parametrize(
    ("student", "teacher", "expected"),
    [
        (3.0, 1.0, 4.0),  # a positive teacher is met from both sides
        (0.5, 1.0, 0.25),
        (-2.0, 1.0, 9.0),
        (-0.2, -0.7, 0.25),  # a negative one only from above
        (-0.9, -0.7, 0.0),
        (0.5, -5.0, 2.25),  # far below zero the margin takes its place
        (-0.5, -5.0, 0.25),
        (-1.0, -5.0, 0.0),
        (-9.0, -5.0, 0.0),
        (-0.5, 0.0, 0.0),  # zero is not positive
    ],
)
def test_cell_by_cell(student, teacher, expected):
    assert one(student, teacher) == pytest.approx(expected)


def maps(*shape):
    generator = torch.Generator().manual_seed(3)
    return torch.randn(2, *shape, dtype=torch.float64, generator=generator)


def test_sum_over_a_map_and_mean_over_the_batch():
    student, teacher = maps(3, 2, 4, 4)
    expected = 0.0
    for b in range(3):
        for c in range(2):
            for s, t in zip(student[b, c].flatten().tolist(), teacher[b, c].flatten().tolist(), strict=True):
                target = max(t, MARGIN[c].item())
                expected += 0 if s <= target <= 0 else (s - target) ** 2
    assert partial_l2(student, teacher, margin=MARGIN).item() == pytest.approx(expected / 3, rel=1e-12)


def test_its_gradient():
    student, teacher = (side.clone().requires_grad_() for side in maps(2, 2, 3, 3))
    assert torch.autograd.gradcheck(lambda s, t: partial_l2(s, t, margin=MARGIN), (student, teacher))
    dead = torch.zeros(1, 2, 2, 2, requires_grad=True)
    partial_l2(dead, torch.zeros(1, 2, 2, 2), margin=MARGIN.float()).backward()
    assert dead.grad.abs().max() == 0


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16], ids=str)
def test_half_types_are_raised(half):
    student, teacher = (100 * side.to(half) for side in maps(2, 2, 8, 8))
    value = partial_l2(student, teacher, margin=MARGIN.to(half))
    assert value.dtype == torch.float32
    assert value.isfinite()
    assert value == partial_l2(student.float(), teacher.float(), margin=MARGIN.float())


def test_stages_halve_towards_the_input():
    distances = [torch.tensor(value) for value in (8.0, 4.0, 1.0)]
    assert halving_sum(distances).item() == 8 / 4 + 4 / 2 + 1
    assert halving_sum(distances[:1]) == 8
