"""Every method computes the formula: in float64 its terms are those of tests/losses/references/NAME.py."""

from types import ModuleType

import pytest
import torch
from method_presets import METHODS, reference_module
from method_trials import DRAWS, EPOCHS, Case, Trial, mapped, pairs, trial, twice


def the_reference(name: str) -> ModuleType:
    """The module of a preset's reference; a preset without one fails by name."""
    module = reference_module(name)
    assert module is not None, (
        f"loss={name} has no reference: write tests/losses/references/{name.replace('/', '_')}.py with "
        "`def reference(case) -> dict[str, float]`, from the formula (see conformance/method_presets.py)"
    )
    return module


@pytest.mark.parametrize("progress", EPOCHS)
@pytest.mark.parametrize("name", METHODS)
def test_the_terms_are_those_of_the_formula(name: str, progress: float) -> None:
    module = the_reference(name)
    for pair in pairs(name):
        method = Trial(name, pair, dtype=torch.float64)
        batch = method.batch()
        outputs = method.outputs(batch)
        before = {key: value.clone() for key, value in method.objective.state_dict().items()}
        terms = {term: value.item() for term, value in method.terms(batch, progress=progress, outputs=outputs).items()}
        student, teacher = (output and mapped(output, torch.Tensor.detach) for output in outputs)
        case = Case(student, teacher, batch, progress, method.objective, method.student, method.teacher, before)
        torch.manual_seed(DRAWS)
        with torch.no_grad():
            expected = {term: float(value) for term, value in module.reference(case).items()}
        assert terms == pytest.approx(expected, rel=1e-9, abs=1e-12), pair


@pytest.mark.parametrize("name", METHODS)
def test_a_batch_written_twice(name: str) -> None:
    """The same loss where it is a mean of per-sample terms, else what its law says."""
    single, doubled = (trial(name, dtype=torch.float64) for _ in range(2))
    batch = single.batch()
    one, two = single.values(batch), doubled.values(twice(batch))
    sentence = single.objective.relational
    if not sentence:
        assert two == pytest.approx(one, rel=1e-9, abs=1e-12)
        return
    law = getattr(the_reference(name), "law", None)
    assert len(sentence.split()) >= 5, "a relational method says in a sentence what it compares across the batch"
    assert law is not None, f"loss={name} is relational: its reference needs `def law(single, doubled)`"
    law(one, two)
