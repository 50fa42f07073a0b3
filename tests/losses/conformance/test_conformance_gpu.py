"""Every method on a GPU: the numbers of the CPU, and no step of it waits for the device."""

import copy
from dataclasses import fields

import pytest
import torch
from accelerator import DEVICE, waiting_is_an_error
from method_presets import METHODS
from method_trials import Trial, mapped, trial

from distill.data import Batch

pytestmark = pytest.mark.gpu


def draws_nothing(name: str) -> bool:
    """Whether the terms are the same with another state of torch's generator."""
    methods = [trial(name, dtype=torch.float64) for _ in range(2)]
    one, other = (method.terms(method.batch(), seed=seed) for seed, method in enumerate(methods))
    return all(torch.equal(one[term], other[term]) for term in one)


def on_gpu(method: Trial, batch: Batch) -> tuple[Batch, list]:
    """The batch and the outputs of both networks, moved; the outputs want gradients."""
    outputs = [o and mapped(o, lambda t: t.detach().to(DEVICE).requires_grad_()) for o in method.outputs(batch)]
    moved = {f.name: getattr(batch, f.name) for f in fields(Batch)}
    return Batch(**{key: value if value is None else value.to(DEVICE) for key, value in moved.items()}), outputs


@pytest.mark.parametrize("name", METHODS)
def test_the_numbers_of_the_cpu_without_waiting(name: str) -> None:
    method = trial(name, dtype=torch.float64)
    batch = method.batch()
    moved, outputs = on_gpu(method, batch)
    there = copy.deepcopy(method)  # as one, since an objective may refer to a part of a network
    for module in (there.student, there.teacher, there.objective):
        if module is not None:
            module.to(DEVICE)
    objective = there.objective
    expected = method.values(batch)

    progress = torch.tensor(5.5, dtype=torch.float64, device=DEVICE)
    copy.deepcopy(objective)(*outputs, moved, progress)  # libraries get ready, which may take waiting
    with waiting_is_an_error():
        terms = objective(*outputs, moved, progress)
        torch.autograd.backward(torch.stack(list(terms.values())).sum())
    assert all(value.isfinite() and value.device == DEVICE for value in terms.values())
    if draws_nothing(name):
        found = {term: value.item() for term, value in terms.items()}
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)
