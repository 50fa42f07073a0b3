"""CRD: what it remembers of the first batch, when its banks move, and that they move to another device."""

import re

import pytest
import torch
from torch import nn

from distill.data import Batch
from distill.losses import ContrastiveRepresentation, Task, noise_contrastive
from distill.models import Output, resnet8, resnet14
from distill.models.meta import meta_copy
from distill.training import seeded

LABELS = torch.arange(12) % 3
TASK = Task(8, LABELS)


def attached(**options):
    torch.manual_seed(1)
    objective = ContrastiveRepresentation(**{"dim": 6, "negatives": 9} | options)
    assert objective.attach(resnet8(num_classes=3), resnet14(num_classes=3), TASK) is None
    return objective


def outputs(index, seed=2):
    generator = torch.Generator().manual_seed(seed)
    sides = (torch.randn(len(index), 64, generator=generator, requires_grad=True) for _ in range(2))
    student, teacher = (Output(torch.zeros(len(index), 3), embedding=side) for side in sides)
    return student, teacher, Batch(torch.zeros(len(index), 3, 8, 8), LABELS[index], index, index), torch.tensor(0.0)


INDEX = torch.tensor([4, 9, 2, 0])


def test_the_first_batch_sets_z_and_no_later_one():
    objective = attached()
    assert not objective.estimated
    objective(*outputs(INDEX))
    first = objective.log_normalizer.clone()
    assert objective.estimated
    assert (first != 0).all()
    objective(*outputs(torch.tensor([1, 3]), seed=5))
    assert torch.equal(objective.log_normalizer, first)


def test_in_eval_mode_nothing_changes():
    objective = attached().eval()
    before = {name: value.clone() for name, value in objective.state_dict().items()}
    objective(*outputs(INDEX))
    assert all(torch.equal(value, before[name]) for name, value in objective.state_dict().items())


def test_each_side_is_compared_with_the_others_bank_and_fills_its_own():
    objective = attached(momentum=0.0)
    ours, theirs = objective.student_bank.rows.clone(), objective.teacher_bank.rows.clone()
    student, teacher, batch, progress = outputs(INDEX)
    torch.manual_seed(7)
    value = objective(student, teacher, batch, progress)["feature"]

    torch.manual_seed(7)
    columns = torch.cat([INDEX[:, None], objective.others.draw(batch.labels, 9)], 1)
    total = 0.0
    sides = ((objective.student_embed, student, theirs), (objective.teacher_embed, teacher, ours))
    for (embed, side, bank), normalizer in zip(sides, objective.log_normalizer, strict=True):
        vectors = nn.functional.normalize(embed(side.embedding), dim=1)
        scores = (vectors @ bank.T / 0.07).gather(1, columns)
        assert normalizer.item() == pytest.approx((12 * scores.exp().mean()).log().item(), rel=1e-4)
        total += noise_contrastive(scores[:, 0], scores[:, 1:], images=12, log_normalizer=normalizer)
    assert value.item() == pytest.approx(0.8 * total.item(), rel=1e-4)
    for embed, side, bank in (
        (objective.student_embed, student, objective.student_bank),
        (objective.teacher_embed, teacher, objective.teacher_bank),
    ):
        torch.testing.assert_close(bank.rows[INDEX], nn.functional.normalize(embed(side.embedding), dim=1))
    assert teacher.embedding.grad_fn is None
    value.backward()
    assert teacher.embedding.grad is None
    assert student.embedding.grad.norm() > 0
    assert objective.teacher_embed.weight.grad.norm() > 0


def test_banks_are_state_and_as_large_as_the_data():
    state = attached().state_dict()
    assert state["student_bank.rows"].shape == state["teacher_bank.rows"].shape == (12, 6)
    assert {"log_normalizer", "estimated"} <= state.keys()
    assert not any("others" in name for name in state)


def test_more_negatives_than_images_are_drawn_again():
    terms = attached(negatives=500)(*outputs(INDEX))
    assert terms["feature"].isfinite()


def test_attached_on_the_meta_device_nothing_is_allocated():
    objective = ContrastiveRepresentation()
    objective.attach(meta_copy(resnet8()), meta_copy(resnet14()), Task(8, torch.arange(50_000) % 100))
    assert objective.student_bank.rows.is_meta
    assert objective.student_bank.rows.shape == (50_000, 128)


@pytest.mark.gpu
def test_its_first_numbers_are_the_seeds_on_every_device():
    def first(device):
        objective = ContrastiveRepresentation()
        with seeded(3, "attach"):
            objective.attach(resnet8().to(device), resnet14().to(device), Task(8, torch.arange(50) % 10))
        return objective.state_dict()

    here, there = first("cpu"), first("cuda")
    assert all(torch.equal(here[name], tensor.cpu()) for name, tensor in there.items())


def test_without_its_term_it_needs_nothing():
    objective = ContrastiveRepresentation(feature_weight=0)
    assert not objective.needs_teacher
    assert objective.attach(resnet8(num_classes=3), None, TASK) is None
    student, _, batch, progress = outputs(INDEX)
    assert list(objective(student, None, batch, progress)) == ["ce"]
    assert list(objective.parameters()) == []


def test_one_class_is_refused():
    with pytest.raises(ValueError, match="2 classes or more, got 1"):
        ContrastiveRepresentation().attach(resnet8(), resnet8(), Task(8, torch.zeros(9, dtype=torch.int64)))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"dim": 0}, "dim must be >= 1, got 0: set loss.dim"),
        ({"negatives": 0}, "negatives must be >= 1, got 0: set loss.negatives"),
        ({"temperature": 0.0}, "temperature must be > 0, got 0.0"),
        ({"momentum": 1.0}, "momentum must be in [0, 1), got 1.0: set loss.momentum"),
        ({"feature_weight": -1.0}, "feature_weight must be >= 0, got -1.0"),
        ({"ce_weight": 0.0, "feature_weight": 0.0}, "ce_weight and feature_weight must not both be 0"),
    ],
)
def test_refusals(options, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        ContrastiveRepresentation(**options)
