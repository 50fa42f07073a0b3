"""NKD: its two cross-entropies row by row, and where they leave the generic loss."""

import math
from functools import partial

import pytest
import torch

from distill.losses import log_target_and_rest, nkd_nontarget, nkd_target, soft_cross_entropy, split_target


@pytest.fixture
def pair():
    draw = partial(torch.randn, 5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    return 2 * draw(), 3 * draw() + 1


LABELS = torch.tensor([6, 0, 3, 3, 1])


def softmax(row, temperature=1.0):
    powers = [math.exp(z / temperature) for z in row]
    return [power / math.fsum(powers) for power in powers]


def without(row, label):
    return [z for k, z in enumerate(row) if k != label]


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_values(pair, temperature):
    target, nontarget = [], []
    for s, t, y in zip(*(side.tolist() for side in pair), LABELS.tolist(), strict=True):
        target.append(-softmax(t)[y] * math.log(softmax(s)[y]))
        p, q = (softmax(without(row, y), temperature) for row in (t, s))
        nontarget.append(-(temperature**2) * math.fsum(a * math.log(b) for a, b in zip(p, q, strict=True)))
    assert nkd_target(*pair, LABELS).item() == pytest.approx(math.fsum(target) / 5, rel=1e-12)
    value = nkd_nontarget(*pair, LABELS, temperature=temperature)
    assert value.item() == pytest.approx(math.fsum(nontarget) / 5, rel=1e-12)


def test_the_generic_loss_is_nkd_and_what_it_drops(pair):
    """KD's cross-entropy = target + (1 - T_t) (non-target - log(1 - S_t)) at temperature 1, sample by sample."""
    for i in range(5):
        student, teacher, label = pair[0][i : i + 1], pair[1][i : i + 1], LABELS[i : i + 1]
        _, log_rest = log_target_and_rest(*split_target(student, label))
        others = 1 - teacher.softmax(-1)[0, label.item()]
        nontarget = nkd_nontarget(student, teacher, label, temperature=1.0)
        rebuilt = nkd_target(student, teacher, label) + others * (nontarget - log_rest.squeeze())
        generic = soft_cross_entropy(student, teacher, temperature=1.0)
        torch.testing.assert_close(rebuilt, generic, rtol=1e-12, atol=0)


def test_the_nontarget_term_is_least_for_the_teachers_proportions(pair):
    student, teacher = pair[0].clone().requires_grad_(), pair[1]
    same = teacher + 0.0
    same[torch.arange(5), LABELS] = 9.0  # the target is not compared
    (grad,) = torch.autograd.grad(nkd_nontarget(same.requires_grad_(), teacher, LABELS, temperature=3.0), same)
    assert grad.abs().max() < 1e-14
    (grad,) = torch.autograd.grad(nkd_nontarget(student, teacher, LABELS, temperature=3.0), student)
    assert grad[torch.arange(5), LABELS].abs().max() == 0
    assert grad.abs().max() > 0.01


def test_gradcheck(pair):
    student, teacher = (side[:3].clone().requires_grad_() for side in pair)
    temperature = torch.tensor(2.2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s, t: nkd_target(s, t, LABELS[:3]), (student, teacher))
    assert torch.autograd.gradcheck(
        lambda s, t, tau: nkd_nontarget(s, t, LABELS[:3], temperature=tau), (student, teacher, temperature)
    )
