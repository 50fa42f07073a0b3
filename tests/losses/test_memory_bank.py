"""What CRD remembers and draws: the law of a row, and that negatives are of other classes, all alike likely."""

import math

import pytest
import torch

from distill.losses.contrastive import MemoryBank, OtherClasses


@pytest.fixture
def bank():
    torch.manual_seed(1)
    return MemoryBank(20, 8, momentum=0.5)


def unit_rows(*shape):
    rows = torch.randn(*shape, generator=torch.Generator().manual_seed(2))
    return rows / rows.norm(dim=1, keepdim=True)


def test_rows_begin_uniform_and_of_length_one_on_average():
    torch.manual_seed(0)
    rows = MemoryBank(4000, 128, momentum=0.5).rows
    bound = math.sqrt(3 / 128)
    assert rows.abs().max() <= bound
    assert rows.abs().max() > 0.999 * bound
    assert rows.mean().abs() < 1e-3
    assert rows.square().sum(1).mean().item() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_only_the_rows_of_the_batch_move_and_stay_of_length_one(bank, momentum):
    bank.momentum = momentum
    index, new = torch.tensor([7, 0, 13]), unit_rows(3, 8)
    before = bank.rows.clone()
    bank.update(index, new.requires_grad_())
    expected = momentum * before[index] + (1 - momentum) * new.detach()
    expected = expected / expected.norm(dim=1, keepdim=True)
    torch.testing.assert_close(bank.rows[index], expected)
    assert not torch.equal(bank.rows[index], before[index])
    others = [i for i in range(20) if i not in index.tolist()]
    assert torch.equal(bank.rows[others], before[others])
    assert not bank.rows.requires_grad


def test_a_row_that_keeps_its_image_converges_to_its_embedding(bank):
    new = unit_rows(1, 8)
    for _ in range(40):
        bank.update(torch.tensor([3]), new)
    torch.testing.assert_close(bank.rows[3], new[0])


def test_scores_are_inner_products_and_their_gradient_is_that_of_the_rows_before_the_update(bank):
    anchors, before = unit_rows(2, 8).requires_grad_(), bank.rows.clone()
    scores = bank.scores(anchors)
    torch.testing.assert_close(scores, anchors @ before.T)
    bank.update(torch.tensor([0, 1]), unit_rows(2, 8))
    weights = torch.arange(40.0).view(2, 20)
    (scores * weights).sum().backward()
    torch.testing.assert_close(anchors.grad, weights @ before)


def test_half_types_are_raised_to_the_rows(bank):
    bank.update(torch.tensor([1]), unit_rows(1, 8).bfloat16())
    assert bank.rows.dtype == torch.float32


LABELS = torch.tensor([2, 0, 2, 5, 0, 2, 2, 5])  # classes 1, 3 and 4 have no image


@pytest.mark.parametrize("anchor", [0, 2, 5])
def test_negatives_are_all_the_images_of_other_classes_alike(anchor):
    torch.manual_seed(3)
    drawn = OtherClasses(LABELS).draw(torch.tensor([anchor, anchor]), 6000)
    assert drawn.shape == (2, 6000)
    others = [i for i, label in enumerate(LABELS.tolist()) if label != anchor]
    counts = drawn.flatten().bincount(minlength=len(LABELS)).tolist()
    for image, count in enumerate(counts):
        expected = 12000 / len(others) if image in others else 0
        assert abs(count - expected) < 5 * math.sqrt(expected + 1e-9) + 1e-6, (image, count, expected)


def test_every_anchor_has_its_own_draws_from_torchs_generator():
    others = OtherClasses(LABELS)
    torch.manual_seed(4)
    first = others.draw(torch.tensor([0, 0]), 50)
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first, others.draw(torch.tensor([0, 0]), 50))
    torch.manual_seed(4)
    assert torch.equal(first, others.draw(torch.tensor([0, 0]), 50))


def test_two_images_will_do_and_one_class_will_not():
    assert OtherClasses(torch.tensor([0, 1])).draw(torch.tensor([0, 1]), 3).tolist() == [[1, 1, 1], [0, 0, 0]]
    with pytest.raises(ValueError, match=r"2 classes or more, got 1: .* choose another data set"):
        OtherClasses(torch.tensor([4, 4, 4]))


def test_what_follows_from_the_data_is_not_saved():
    assert OtherClasses(LABELS).state_dict() == {}
    assert set(MemoryBank(3, 2, momentum=0.5).state_dict()) == {"rows"}
