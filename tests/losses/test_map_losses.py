"""Losses on feature maps against their formulas, written a second time with numpy, and their properties."""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from distill.losses import attention_transfer, gaussian_information, hint, neuron_selectivity, to_common_size

PAIRED = [attention_transfer, neuron_selectivity]
SIZES = [(4, 4), (6, 4), (4, 6), (5, 3)]  # of the student's map, the teacher's being 4 x 4


def maps(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def gaussian(predicted, teacher_map):
    return gaussian_information(predicted, teacher_map, variance=torch.linspace(0.5, 2, 3).to(predicted))


def pooled(x, height, width):
    """Adaptive average pooling of numpy maps (B, C, H, W): cell i covers rows floor(i H / h) to ceil((i + 1) H / h)."""
    rows = [slice(i * x.shape[2] // height, -(-(i + 1) * x.shape[2] // height)) for i in range(height)]
    columns = [slice(i * x.shape[3] // width, -(-(i + 1) * x.shape[3] // width)) for i in range(width)]
    return np.array([[x[:, :, r, c].mean((2, 3)) for c in columns] for r in rows]).transpose(2, 3, 0, 1)


def smaller(student, teacher):
    height, width = (min(pair) for pair in zip(student.shape[2:], teacher.shape[2:], strict=True))
    return pooled(student, height, width), pooled(teacher, height, width)


def attention_reference(student, teacher, power=2):
    def attention(x):
        q = (np.abs(x) ** power).sum(1).reshape(len(x), -1)
        return q / np.sqrt((q**2).sum(1, keepdims=True))

    s, t = smaller(student, teacher)
    return ((attention(s) - attention(t)) ** 2).mean()


def selectivity_reference(student, teacher):
    def kernel_mean(a, b):
        return np.mean([[(x @ y) ** 2 for y in b] for x in a])

    losses = []
    for s, t in zip(*smaller(student, teacher), strict=True):
        s, t = (x.reshape(len(x), -1) / np.sqrt((x**2).sum((1, 2)))[:, None] for x in (s, t))
        losses.append(kernel_mean(s, s) + kernel_mean(t, t) - 2 * kernel_mean(s, t))
    return np.mean(losses)


@pytest.mark.parametrize("size", SIZES)
def test_the_larger_map_is_averaged_down(size):
    student, teacher = maps(2, 3, *size), maps(2, 5, 4, 4, seed=1)
    for result, expected in zip(
        to_common_size(student, teacher), smaller(student.numpy(), teacher.numpy()), strict=True
    ):
        np.testing.assert_allclose(result.numpy(), expected, rtol=1e-12)
    same = to_common_size(teacher, teacher)
    assert same[0] is teacher
    assert same[1] is teacher


@pytest.mark.parametrize("power", [1, 2, 4])
@pytest.mark.parametrize("size", SIZES)
def test_attention_transfer_is_the_formula(size, power):
    student, teacher = maps(2, 3, *size), maps(2, 5, 4, 4, seed=1)
    value = attention_transfer(student, teacher, power=power)
    assert value.shape == ()
    assert value.item() == pytest.approx(attention_reference(student.numpy(), teacher.numpy(), power), rel=1e-12)


@pytest.mark.parametrize("channels", [(3, 5), (40, 24), (2, 40)])
@pytest.mark.parametrize("size", SIZES)
def test_neuron_selectivity_is_the_formula_by_whichever_gram_matrix(size, channels):
    student, teacher = maps(2, channels[0], *size), maps(2, channels[1], 4, 4, seed=1)
    value = neuron_selectivity(student, teacher)
    assert value.shape == ()
    assert value.item() == pytest.approx(selectivity_reference(student.numpy(), teacher.numpy()), rel=1e-10)


class Largest(TorchDispatchMode):
    """The largest number of entries of any tensor made."""

    entries = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.entries = max(self.entries, result.numel())
        return result


@pytest.mark.parametrize(("channels", "side"), [(512, 2), (8, 32)])
def test_neuron_selectivity_makes_the_smaller_gram_matrix(channels, side):
    student, teacher = maps(2, channels, side, side), maps(2, channels, side, side, seed=1)
    with Largest() as largest:
        neuron_selectivity(student, teacher)
    assert largest.entries == student.numel()


def test_hint_and_gaussian_are_the_formula():
    predicted, teacher = maps(2, 3, 4, 5), maps(2, 3, 4, 5, seed=1)
    error = (predicted - teacher).numpy() ** 2
    assert hint(predicted, teacher).item() == pytest.approx(error.mean(), rel=1e-12)
    variance = np.array([0.5, 1.25, 2.0])[:, None, None]
    expected = (error / (2 * variance) + np.log(np.sqrt(variance))).mean()
    assert gaussian(predicted, teacher).item() == pytest.approx(expected, rel=1e-12)
    likelihood = torch.distributions.Normal(predicted, torch.tensor(variance).sqrt()).log_prob(teacher).mean()
    constant = np.log(2 * np.pi) / 2
    assert gaussian(predicted, teacher).item() == pytest.approx(-likelihood.item() - constant, rel=1e-12)


ALL = [attention_transfer, neuron_selectivity, hint, gaussian]


@pytest.mark.parametrize("loss", ALL)
def test_per_sample_in_any_order(loss):
    student, teacher = maps(4, 3, 4, 4), maps(4, 3, 4, 4, seed=1)
    value = loss(student, teacher)
    one_by_one = torch.stack([loss(student[i : i + 1], teacher[i : i + 1]) for i in range(4)]).mean()
    torch.testing.assert_close(one_by_one, value, rtol=1e-12, atol=0)
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(loss(student[order], teacher[order]), value, rtol=1e-12, atol=0)


@pytest.mark.parametrize("loss", ALL)
def test_gradients(loss):
    student, teacher = maps(2, 3, 2, 3).requires_grad_(), maps(2, 3, 2, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(loss, (student, teacher))


@pytest.mark.parametrize("shapes", [((2, 9, 2, 2), (2, 7, 2, 3)), ((2, 2, 4, 4), (2, 3, 4, 4))])
def test_gradients_of_the_discrepancy_in_both_forms(shapes):
    student, teacher = (maps(*shape, seed=i).requires_grad_() for i, shape in enumerate(shapes))
    assert torch.autograd.gradcheck(neuron_selectivity, (student, teacher))


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("loss", ALL)
def test_half_types_are_raised(loss, half):
    student, teacher = maps(2, 3, 4, 4, dtype=half).requires_grad_(), maps(2, 3, 4, 4, seed=1, dtype=half)
    value = loss(student, teacher)
    assert value.dtype == torch.float32
    assert torch.equal(value, loss(student.float(), teacher.float()))
    value.backward()
    assert student.grad.isfinite().all()
    assert loss(student.float(), teacher).dtype == torch.float32
    assert loss(student.double(), teacher.double()).dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("dead", ["all", "one image", "one channel"])
@pytest.mark.parametrize("loss", PAIRED)
def test_dead_maps_have_finite_gradients(loss, dead, dtype):
    student, teacher = (maps(2, 3, 4, 4, seed=seed, dtype=dtype) for seed in range(2))
    part = {"all": ..., "one image": 0, "one channel": (slice(None), 0)}[dead]
    for sides in ((student,), (teacher,), (student, teacher)):
        pair = [x.clone() for x in (student, teacher)]
        for x, original in zip(pair, (student, teacher), strict=True):
            if any(original is side for side in sides):
                x[part] = 0
            x.requires_grad_()
        value = loss(*pair)
        value.backward()
        assert value.isfinite()
        assert all(x.grad.isfinite().all() for x in pair)
    assert value.item() == 0 or dead != "all"


def test_what_the_losses_do_not_see():
    student, teacher = maps(2, 3, 4, 4), maps(2, 5, 4, 4, seed=1)
    by_image = torch.tensor([3.0, 0.2]).double()[:, None, None, None]
    by_channel = torch.tensor([3.0, 0.2, 7.0]).double()[:, None, None]
    close = {"rtol": 1e-10, "atol": 0}
    torch.testing.assert_close(
        attention_transfer(by_image * student, teacher), attention_transfer(student, teacher), **close
    )
    torch.testing.assert_close(attention_transfer(-student, teacher), attention_transfer(student, teacher), **close)
    value = neuron_selectivity(student, teacher)
    torch.testing.assert_close(neuron_selectivity(by_channel * student, teacher), value, **close)
    torch.testing.assert_close(neuron_selectivity(student[:, [2, 0, 1]], teacher), value, **close)
    moved = [
        x.flatten(2)[:, :, torch.randperm(16, generator=torch.Generator().manual_seed(2))] for x in (student, teacher)
    ]
    torch.testing.assert_close(neuron_selectivity(*(x.unflatten(2, (4, 4)) for x in moved)), value, **close)


@pytest.mark.parametrize("loss", [attention_transfer, neuron_selectivity, hint])
def test_zero_for_equal_maps_and_positive_for_others(loss):
    student, teacher = maps(2, 3, 4, 4), maps(2, 3, 4, 4, seed=1)
    assert loss(student, student).item() == pytest.approx(0, abs=1e-15)
    assert loss(student, teacher) > 1e-3


def test_wide_maps_do_not_overflow():
    """Powers of float16's largest numbers, summed over channels, still fit."""
    student = torch.full((1, 64, 2, 2), 6e4, dtype=torch.float16, requires_grad=True)
    for loss in PAIRED:
        value = loss(student, maps(1, 2, 2, 2, dtype=torch.float16))
        value.backward()
        assert value.isfinite()
        assert student.grad.isfinite().all()
