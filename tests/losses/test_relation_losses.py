"""Losses on relations in a batch against their formulas, written a second time with numpy, and their laws."""

from itertools import product

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from distill.losses import (
    angle_relation,
    distance_relation,
    neighbour_congruence,
    probabilistic_transfer,
    root,
    similarity_preserving,
    unit,
)

ALL = [similarity_preserving, probabilistic_transfer, neighbour_congruence, distance_relation, angle_relation]
UNORDERED = [loss for loss in ALL if loss is not neighbour_congruence]
CLOSE = {"rtol": 1e-9, "atol": 0}


def rows(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def huber(a, b):
    gap = abs(a - b)
    return gap**2 / 2 if gap <= 1 else gap - 0.5


def similarity_reference(s, t):
    def similarities(x):
        gram = np.array([[np.sum(a * b) for b in x] for a in x])
        return gram / np.sqrt((gram**2).sum(1, keepdims=True))

    return ((similarities(s) - similarities(t)) ** 2).sum() / len(s) ** 2


def probabilistic_reference(s, t):
    def probabilities(x):
        cosines = [[a @ b / np.sqrt((a @ a) * (b @ b)) for b in x] for a in x]
        kernel = (np.array(cosines) + 1) / 2
        return kernel / kernel.sum(1, keepdims=True)

    q, p = probabilities(s), probabilities(t)
    return (p * np.log((p + 1e-7) / (q + 1e-7))).sum() / len(s) ** 2


def congruence_reference(s, t):
    d = np.abs(s - t)
    return np.mean([(d[i] * d[i + 1]).sum() for i in range(len(d) - 1)])


def distance_reference(s, t):
    def relative(x):
        d = np.array([[np.linalg.norm(a - b) for b in x] for a in x])
        return d / (d.sum() / (len(x) * (len(x) - 1)))

    return np.mean([huber(a, b) for a, b in zip(relative(s).flat, relative(t).flat, strict=True)])


def angle_reference(s, t):
    def cosine(x, i, j, k):
        a, b = x[i] - x[j], x[k] - x[j]
        return a @ b / (np.linalg.norm(a) * np.linalg.norm(b)) if j not in (i, k) else 0

    return np.mean([huber(cosine(s, *three), cosine(t, *three)) for three in product(range(len(s)), repeat=3)])


FORMULAS = {
    similarity_preserving: similarity_reference,
    probabilistic_transfer: probabilistic_reference,
    neighbour_congruence: congruence_reference,
    distance_relation: distance_reference,
    angle_relation: angle_reference,
}


def pair(loss, batch=5, seed=0, dtype=torch.float64):
    """Embeddings of different lengths where the loss allows it."""
    other = 4 if loss is neighbour_congruence else 7
    return rows(batch, 4, seed=seed, dtype=dtype), 2 * rows(batch, other, seed=seed + 1, dtype=dtype) + 1


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("loss", ALL)
def test_the_formula(loss, seed):
    student, teacher = pair(loss, seed=10 * seed)
    value = loss(student, teacher)
    assert value.shape == ()
    assert value.item() == pytest.approx(FORMULAS[loss](student.numpy(), teacher.numpy()), rel=1e-10)


def test_similarities_of_maps_of_any_size():
    student, teacher = rows(5, 2, 4, 4), rows(5, 3, 2, 2, seed=1)
    expected = similarity_reference(student.numpy(), teacher.numpy())
    assert similarity_preserving(student, teacher).item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("loss", UNORDERED)
def test_the_order_of_the_batch_does_not_matter(loss):
    student, teacher = pair(loss)
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(loss(student[order], teacher[order]), loss(student, teacher), **CLOSE)
    assert not torch.isclose(loss(student[order], teacher), loss(student, teacher), rtol=1e-3)


def test_congruence_follows_the_order_and_averages_to_all_pairs():
    student, teacher = pair(neighbour_congruence, batch=4)
    orders = [torch.tensor(order) for order in product(range(4), repeat=4) if len(set(order)) == 4]
    values = torch.stack([neighbour_congruence(student[order], teacher[order]) for order in orders])
    assert values.std() > 0.1
    gram = (student - teacher).abs() @ (student - teacher).abs().T
    torch.testing.assert_close(values.mean(), (gram.sum() - gram.trace()) / 12, **CLOSE)


def twice(x):
    return torch.cat([x, x])


@pytest.mark.parametrize("batch", [3, 5])
def test_what_becomes_of_a_batch_written_twice(batch):
    def both(loss, scale=1.0):
        student, teacher = pair(loss, batch=batch)
        teacher = teacher if scale == 1 else torch.cat([student, scale * teacher], dim=1)
        return loss(twice(student), twice(teacher)), loss(student, teacher), student, teacher

    doubled, single, *_ = both(similarity_preserving)
    torch.testing.assert_close(doubled, single / 2, **CLOSE)
    doubled, single, *_ = both(probabilistic_transfer)
    torch.testing.assert_close(doubled, single / 2, rtol=1e-5, atol=0)
    doubled, single, *_ = both(angle_relation)
    torch.testing.assert_close(doubled, single, **CLOSE)
    doubled, single, student, teacher = both(neighbour_congruence)
    d = (student - teacher).abs()
    torch.testing.assert_close(doubled, (2 * (batch - 1) * single + d[0] @ d[-1]) / (2 * batch - 1), **CLOSE)
    doubled, single, *_ = both(distance_relation, scale=0.3)  # so much alike that Huber's loss is the square
    assert single > 1e-4
    torch.testing.assert_close(doubled, single * ((2 * batch - 1) / (2 * batch - 2)) ** 2, **CLOSE)


@pytest.mark.parametrize("loss", ALL)
def test_gradients(loss):
    student, teacher = (x.requires_grad_() for x in pair(loss, batch=4))
    assert torch.autograd.gradcheck(loss, (student, teacher))


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("loss", ALL)
def test_half_types_are_raised(loss, half):
    student, teacher = pair(loss, dtype=half)
    student.requires_grad_()
    value = loss(student, teacher)
    assert value.dtype == torch.float32
    assert torch.equal(value, loss(student.float(), teacher.float()))
    value.backward()
    assert student.grad.isfinite().all()
    assert loss(student.double(), teacher.double()).dtype == torch.float64


DEGENERATE = {
    "zeros": torch.zeros_like,
    "all equal": lambda x: x[:1].expand_as(x).clone(),
    "two equal": lambda x: torch.cat([x[:1], x[:-1]]),
    "one zero": lambda x: x * (torch.arange(len(x)) > 0)[:, None],
    "opposite": lambda x: torch.cat([x[:1], -x[:1], x[2:]]),
    "one sample": lambda x: x[:1],
    "no difference": lambda x: x,
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize("what", DEGENERATE)
@pytest.mark.parametrize("loss", ALL)
def test_degenerate_batches_have_finite_values_and_gradients(loss, what, dtype):
    original = pair(loss, dtype=dtype)
    for changed in ({0}, {1}, {0, 1}):
        if what == "one sample" and len(changed) < 2:
            continue
        student, teacher = (
            (DEGENERATE[what](x) if i in changed else x).clone().requires_grad_() for i, x in enumerate(original)
        )
        value = loss(student, teacher)
        value.backward()
        assert value.isfinite()
        assert student.grad.isfinite().all()
        assert teacher.grad.isfinite().all()


@pytest.mark.parametrize("loss", ALL)
def test_zero_for_equal_relations(loss):
    student, _ = pair(loss)
    assert loss(student, student).item() == pytest.approx(0, abs=1e-15)


def test_what_the_losses_do_not_see():
    student, teacher = pair(distance_relation)
    turn = torch.linalg.qr(rows(4, 4, seed=5)).Q
    lengths = torch.linspace(0.5, 2, 5).double()[:, None]
    for loss in (distance_relation, angle_relation):
        torch.testing.assert_close(loss(3 * student @ turn + 5, teacher), loss(student, teacher), **CLOSE)
    value = probabilistic_transfer(student, teacher)
    torch.testing.assert_close(probabilistic_transfer(lengths * student @ turn, teacher), value, **CLOSE)
    value = similarity_preserving(student, teacher)
    torch.testing.assert_close(similarity_preserving(3 * student @ turn, teacher), value, **CLOSE)


RELATIONS = [distance_relation, angle_relation]


@pytest.mark.parametrize("loss", RELATIONS)
def test_distances_far_from_the_origin_keep_their_digits(loss):
    student, teacher = (x + 1e6 for x in pair(loss, batch=8))
    exact = FORMULAS[loss](student.numpy(), teacher.numpy())
    assert loss(student, teacher).item() == pytest.approx(exact, rel=1e-7)


@pytest.mark.parametrize("loss", RELATIONS)
def test_small_distances_in_a_wide_batch_keep_their_digits(loss):
    """Two groups far apart: differences of Gram entries would lose the distances inside a group in float32."""
    apart = 3000 * (torch.arange(8) % 2)[:, None]
    student, teacher = (x.float() + apart for x in pair(loss, batch=8))
    exact = FORMULAS[loss](student.double().numpy(), teacher.double().numpy())
    assert loss(student, teacher).item() == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize("loss", RELATIONS)
def test_what_rounding_leaves_of_a_distance_has_no_direction(loss):
    x = rows(6, 4)
    nearly, exactly = torch.cat([x, x + 1e-11 * rows(6, 4, seed=1)]), torch.cat([x, x])
    assert loss(nearly, exactly) < 1e-18


def test_equal_embeddings_pass_no_gradient_through_each_other():
    student, teacher = pair(angle_relation, batch=4)
    student[1] = student[0]
    gradients = []
    for loss in (angle_relation, angles_of_distinct):
        leaf = student.clone().requires_grad_()
        loss(leaf, teacher).backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(*gradients)


def angles_of_distinct(s, t):
    """Triplet by triplet; those whose vertex is at the place of another sample have the student's cosine 0."""
    total = 0.0
    for i, j, k in product(range(len(s)), repeat=3):
        sides = [(x[i] - x[j], x[k] - x[j]) for x in (s, t)]
        distinct = [all(v.detach().any() for v in pair_of_sides) for pair_of_sides in sides]
        cosines = [
            torch.cosine_similarity(*v, dim=0) if d else torch.tensor(0.0) for v, d in zip(sides, distinct, strict=True)
        ]
        total = total + torch.nn.functional.smooth_l1_loss(*(c.double() for c in cosines))
    return total / len(s) ** 3


class Largest(TorchDispatchMode):
    """The largest number of entries of any tensor made."""

    entries = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.entries = max(self.entries, result.numel())
        return result


def test_angles_of_long_embeddings_need_no_difference_vectors():
    student, teacher = rows(16, 2048, dtype=torch.float32), rows(16, 2048, seed=1, dtype=torch.float32)
    with Largest() as largest:
        angle_relation(student, teacher)
    assert largest.entries == student.numel()


def test_root_and_unit_at_zero():
    squares = torch.tensor([0.0, 4.0, 1e-30], requires_grad=True)
    assert root(squares).tolist() == [0, 2, pytest.approx(1e-15)]
    assert root(squares, least=1e-20).tolist() == [0, 2, 0]
    root(squares, least=1e-20).sum().backward()
    assert squares.grad.tolist() == [0, 0.25, 0]
    vectors = torch.tensor([[0.0, 0.0], [3.0, 4.0], [1e-15, 0.0], [1e-6, 0.0]], requires_grad=True)
    torch.testing.assert_close(unit(vectors), torch.tensor([[0.0, 0.0], [0.6, 0.8], [0.0, 0.0], [1.0, 0.0]]))
    torch.testing.assert_close(unit(vectors.T, dim=0), unit(vectors).T)
    unit(vectors)[:, 1].sum().backward()
    torch.testing.assert_close(vectors.grad, torch.tensor([[0, 0], [-0.096, 0.072], [0, 0], [0, 1e6]]))


def test_cosines_rounded_below_minus_one_have_logarithms():
    """Some of these opposite unit vectors have a product of -1 - 2^-22: a kernel below -1e-7."""
    teacher = rows(2, 8, seed=1, dtype=torch.float32)
    for vector in rows(2000, 8, dtype=torch.float32):
        assert probabilistic_transfer(torch.stack([vector, -vector]), teacher).isfinite()
