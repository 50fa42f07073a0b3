"""The peer is the field's loop: its crops are torchvision's, its numbers those of our own formulas."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from distill.losses import kd
from distill.models import resnet8
from scripts.bench.lab import Lab
from scripts.bench.peer import Distillation, cropped, in_nchw, normalised, top_k, train_loader


def test_its_pipeline_gives_our_images_when_it_draws_what_we_draw(lab: Lab) -> None:
    data, source = lab.data, lab.stream(lab.data).source
    images = train_loader(data, batch_size=16, workers=0).dataset
    span = 2 * data.pad + 1
    for index in range(40):
        torch.manual_seed(index)
        theirs, label = images[index]
        torch.manual_seed(index)  # as RandomCrop and RandomHorizontalFlip draw: row, column, flip
        dy, dx = (int(torch.randint(0, span, (1,))) for _ in range(2))
        flip = int(torch.rand(1) < 0.5)
        view = torch.tensor([(dy * span + dx) * 2 + flip])
        ours = source.images(torch.tensor([index]), view)[0]
        assert label == source.labels[index]
        assert float((theirs - ours).abs().max()) <= 1e-6
        again = normalised(cropped(data, [index], view), data)[0]
        assert torch.equal(again, theirs)


def test_it_shuffles_and_keeps_the_last_batch(lab: Lab) -> None:
    loader = train_loader(lab.data, batch_size=16, workers=0)
    labels = [batch[1] for batch in loader]
    assert [len(each) for each in labels] == [16] * 6 + [4]
    assert torch.cat(labels).tolist() != lab.data.train_labels.tolist()
    assert sorted(torch.cat(labels).tolist()) == sorted(lab.data.train_labels.tolist())


def test_its_loss_is_hintons() -> None:
    student, teacher = torch.randn(2, 6, 10, dtype=torch.float64)
    labels = torch.arange(6)
    found = Distillation(temperature=4.0, ce_weight=0.1, kd_weight=0.9)(student, teacher, labels)
    expected = 0.1 * functional.cross_entropy(student, labels) + 0.9 * kd(student, teacher, temperature=4.0)
    torch.testing.assert_close(found, expected)
    alone = Distillation(temperature=4.0, ce_weight=0.1, kd_weight=0.9)(student, None, labels)
    torch.testing.assert_close(alone, functional.cross_entropy(student, labels))


def test_top_1_and_top_5_are_percentages() -> None:
    logits = torch.eye(8) * 3 + torch.arange(8) / 10  # row k ranks class k first, then 7, 6, 5, ...
    assert top_k(logits, torch.arange(8)) == [100.0, 100.0]
    assert top_k(logits, torch.full((8,), 3)) == pytest.approx([12.5, 62.5])


def test_its_networks_run_in_nchw(lab: Lab) -> None:
    network = in_nchw(resnet8().to(memory_format=torch.channels_last))
    weights = [module.weight for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert any(weight.shape[2:] == (1, 1) for weight in weights)
    for weight in weights:
        assert weight.stride() == torch.empty(weight.shape).stride()
    assert lab.peer().student(torch.randn(2, 3, 32, 32)).logits.shape == (2, 100)


def test_a_step_trains_the_student_alone_and_reads_back_its_numbers(lab: Lab) -> None:
    peer = lab.peer()
    assert peer.teacher is not None
    before = [parameter.clone() for parameter in peer.student.parameters()]
    taught = {name: value.clone() for name, value in peer.teacher.state_dict().items()}
    images, labels = next(iter(lab.train_loader(lab.data)))
    losses = [peer.step(images, labels)[0] for _ in range(5)]
    assert losses[-1] < losses[0]
    assert not any(torch.equal(old, new) for old, new in zip(before, peer.student.parameters(), strict=True))
    assert all(torch.equal(value, taught[name]) for name, value in peer.teacher.state_dict().items())
    group = peer.optimizer.param_groups[0]
    assert isinstance(peer.optimizer, torch.optim.SGD)
    assert (group["lr"], group["momentum"], group["weight_decay"], group["fused"]) == (0.05, 0.9, 5e-4, None)
