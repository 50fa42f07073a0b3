"""A live teacher whose BatchNorms are folded away where nobody would miss them."""

import copy

import pytest
import torch
from torch import Tensor, nn

from distill.data import Batch, ImageDataset, synthetic
from distill.losses import kd
from distill.models import Output, folded, resnet8, resnet14
from distill.teachers import LiveTeacher
from distill.teachers.table_build import answers
from distill.training import seeded

SIZE = 16


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """A teacher with statistics of its own."""
    with seeded(1, "teacher"):
        made = resnet14(num_classes=5)
        for _ in range(3):
            made(2 * torch.randn(16, 3, SIZE, SIZE) + 1)
    return made.eval()


@pytest.fixture
def batch() -> Batch:
    generator = torch.Generator().manual_seed(3)
    images, strong = torch.randn(2, 6, 3, SIZE, SIZE, generator=generator)
    rows = torch.arange(6)
    return Batch(images, rows % 5, rows, torch.full((6,), -1), strong)


class Counting(nn.Module):
    """Says how often it is run."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.runs = network, 0

    def forward(self, images: Tensor, *, taps: bool = False) -> Output:
        self.runs += 1
        output: Output = self.network(images, taps=taps)
        return output


def live(network: nn.Module, fast: nn.Module | None, *, taps: bool = False, precision: str = "fp32") -> LiveTeacher:
    return LiveTeacher(network, weights="w", precision=precision, taps=taps, fast=fast)


def test_logits_of_both_views_are_the_folded_networks(network: nn.Module, batch: Batch) -> None:
    slow, fast = Counting(network), Counting(folded(network, image_size=SIZE))
    teacher, plain = live(slow, fast), live(network, None)
    output, expected = teacher(batch), plain(batch)
    assert (slow.runs, fast.runs) == (0, 2)
    assert output.strong is not None
    assert expected.strong is not None
    torch.testing.assert_close(output.logits, expected.logits, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(output.strong.logits, expected.strong.logits, rtol=1e-5, atol=1e-5)
    assert not torch.equal(output.logits, output.strong.logits)
    assert not output.logits.requires_grad
    assert teacher.network is slow  # what objectives look at


def test_taps_are_those_of_the_network(network: nn.Module, batch: Batch) -> None:
    slow, fast = Counting(network), Counting(folded(network, image_size=SIZE))
    output = live(slow, fast, taps=True)(batch)
    assert (slow.runs, fast.runs) == (2, 0)
    assert len(output.features) == 4


def test_forms_that_round_differently_have_keys_of_their_own(network: nn.Module) -> None:
    fast = folded(network, image_size=SIZE)
    assert live(network, fast).key == live(network, copy.deepcopy(fast)).key
    assert live(network, fast).key != live(network, None).key
    assert live(network, fast, taps=True).key == live(network, None, taps=True).key  # not folded then
    assert live(network, network).key == live(network, None).key  # there was nothing to fold


def test_in_bf16_it_is_run_under_autocast(network: nn.Module, batch: Batch) -> None:
    fast = folded(network, image_size=SIZE)
    half, single = live(network, fast, precision="bf16")(batch).logits, live(network, fast)(batch).logits
    assert torch.equal(half, half.bfloat16().float())  # bf16 numbers, given as float32
    torch.testing.assert_close(half, single, rtol=0.05, atol=0.05 * float(single.abs().max()))


def test_students_of_either_form_agree_to_rounding(network: nn.Module, batch: Batch) -> None:
    students = []
    for fast in (None, folded(network, image_size=SIZE)):
        teacher = live(network, fast)
        with seeded(2, "student"):
            student = resnet8(num_classes=5)
        optimizer = torch.optim.SGD(student.parameters(), lr=0.05, momentum=0.9)
        for _ in range(5):
            loss = kd(student(batch.images).logits, teacher(batch).logits, temperature=4.0)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        students.append(student.state_dict())
    for key, value in students[0].items():
        torch.testing.assert_close(students[1][key], value, rtol=1e-3, atol=1e-5)


def test_a_table_may_be_built_by_either(network: nn.Module) -> None:
    dataset: ImageDataset = synthetic(classes=5, train_size=12, test_size=5, image_size=8, pad=1)
    index, view = torch.arange(12), torch.arange(12) % dataset.num_views
    found = [
        answers(each, dataset, precision="fp32", device=torch.device("cpu"))(index, view)
        for each in (network, folded(network, image_size=8))
    ]
    # the rows themselves are off by up to 7.6e-6 of their range
    reach = float(found[0].amax(dim=1).sub(found[0].amin(dim=1)).min())
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=7.6e-6 * reach)
