"""MLKD: three levels by loops, the laws of the relational two, and the selections."""

import math
from functools import partial

import pytest
import torch

from distill.losses import (
    batch_correlation,
    class_correlation,
    class_mass,
    confidence,
    everything,
    instance_alignment,
    kd,
    lower_half,
    share_of_lower_half,
)

BATCH, CLASSES = 5, 7
LEVELS = {"instance": instance_alignment, "batch": batch_correlation, "class": class_correlation}


@pytest.fixture
def pair():
    draw = partial(torch.randn, BATCH, CLASSES, dtype=torch.float64, generator=torch.Generator().manual_seed(10))
    return 2 * draw(), 3 * draw() + 1


def weights(count):
    return torch.linspace(0, 1, count, dtype=torch.float64)


def test_instance_level_is_kd_with_weights(pair):
    ones = torch.ones(BATCH, dtype=torch.float64)
    plain = kd(*pair, temperature=3.0)
    torch.testing.assert_close(instance_alignment(*pair, temperature=3.0, weights=ones), plain)
    rows = torch.stack([kd(pair[0][i : i + 1], pair[1][i : i + 1], temperature=3.0) for i in range(BATCH)])
    value = instance_alignment(*pair, temperature=3.0, weights=weights(BATCH))
    torch.testing.assert_close(value, (weights(BATCH) * rows).sum() / BATCH)


def test_correlations_by_loops(pair):
    q, p = ((side / 2).softmax(-1).tolist() for side in pair)

    def product(rows, i, j):
        return math.fsum(a * b for a, b in zip(rows[i], rows[j], strict=True))

    def distance(student, teacher, w):
        cells = [
            w[i] * (product(teacher, i, j) - product(student, i, j)) ** 2 for i in range(len(w)) for j in range(len(w))
        ]
        return math.fsum(cells) / len(w)

    value = batch_correlation(*pair, temperature=2.0, weights=weights(BATCH)).item()
    assert value == pytest.approx(distance(q, p, weights(BATCH).tolist()), rel=1e-12)
    columns = [list(zip(*rows, strict=True)) for rows in (q, p)]
    value = class_correlation(*pair, temperature=2.0, weights=weights(CLASSES)).item()
    assert value == pytest.approx(distance(*columns, weights(CLASSES).tolist()), rel=1e-12)


@pytest.mark.parametrize(("level", "factor"), [("instance", 1), ("batch", 2), ("class", 4)])
@pytest.mark.parametrize("selection", [lower_half, share_of_lower_half, everything])
def test_the_law_of_a_batch_written_twice(pair, level, factor, selection):
    def value(student, teacher):
        known = class_mass(teacher) if level == "class" else confidence(teacher)
        return LEVELS[level](student, teacher, temperature=2.0, weights=selection(known))

    once, twice = value(*pair), value(*(torch.cat([side, side]) for side in pair))
    torch.testing.assert_close(twice, factor * once, rtol=1e-10, atol=0)


@pytest.mark.parametrize("level", LEVELS)
def test_zero_for_the_teacher_itself_and_for_no_weight(pair, level):
    count = CLASSES if level == "class" else BATCH
    ones, none = torch.ones(count, dtype=torch.float64), torch.zeros(count, dtype=torch.float64)
    assert LEVELS[level](pair[1], pair[1], temperature=2.0, weights=ones).abs() < 1e-15
    assert LEVELS[level](*pair, temperature=2.0, weights=none) == 0
    assert LEVELS[level](*pair, temperature=2.0, weights=ones) > 1e-3


def test_the_weak_half_is_selected():
    values = torch.tensor([0.9, 0.2, 0.5, 0.7])
    assert lower_half(values).tolist() == [0, 1, 1, 0]
    assert lower_half(torch.tensor([3.0, 1.0, 2.0])).tolist() == [0, 1, 1]  # the median itself is in
    assert lower_half(torch.tensor([1.0, 1.0, 1.0, 2.0])).tolist() == [1, 1, 1, 0]
    assert lower_half(torch.tensor([5.0])).tolist() == [1]
    assert share_of_lower_half(values).tolist() == [0.5] * 4
    assert share_of_lower_half(torch.tensor([3.0, 1.0, 2.0])).tolist() == pytest.approx([2 / 3] * 3)
    assert everything(values).tolist() == [1] * 4


def test_a_scalar_mask_weakens_all_and_a_mask_of_samples_selects(pair):
    """The public code's deviation: the mean of the mask times the mean of the losses."""
    known = confidence(pair[1])
    scalar = instance_alignment(*pair, temperature=2.0, weights=share_of_lower_half(known))
    torch.testing.assert_close(scalar, lower_half(known).mean() * kd(*pair, temperature=2.0))
    selected = lower_half(known).bool()
    picked = kd(pair[0][selected], pair[1][selected], temperature=2.0) * selected.sum() / BATCH
    value = instance_alignment(*pair, temperature=2.0, weights=lower_half(known))
    torch.testing.assert_close(value, picked)
    assert abs(value - scalar) > 0.05


def test_what_selections_are_made_of(pair):
    p = pair[1].softmax(-1)
    torch.testing.assert_close(confidence(pair[1]), p.max(-1).values)
    torch.testing.assert_close(class_mass(pair[1]), p.sum(0))


@pytest.mark.parametrize("level", LEVELS)
def test_gradcheck(pair, level):
    student, teacher = (side.clone().requires_grad_() for side in pair)
    temperature = torch.tensor(2.1, dtype=torch.float64, requires_grad=True)
    known = weights(CLASSES if level == "class" else BATCH)
    assert torch.autograd.gradcheck(
        lambda s, t, tau: LEVELS[level](s, t, temperature=tau, weights=known), (student, teacher, temperature)
    )
