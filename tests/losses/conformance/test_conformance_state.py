"""What a method learns and remembers is its state: it follows from the seed, and moves to another objective whole."""

import copy

import pytest
import torch
from method_presets import METHODS
from method_trials import Trial, trial

from distill.data import Batch


def used(name: str, *, seed: int = 1) -> tuple[Trial, Batch]:
    """A method after two steps of training."""
    method = trial(name, seed=seed)
    batch = method.batch()
    optimizer = torch.optim.SGD(method.learned(), lr=1e-4)
    for _ in range(2):
        optimizer.zero_grad()
        torch.stack(list(method.terms(batch).values())).sum().backward()
        optimizer.step()
    return method, batch


@pytest.mark.parametrize("name", METHODS)
def test_the_state_moves_to_a_fresh_objective(name: str) -> None:
    method, batch = used(name)
    fresh = trial(name, seed=2)
    fresh.objective.load_state_dict(method.objective.state_dict())
    fresh.student.load_state_dict(method.student.state_dict())
    assert fresh.values(batch) == method.values(batch)
    assert fresh.values(batch) == method.values(batch)  # and what the first forward left behind is the same, too


@pytest.mark.parametrize("name", METHODS)
def test_a_copy_goes_its_own_way(name: str) -> None:
    method, batch = used(name)
    outputs = method.outputs(batch)
    copied = copy.deepcopy(method.objective)
    before = {key: value.clone() for key, value in copied.state_dict().items()}
    expected = method.values(batch)
    assert all(torch.equal(value, before[key]) for key, value in copied.state_dict().items())
    method.objective = copied
    again = {term: value.item() for term, value in method.terms(batch, outputs=outputs).items()}
    assert again == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", METHODS)
def test_the_seed_decides(name: str) -> None:
    one, same, other = (trial(name, seed=seed).objective.state_dict() for seed in (1, 1, 2))
    assert one.keys() == same.keys() == other.keys()
    assert all(torch.equal(value, same[key]) for key, value in one.items())
    drawn = {key for key, value in one.items() if value.ndim > 1 and value.numel() > 1 and value.min() < value.max()}
    assert not drawn or any(not torch.equal(one[key], other[key]) for key in drawn)


@pytest.mark.parametrize("name", METHODS)
def test_all_tensors_move_with_it(name: str) -> None:
    """A tensor that is neither parameter nor buffer would stay on the CPU, and out of the checkpoint."""
    for module in trial(name).objective.modules():
        strays = [key for key, value in vars(module).items() if isinstance(value, torch.Tensor)]
        assert strays == []
