"""Tries a loss once before training.

On meta tensors, or on random logits if it reads only logits, which also checks its gradient.
"""

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor, nn

from distill.config.build import sentences, try_network
from distill.config.faults import Fault, Refused
from distill.config.own_code import KNOWN_PACKAGES
from distill.config.plan import MethodFlags
from distill.config.rebuild import rebuild_network
from distill.data import Batch
from distill.losses import Objective, Task
from distill.models import Network, Output, outline
from distill.runs.store import RunRecord
from distill.training import seeded

REHEARSED_IMAGES = 2
ROWS = 16  # of random logits
EPOCHS = (1.0, 120.0)  # of the reference recipe: ramps have risen by the second
# ratio of a gradient's norm to the value of its term: real ones are above 1e-3, vanishing ones below 1e-6 (not 0,
# because the z-score adds 1e-7 to a deviation)
VANISHED = 1e-5
CONTRACT = "see the contracts in docs/extending.md"


def checked_terms(objective: Objective, terms: Any) -> dict[str, Tensor]:
    """The named terms that an objective returned. Raises ValueError where they are anything but scalars by name."""
    name = type(objective).__name__
    if not isinstance(terms, Mapping) or not terms:
        got = "none" if isinstance(terms, Mapping) else _described(terms)
        raise ValueError(f"{name}.forward must return its terms by name, {{'kd': tensor}}, got {got}: {CONTRACT}")
    for term, value in terms.items():
        if not isinstance(value, Tensor):
            raise ValueError(f"the term {term} of {name} must be a scalar tensor, got {_described(value)}: {CONTRACT}")
        if value.shape != ():
            raise ValueError(f"the term {term} must be a scalar, got shape {tuple(value.shape)}: take its mean")
    return dict(terms)


def rehearse(
    objective: Objective, student: nn.Module, teacher: nn.Module | None, *, image_size: int, labels: Tensor
) -> dict[str, Tensor]:
    """Attach `objective` and run it once on the meta device; returns its terms, which have shapes and no values.

    The networks are not changed and may be on any device. The objective cannot be used for anything else afterwards.

    Raises:
        ValueError: one of the networks lacks what the method needs.
        Exception: whatever the method raises on shapes that it was not written for.
    """
    deployed = objective.attach(student, teacher, Task(image_size, labels))
    seen = student if deployed is None else deployed
    outputs = [n if n is None else _both_views(n, image_size, objective.two_views) for n in (seen, teacher)]
    images = torch.empty(REHEARSED_IMAGES, 3, image_size, image_size, device="meta")
    rows = torch.empty(REHEARSED_IMAGES, dtype=torch.int64, device="meta")
    batch = Batch(images, rows, rows, rows, images if objective.two_views else None)
    terms = objective.to("meta")(*outputs, batch, torch.empty((), device="meta"))
    return checked_terms(objective, terms)


def _both_views(network: nn.Module, image_size: int, two_views: bool) -> Output:
    output = outline(cast(Network, network), image_size=image_size, batch=REHEARSED_IMAGES)
    return replace(output, strong=output) if two_views else output


class _Tried:
    """A function of the user's own inside an objective: what goes wrong in it, or comes out of it, is named."""

    def __init__(self, key: str, function: Any, name: str) -> None:
        self.key, self.function, self.name = key, function, name

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        given = ", ".join([*map(_described, arguments), *(f"{key}=" for key in named)])
        try:
            found = self.function(*arguments, **named)
        except Exception as error:  # of any function
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise ValueError(f"{self.name} failed when it got ({given}): {reason}; {CONTRACT}") from error
        shape = tuple(arguments[0].shape) if self.key.endswith("transform") else ()
        if not isinstance(found, Tensor) or tuple(found.shape) != shape:
            wanted = f"logits of shape {shape}" if shape else "a scalar tensor, the mean over the batch"
            raise ValueError(f"{self.name} must return {wanted}, got {_described(found)}: {CONTRACT}")
        return found


