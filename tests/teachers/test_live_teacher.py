"""A teacher run live: frozen, in eval mode, and as deep as it is asked."""

import pytest
import torch
from torch import nn

from distill.data import Batch
from distill.models import resnet8
from distill.teachers import LiveTeacher
from distill.training import seeded


@pytest.fixture
def network() -> nn.Module:
    with seeded(1, "teacher"):
        return resnet8(num_classes=5)


@pytest.fixture
def batch() -> Batch:
    images = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    return Batch(images, torch.zeros(6, dtype=torch.int64), torch.arange(6), torch.full((6,), -1))


def live(network: nn.Module, *, weights: str = "w", precision: str = "fp32", taps: bool = False) -> LiveTeacher:
    return LiveTeacher(network, weights=weights, precision=precision, taps=taps)


def test_it_answers_as_its_network_does_in_eval_mode(network: nn.Module, batch: Batch) -> None:
    teacher = live(network.train())
    output = teacher(batch)
    assert not any(module.training for module in network.modules())
    with torch.no_grad():
        assert torch.equal(output.logits, network(batch.images).logits)
    assert torch.equal(teacher(batch).logits, output.logits)  # no statistics moved


def test_no_gradient_and_nothing_to_learn(network: nn.Module, batch: Batch) -> None:
    output = live(network)(batch)
    assert not output.logits.requires_grad
    assert not any(parameter.requires_grad for parameter in network.parameters())
    watched = Batch(batch.images.clone().requires_grad_(), batch.labels, batch.index, batch.view)
    assert not live(network)(watched).logits.requires_grad  # not through its input either
    student = torch.randn_like(output.logits).requires_grad_()
    (student - output.logits).square().sum().backward()  # its output can stand in a loss
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize("taps", [True, False])
def test_maps_are_kept_only_where_asked_for(network: nn.Module, batch: Batch, taps: bool) -> None:
    output = live(network, taps=taps)(batch)
    assert (len(output.features) > 0) is taps
    assert (output.embedding is not None) is taps


def test_bf16_is_how_it_computes_and_its_network_is_left_as_it_is(network: nn.Module, batch: Batch) -> None:
    half, single = live(network, precision="bf16")(batch), live(network)(batch)
    assert (half.logits.dtype, single.logits.dtype) == (torch.float32, torch.float32)
    assert torch.equal(half.logits, half.logits.bfloat16().float())
    torch.testing.assert_close(half.logits, single.logits, rtol=0.1, atol=0.1)
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


def test_the_outer_autocast_does_not_reach_it(network: nn.Module, batch: Batch) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert live(network)(batch).logits.dtype == torch.float32


def test_keys_are_equal_exactly_where_answers_are(network: nn.Module) -> None:
    assert live(network).key == live(resnet8(num_classes=5)).key  # the digest says it, not the object
    others = [live(network, weights="v"), live(network, precision="bf16"), live(network, taps=True)]
    assert len({live(network).key, *(other.key for other in others)}) == 4


def test_batch_statistics_are_those_of_training_and_write_nothing(network: nn.Module, batch: Batch) -> None:
    """OFD's teacher: BatchNorm as in training mode, on a copy; the network and its buffers stay as they are."""
    before = {name: value.clone() for name, value in network.state_dict().items()}
    teacher = LiveTeacher(network, weights="w", precision="fp32", taps=True, batch_statistics=True)
    output = teacher(batch)
    assert teacher.key != live(network, taps=True).key  # not shared with members that want running statistics
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert torch.equal(teacher(batch).logits, output.logits)
    assert not torch.allclose(output.logits, live(network, taps=True)(batch).logits)
    with seeded(1, "teacher"):
        training = resnet8(num_classes=5).train()
    with torch.no_grad():
        torch.testing.assert_close(output.logits, training(batch.images).logits)


def test_weights_that_are_cast_once_give_the_answer_of_autocast(network: nn.Module, batch: Batch) -> None:
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        expected = network.eval()(batch.images).logits
    assert torch.equal(live(network, precision="bf16")(batch).logits, expected.float())
