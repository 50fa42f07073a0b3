"""The table against the live teacher: the same loss and gradient within the stated tolerance."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from accelerator import DEVICE, IS_CUDA
from linear_teacher import CPU, Linear, one_epoch
from torch import Tensor, nn

from distill.data import ImageDataset, synthetic
from distill.losses import kd, zscore_kd
from distill.models import resnet8
from distill.teachers import LiveTeacher, TableTeacher
from distill.teachers.table import TableSpec, encode
from distill.teachers.table_build import answers
from distill.training import seeded

Loss = Callable[..., Tensor]


def table_of(network: nn.Module, dataset: ImageDataset) -> TableTeacher:
    """A table in memory."""
    spec = TableSpec.of(dataset, weights="w", precision="fp32", device="cpu")
    row = torch.arange(spec.rows)
    logits = answers(network, dataset, precision="fp32", device=CPU)(row // spec.views, row % spec.views)
    return TableTeacher(encode(logits), spec=spec, network=network, device=CPU)


@pytest.fixture(scope="module")
def hundred() -> tuple[ImageDataset, Linear]:
    """100 classes, whose teacher's logits deviate by about 3."""
    dataset = synthetic(classes=100, train_size=128, test_size=100, image_size=8, pad=2)
    return dataset, Linear(dataset, spread=3.0)


def untrained(teacher: Tensor, noise: Tensor) -> Tensor:
    return 0.1 * noise


def half_trained(teacher: Tensor, noise: Tensor) -> Tensor:
    return 0.5 * teacher + noise


def near_the_teacher(teacher: Tensor, noise: Tensor) -> Tensor:
    return teacher + 0.1 * noise


@pytest.mark.parametrize(("loss", "temperature"), [(kd, 4.0), (zscore_kd, 2.0)])
@pytest.mark.parametrize("student", [untrained, half_trained, near_the_teacher])
def test_loss_and_gradient_are_those_of_the_live_teacher(
    hundred: tuple[ImageDataset, Linear], student: Callable[..., Tensor], loss: Loss, temperature: float
) -> None:
    dataset, network = hundred
    live, table = LiveTeacher(network, weights="w", precision="fp32", taps=False), table_of(network, dataset)
    for batch in one_epoch(dataset):
        # In float64: near the teacher float32's own rounding of the KL divergence is larger than the table's error.
        expected, found = live(batch).logits.double(), table(batch).logits.double()
        assert 2.0 < expected.std() < 4.0
        noise = torch.randn(expected.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
        values, gradients = [], []
        for logits in (expected, found):
            mine = student(expected, noise).requires_grad_()
            value = loss(mine, logits, temperature=temperature)
            (gradient,) = torch.autograd.grad(value, mine)
            values.append(value.detach())
            gradients.append(gradient)
        assert (values[1] - values[0]).abs() <= 1e-4 * values[0]
        assert (gradients[1] - gradients[0]).norm() <= 1e-3 * gradients[0].norm()


def test_it_answers_by_image_and_view_with_logits_alone(dataset: ImageDataset, linear: Linear) -> None:
    table = table_of(linear, dataset)
    for batch in one_epoch(dataset, batch_size=5):
        output = table(replace(batch, images=torch.zeros(0)))  # it never looks at the images
        torch.testing.assert_close(output.logits, linear(batch.images).logits, rtol=0, atol=3e-4)
        assert output.logits.dtype == torch.float32
        assert not output.logits.requires_grad
        assert (output.features, output.embedding, output.strong) == ((), None, None)


def test_the_teacher_is_asked_in_eval_mode(dataset: ImageDataset) -> None:
    with seeded(1, "teacher"):
        network = resnet8(num_classes=5).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    table = table_of(network, dataset)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    for batch in one_epoch(dataset, batch_size=5):
        torch.testing.assert_close(table(batch).logits, network.eval()(batch.images).logits, rtol=1e-3, atol=1e-4)


def test_it_refuses_what_it_cannot_know(dataset: ImageDataset, linear: Linear) -> None:
    table, batch = table_of(linear, dataset), one_epoch(dataset)[0]
    with pytest.raises(ValueError, match="strong view"):
        table(replace(batch, strong=batch.images))
    view = batch.view.clone()
    view[3] = -1
    with pytest.raises(ValueError, match="got view -1"):
        table(replace(batch, view=view))
    (evaluation,) = dataset.evaluation_stream(batch_size=len(dataset.evaluation_labels), device="cpu")
    with pytest.raises(ValueError, match="got view -1"):
        table(evaluation)


def test_on_a_gpu_a_row_without_a_view_is_no_number_and_nothing_waits(dataset: ImageDataset, linear: Linear) -> None:
    """What runs on CUDA: its values, and on the meta device that no value is read."""
    table, batch = table_of(linear, dataset), one_epoch(dataset)[0]
    view = batch.view.clone()
    view[3] = -1
    found, expected = table._unchecked(batch.index * table._views + view, view).logits, table(batch).logits
    assert found[3].isnan().all()
    others = torch.arange(len(view)) != 3
    assert torch.equal(found[others], expected[others])
    table._rows = table._rows.to("meta")
    output = table(replace(batch, index=batch.index.to("meta"), view=batch.view.to("meta")))
    assert output.logits.shape == (12, 5)


def test_its_key_tells_it_from_the_live_teacher_and_from_other_tables(dataset: ImageDataset, linear: Linear) -> None:
    table = table_of(linear, dataset)
    assert table.key == table_of(linear, dataset).key
    assert "table" in table.key  # type: ignore[operator]
    assert table.key != LiveTeacher(linear, weights="w", precision="fp32", taps=False).key
    other = replace(TableSpec.of(dataset, weights="w", precision="fp32", device="cpu"), weights="v")
    assert TableTeacher(table._rows, spec=other, network=linear, device=CPU).key != table.key


def test_rows_of_another_shape_are_refused(dataset: ImageDataset, linear: Linear) -> None:
    spec = TableSpec.of(dataset, weights="w", precision="fp32", device="cpu")
    with pytest.raises(ValueError, match=r"rows must be 216 \(images x views\), got 9"):
        TableTeacher(torch.zeros(9, 10, dtype=torch.int16), spec=spec, network=linear, device=CPU)


@pytest.mark.gpu
@pytest.mark.skipif(not IS_CUDA, reason="a CPU has no memory of its own")
@pytest.mark.parametrize("share", [0.0, 0.5], ids=["on the host", "resident"])
def test_on_a_gpu_it_answers_as_on_the_cpu(
    dataset: ImageDataset, linear: Linear, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distill.teachers.table.SHARE", share)
    expected, device = table_of(linear, dataset), DEVICE
    spec = TableSpec.of(dataset, weights="w", precision="fp32", device="cpu")
    table = TableTeacher(expected._rows, spec=spec, network=linear, device=device)
    assert table._rows.is_cuda is (share > 0)
    batch = one_epoch(dataset)[0]
    view = batch.view.clone()
    view[3] = -1
    moved = replace(batch, index=batch.index.to(device), view=view.to(device))
    logits = table(moved).logits.cpu()
    assert logits[3].isnan().all()
    kept = torch.arange(12) != 3
    torch.testing.assert_close(logits[kept], expected(batch).logits[kept])
