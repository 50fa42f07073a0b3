"""Every method can be minimised: steps on one batch at fixed progress lower it, also without the cross-entropy."""

import pytest
import torch
from method_presets import METHODS, reference_module
from method_trials import Trial, trial
from torch import Tensor

STEPS = 8


def descent(method: Trial, *, without: str = "") -> tuple[float, float]:
    """The loss before and after Adam's steps on student and objective; adversaries stand still."""
    batch = method.batch()
    adversarial = getattr(reference_module(method.name), "ADVERSARIAL", "")
    parameters = list(method.student.parameters()) if adversarial else method.learned()
    optimizer = torch.optim.Adam([p for p in parameters if p.requires_grad], lr=0.01)

    def loss() -> Tensor:
        terms = method.terms(batch, progress=300.0)
        return torch.stack([value for term, value in terms.items() if term != without]).sum()

    first = loss().item()
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    return first, loss().item()


@pytest.mark.parametrize("name", METHODS)
def test_steps_on_a_batch_lower_the_loss(name: str) -> None:
    first, last = descent(trial(name))
    assert last < first - 0.001 * abs(first), (first, last)


@pytest.mark.parametrize("name", METHODS)
def test_steps_lower_what_the_method_adds_to_the_cross_entropy(name: str) -> None:
    method = trial(name)
    added = set(method.terms(method.batch())) - {"ce"}
    first, last = descent(method, without="ce" if added else "")
    assert last < first - 0.001 * abs(first), (first, last)
