"""Every method: scalar finite terms, a gradient for what learns and none for the teacher, also where nothing varies."""

from dataclasses import replace

import pytest
import torch
from method_networks import networks
from method_presets import METHODS, PRESETS
from method_trials import EPOCHS, Trial, mapped, pairs, tensors, trial

CONSTANT = {"both": (True, True), "the student": (True, False), "the teacher": (False, True)}


def test_every_preset_is_tried() -> None:
    assert set(PRESETS.groups["loss"]) <= set(METHODS)


@pytest.mark.parametrize("name", METHODS)
def test_terms_are_finite_scalars(name: str) -> None:
    method = trial(name)
    for progress in EPOCHS:
        terms = method.terms(method.batch(), progress=progress)
        assert terms, "no term"
        for term, value in terms.items():
            assert isinstance(term, str)
            assert value.shape == (), term
            assert value.isfinite(), (term, progress)
            assert value.dtype == torch.float32, term


@pytest.mark.parametrize("name", METHODS)
def test_the_gradient_reaches_all_that_learns_and_never_the_teacher(name: str) -> None:
    method = trial(name)
    assert all(parameter.requires_grad for network in _teachers(method) for parameter in network.parameters())
    terms = method.terms(method.batch())
    others = [term for label, term in terms.items() if label != "ce"] or list(terms.values())
    torch.stack(others).sum().backward(retain_graph=True)
    assert _norm(method.student.parameters()) > 0, "nothing but the cross-entropy teaches the student"
    torch.stack(list(terms.values())).sum().backward()
    for parameter in method.student.parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all()
    for label, parameter in method.objective.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, f"{label} learns nothing"
            assert parameter.grad.isfinite().all(), label
    if list(method.objective.parameters()):
        assert _norm(method.objective.parameters()) > 0, "the method's own parameters learn nothing"
    for network in _teachers(method):
        assert all(parameter.grad is None for parameter in network.parameters()), "a gradient reached the teacher"


@pytest.mark.parametrize("name", METHODS)
def test_label_smoothing_reaches_the_cross_entropy_and_nothing_else(name: str) -> None:
    found = {}
    for smoothing in (0.0, 0.25, 1.0):
        method = trial(name, dtype=torch.float64)
        method.objective.smooth_labels(smoothing)
        found[smoothing] = method.values(method.batch())
    plain, smoothed, uniform = found.values()
    of_labels = [term for term in plain if term.rpartition("/")[2] == "ce"]
    assert bool(of_labels) is (method.objective.ce_weight > 0)
    for term in of_labels:
        assert smoothed[term] == pytest.approx(0.75 * plain[term] + 0.25 * uniform[term], rel=1e-9)
        assert smoothed[term] != plain[term]
    batch = method.batch()
    other = method.values(replace(batch, labels=batch.labels.roll(1)))
    assert all(other[term] == pytest.approx(uniform[term], rel=1e-9) for term in of_labels), "no label is in it"
    assert all(plain[term] == smoothed[term] == uniform[term] for term in plain.keys() - set(of_labels))


@pytest.mark.parametrize("name", METHODS)
def test_no_network_is_part_of_the_objective(name: str) -> None:
    """Its parameters would be saved twice, and a teacher's trained."""
    method = trial(name)
    held = {id(tensor) for tensor in [*method.objective.parameters(), *method.objective.buffers()]}
    networks = [*_teachers(method), *([] if method.objective.deploys else [method.student])]
    for network in networks:
        assert not held & {id(tensor) for tensor in [*network.parameters(), *network.buffers()]}
    trained = {id(parameter) for parameter in method.learned() if parameter.requires_grad}
    assert not trained & {id(parameter) for network in _teachers(method) for parameter in network.parameters()}


@pytest.mark.parametrize("name", METHODS)
def test_what_it_says_of_itself_is_what_it_does(name: str) -> None:
    method = trial(name)
    assert (method.objective.strong_view is not None) is method.objective.two_views
    student, _ = networks(pairs(name)[0])
    assert (type(method.student) is not type(student)) is method.objective.deploys


@pytest.mark.parametrize("constant", CONSTANT)
@pytest.mark.parametrize("name", METHODS)
def test_constant_logits_and_zero_maps_have_a_gradient(name: str, constant: str) -> None:
    """Where nothing varies, deviations and distances are 0 and their slopes infinite."""
    method = trial(name)
    batch = method.batch()

    def flat(tensor: torch.Tensor) -> torch.Tensor:
        return torch.full_like(tensor, 1.0 if tensor.shape == (len(batch.labels), 5) else 0.0)

    given = []
    for output, is_flat in zip(method.outputs(batch), CONSTANT[constant], strict=True):
        given.append(output and mapped(output, lambda t, f=is_flat: (flat(t) if f else t.detach()).requires_grad_()))
    terms = method.terms(batch, outputs=tuple(given))
    torch.stack(list(terms.values())).sum().backward()
    for term, value in terms.items():
        assert value.isfinite(), term
    for tensor in [*tensors(given[0]), *method.objective.parameters()]:
        assert tensor.grad is None or tensor.grad.isfinite().all()


def _teachers(method: Trial) -> list[torch.nn.Module]:
    return [] if method.teacher is None else [method.teacher]


def _norm(parameters) -> float:
    return sum(float(parameter.grad.norm()) for parameter in parameters if parameter.grad is not None)
