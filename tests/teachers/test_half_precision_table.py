"""The table of a teacher in bf16: it holds that teacher's own logits, as exactly as those of any other."""

from collections.abc import Callable

import pytest
import torch
from linear_teacher import CPU, one_epoch
from torch import Tensor, nn

from distill.data import ImageDataset, synthetic
from distill.losses import kd, zscore_kd
from distill.models import folded, resnet8
from distill.teachers import LiveTeacher, TableTeacher
from distill.teachers.table import TableSpec, decode, encode
from distill.teachers.table_build import answers
from distill.training import seeded

BF16 = 2**-8  # how far a number is rounded, relative to itself


@pytest.fixture(scope="module")
def dataset() -> ImageDataset:
    return synthetic(classes=20, train_size=40, test_size=20, image_size=8, pad=1)


@pytest.fixture(scope="module")
def network(dataset: ImageDataset) -> nn.Module:
    """A folded teacher whose logits deviate by about 3."""
    with seeded(1, "teacher"):
        made = resnet8(num_classes=20)
    images = torch.cat([batch.images for batch in one_epoch(dataset)])
    for _ in range(20):
        made(images)
    with torch.no_grad():
        made.eval()
        made.fc.weight *= 3.0 / made(images).logits.std()
    return folded(made, image_size=8)


def live(network: nn.Module, precision: str = "bf16") -> LiveTeacher:
    return LiveTeacher(network, weights="w", precision=precision, taps=False)


def table(network: nn.Module, dataset: ImageDataset, precision: str = "bf16") -> TableTeacher:
    spec = TableSpec.of(dataset, weights="w", precision=precision, device="cpu")
    row = torch.arange(spec.rows)
    logits = answers(network, dataset, precision=precision, device=CPU)(row // spec.views, row % spec.views)
    return TableTeacher(encode(logits), spec=spec, network=network, device=CPU)


def gradient(loss: Callable[..., Tensor], student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    student = student.clone().requires_grad_()
    value = loss(student, teacher, temperature=4.0)
    (found,) = torch.autograd.grad(value, student)
    return value.detach(), found


def test_its_rows_are_the_live_teachers_to_a_unit_in_the_last_place(network: nn.Module, dataset: ImageDataset) -> None:
    """The build asks for other batches than training does, where a kernel may add up in another order and a bf16
    number come out as its neighbour; mostly it does not."""
    mine, reference = table(network, dataset), live(network)
    exact = 0
    for batch in one_epoch(dataset, batch_size=16):
        found, expected = mine(batch).logits, reference(batch).logits
        assert torch.equal(expected, expected.bfloat16().float())
        off = (found - expected).abs()
        reach = expected.abs().amax(dim=1, keepdim=True)
        assert (off <= 4 * BF16 * reach).all()
        exact += int((off <= 2e-5 * reach).sum())
    assert exact >= 0.9 * 40 * 20


@pytest.mark.parametrize("loss", [kd, zscore_kd])
def test_loss_and_gradient_are_within_the_tables_tolerance(
    network: nn.Module, dataset: ImageDataset, loss: Callable[..., Tensor]
) -> None:
    """Of what the teacher said in bf16; in which batch it said so is the test above."""
    for batch in one_epoch(dataset):
        said = live(network)(batch).logits
        expected, found = said.double(), decode(encode(said), classes=20).double()
        noise = torch.randn(expected.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
        for student in (0.1 * noise, 0.5 * expected + noise, expected + 0.1 * noise):
            (value, slope), (other, other_slope) = (gradient(loss, student, t) for t in (expected, found))
            assert (other - value).abs() <= 1e-4 * value
            assert (other_slope - slope).norm() <= 1e-3 * slope.norm()


def test_it_is_another_table_than_the_fp32_teachers(network: nn.Module, dataset: ImageDataset) -> None:
    half, single = table(network, dataset), table(network, dataset, "fp32")
    assert half.key != single.key
    (batch,) = one_epoch(dataset)
    off = (half(batch).logits - single(batch).logits).abs().max() / single(batch).logits.abs().max()
    assert 1e-4 < off < 0.05
