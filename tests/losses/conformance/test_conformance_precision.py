"""Every method is computed in at least float32, whatever the outputs are."""

import pytest
import torch
from method_presets import METHODS
from method_trials import Trial, mapped, tensors, trial

HALVES = [torch.bfloat16, torch.float16]


def leaves(method: Trial, outputs: tuple, change) -> tuple:
    """The outputs as tensors of their own, changed."""
    return tuple(output and mapped(output, lambda t: change(t.detach()).requires_grad_()) for output in outputs)


@pytest.mark.parametrize("scale", [1, 10])
@pytest.mark.parametrize("half", HALVES, ids=str)
@pytest.mark.parametrize("name", METHODS)
def test_half_types(name: str, half: torch.dtype, scale: int) -> None:
    method, exact = trial(name), trial(name)
    batch = method.batch()
    outputs = leaves(method, method.outputs(batch), lambda t: (scale * t).to(half))
    terms = method.terms(batch, outputs=outputs)
    expected = exact.terms(batch, outputs=leaves(method, outputs, torch.Tensor.float))
    torch.stack(list(terms.values())).sum().backward()
    assert list(terms) == list(expected)
    for term, value in terms.items():
        assert value.dtype == torch.float32, term
        assert value.isfinite(), term
        assert value.item() == pytest.approx(expected[term].item(), rel=1e-4, abs=1e-6), term
    reached = [tensor for tensor in tensors(outputs[0]) if tensor.grad is not None]
    assert reached
    for tensor in [*reached, *(p for p in method.objective.parameters() if p.grad is not None)]:
        assert tensor.grad.isfinite().all()
    assert outputs[1] is None or all(tensor.grad is None for tensor in tensors(outputs[1]))