def _described(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    return "None" if value is None else f"a {type(value).__name__}"


def _name_own_functions(objective: nn.Module) -> None:
    """Put a `_Tried` in the place of every divergence and transform that lies outside the published packages."""
    for module in objective.modules():
        for key, value in list(vars(module).items()):
            function = getattr(value, "func", value)  # of a functools.partial
            origin = str(getattr(function, "__module__", ""))
            known = key in ("divergence", "distance") or key.endswith("transform")
            if known and callable(value) and origin.partition(".")[0] not in KNOWN_PACKAGES:
                name = f"{origin}.{getattr(function, '__qualname__', type(function).__name__)}"
                setattr(module, key, _Tried(key, value, name))


def rehearse_logits(objective: Objective, student: nn.Module, *, image_size: int, labels: Tensor) -> list[str]:
    """Run an objective that reads logits alone on random ones; returns the terms that have no gradient.

    The distillation gradient is the part of the student's that depends on the teacher's logits. Whether it vanishes
    is decided in float64 on 16 rows, for two draws of the teacher and at two moments of the recipe.

    Args:
        objective: built for this alone.
        student: a network on the meta device with `num_classes`; it stands for the teacher's too.
        image_size: width and height.
        labels: (N,) of the training images.

    Raises:
        ValueError: a term or a function breaks its contract, or the teacher has no influence on the gradient.
        Exception: whatever else the method raises.
    """
    classes = cast(Network, student).num_classes
    _name_own_functions(objective)
    with seeded(0, "rehearsal"):
        objective.attach(student, student, Task(image_size, labels))
        logits = [_spread(classes) for _ in range(6)]
        targets, rows = torch.randint(classes, (ROWS,)), torch.arange(ROWS) % len(labels)
        images = torch.zeros(()).expand(ROWS, 3, image_size, image_size)
        batch = Batch(images, targets, rows, rows, images if objective.two_views else None)
        _terms(objective, [each.float() for each in logits[:4]], batch, EPOCHS[0])
        precise = copy.deepcopy(objective).double()
        try:
            runs = [_gradients(precise, [*logits[:2], *logits[at : at + 2]], batch, e) for e in EPOCHS for at in (2, 4)]
        except Exception:  # code of the user's own may compute in float32 only: then its gradient is not judged
            return []
    if objective.needs_teacher:
        pairs = zip(runs[::2], runs[1::2], strict=True)
        if all(
            _norm([a - b for a, b in zip(_total(x), _total(y), strict=True)]) <= VANISHED * _size(x) for x, y in pairs
        ):
            raise ValueError(
                f"with {classes} classes the teacher has no influence on the student's gradient, so nothing would be "
                "distilled: choose another loss (a z-score of two logits is always the same pair)"
            )
    sizes = {term: max(run[term][0] for run in runs) for term in runs[0]}
    return [term for term, size in sizes.items() if all(_norm(run[term][1]) <= VANISHED * size for run in runs)]


def _spread(classes: int) -> Tensor:
    """Random logits (16, K) without nearly constant rows, whose z-score has an arbitrary gradient."""
    even = torch.linspace(-3, 3, classes, dtype=torch.float64)
    return torch.stack([even[torch.randperm(classes)] for _ in range(ROWS)]) + 0.3 * torch.randn(ROWS, classes)


Gradients = dict[str, tuple[float, list[Tensor]]]  # of each term: its magnitude, and its gradient at the logits


def _terms(objective: Objective, logits: list[Tensor], batch: Batch, epochs: float) -> dict[str, Tensor]:
    """The terms for logits of student and student's strong view, teacher and teacher's strong view."""
    strong = [Output(logits[1]), Output(logits[3])] if objective.two_views else [None, None]
    sides = [Output(logits[0], strong=strong[0]), Output(logits[2], strong=strong[1])]
    teacher = sides[1] if objective.needs_teacher else None
    return checked_terms(objective, objective(sides[0], teacher, batch, torch.tensor(epochs)))


def _gradients(objective: Objective, logits: list[Tensor], batch: Batch, epochs: float) -> Gradients:
    ours = [each.clone().requires_grad_() for each in logits[:2]]
    found: Gradients = {}
    for name, term in _terms(objective, [*ours, *logits[2:]], batch, epochs).items():
        slopes = torch.autograd.grad(term, ours, retain_graph=True, allow_unused=True) if term.requires_grad else ()
        known = [torch.zeros_like(x) if g is None else g for g, x in zip(slopes, ours, strict=False)]
        found[name] = abs(float(term.detach())), known or [torch.zeros_like(each) for each in ours]
    return found


def _total(gradients: Gradients) -> list[Tensor]:
    return [torch.stack(list(parts)).sum(dim=0) for parts in zip(*(g for _, g in gradients.values()), strict=True)]


def _size(gradients: Gradients) -> float:
    return sum(value for value, _ in gradients.values())


def _norm(parts: list[Tensor]) -> float:
    return float(sum(part.square().sum() for part in parts)) ** 0.5


@dataclass(frozen=True)
class BuiltMethod:
    """An objective that was built of its node to be checked, for nothing else."""

    node: Mapping[str, Any]
    objective: Objective

    @property
    def flags(self) -> MethodFlags:
        """What the objective needs and does."""
        return MethodFlags.of(self.objective)


def check_network(node: Any, shape: tuple[int, int], path: str, faults: list[Fault]) -> None:
    """Build a network for (classes, image size) and run it on one image; what goes wrong is added to `faults`."""
    if isinstance(node, Mapping) and not has_fault(path, faults):
        tried = _tried(node, shape)
        faults += tried.at(path) if isinstance(tried, Refused) else []


def check_together(
    method: BuiltMethod | None,
    student: Mapping[str, Any] | RunRecord | None,
    teacher: Mapping[str, Any] | RunRecord | None,
    shape: tuple[int, int],
    labels: Tensor,
    path: str,
    faults: list[Fault],
) -> list[str]:
    """Attach an objective to its networks and run it; returns a line for each term that has no gradient.

    One that reads logits alone is run on random ones, any other on shapes. Jobs that differ in none of these, as those
    of several seeds, are tried once.

    Args:
        method: its objective is moved to the meta device.
        student: its node.
        teacher: its node, or a finished run.
        shape: classes and image size.
        labels: (N,) of the training images.
        path: where the objective stands.
        faults: what is missing is added here.
    """
    if method is None:
        return []
    networks = [str(each.path) if isinstance(each, RunRecord) else each for each in (student, teacher)]
    digest = hashlib.sha256(labels.numpy().tobytes()).hexdigest()
    key = json.dumps([path, method.node, *networks, *shape, digest], sort_keys=True)
    if key not in _TRIED:
        _TRIED[key] = _try_together(method, (student, teacher), shape, labels, path)
    notes, found = _TRIED[key]
    faults += found
    return notes


Networks = tuple[Mapping[str, Any] | RunRecord | None, Mapping[str, Any] | RunRecord | None]
_TRIED: dict[str, tuple[list[str], list[Fault]]] = {}  # notes and faults of this process's jobs


def _try_together(
    method: BuiltMethod, networks: Networks, shape: tuple[int, int], labels: Tensor, path: str
) -> tuple[list[str], list[Fault]]:
    """Notes and faults of an objective with student and teacher."""
    student, teacher = networks
    task: dict[str, Any] = {"image_size": shape[1], "labels": labels}
    try:
        trained = _without_values(student, shape)
        if trained is None:
            return [], []
        if not method.flags.logits_only:
            rehearse(method.objective, trained, _without_values(teacher, shape), **task)
            return [], []
        flat = rehearse_logits(method.objective, trained, **task)
    except Exception as error:  # of any objective and any network
        # a shape that depends on values, which meta tensors lack, is no fault
        on_meta = isinstance(error, NotImplementedError) and "meta" in str(error).lower()
        faults = [] if on_meta else [Fault(path, "value", f"{path}: {sentences(error)[0]}")]
        return [], faults
    classes = f"with {shape[0]} classes"
    return [f"{path}: {classes} the term {term} has no gradient, so it teaches nothing" for term in flat], []


def _without_values(network: Mapping[str, Any] | RunRecord | None, shape: tuple[int, int]) -> nn.Module | None:
    """The network on the meta device; None where it has faults of its own, which are recorded."""
    if isinstance(network, RunRecord):
        return rebuild_network(network)
    tried = None if network is None else _tried(network, shape)
    return None if isinstance(tried, Refused) else tried


def _tried(node: Mapping[str, Any], shape: tuple[int, int]) -> nn.Module | Refused:
    return _network_or_refusal(json.dumps(node, sort_keys=True), *shape)


@lru_cache(maxsize=64)
def _network_or_refusal(node: str, num_classes: int, image_size: int) -> nn.Module | Refused:
    try:
        return try_network(json.loads(node), num_classes=num_classes, image_size=image_size)
    except Refused as refused:
        return refused


def has_fault(path: str, faults: Sequence[Fault]) -> bool:
    return any(fault.within(path) for fault in faults)
