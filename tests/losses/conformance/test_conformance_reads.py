"""Every method reads what it declares in `reads`, and nothing else: it is run with each output withheld."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from method_networks import IMAGE_SIZE, PAIRS
from method_presets import METHODS, build
from method_trials import TASK, pairs, trial
from torch import nn

from distill.config.rehearsal import rehearse
from distill.losses import Objective
from distill.models import Network, Output
from distill.models.meta import shapes_of

WITHOUT: dict[str, Callable[[Output], Output]] = {
    "features": lambda output: replace(output, features=()),
    "preactivations": lambda output: replace(output, preactivations=(None,) * len(output.preactivations)),
    "final_map": lambda output: replace(output, final_map=None),
    "embedding": lambda output: replace(output, embedding=None),
    "head": lambda output: output,
}


@cache
def lacking(pair: str, part: str) -> list[nn.Module]:
    """A pair of networks with one of their outputs withheld, or their `head` attribute, on the meta device."""
    return [shapes_of(without(network, part)) for network in PAIRS[pair]()]


def without(network: Network, part: str) -> Network:
    whole = type(network)

    class Lacking(whole):
        head = None if part == "head" else whole.head

        def forward(self, images: Any, *, taps: bool = False) -> Output:
            output = super().forward(images, taps=taps)
            return WITHOUT[part](output) if taps else output

    network.__class__ = Lacking
    return network


def fails_without(part: str, name: str) -> bool:
    student, teacher = lacking(pairs(name)[0], part)
    objective = build(name)
    guide = teacher if objective.needs_teacher else None
    try:
        rehearse(objective, student, guide, image_size=IMAGE_SIZE, labels=TASK.labels)
    except Exception:  # whatever it raises: without that part the method cannot run
        return True
    return False


def noting(record: Any, read: set[str]) -> Any:
    """A copy of an output or a batch that notes which of its fields are read."""
    kind: Any = type(record)

    def get(self: Any, name: str) -> Any:
        read.add(name)
        return object.__getattribute__(self, name)

    copied: Any = object.__new__(type(kind.__name__, (kind,), {"__getattribute__": get}))
    object.__getattribute__(copied, "__dict__").update(vars(record))
    return copied


@pytest.mark.parametrize("name", METHODS)
def test_it_reads_what_it_declares(name: str) -> None:
    method = trial(name)
    reads = method.objective.reads
    assert reads is not None, f"loss={name} declares nothing: set `reads` on {type(method.objective).__name__}"
    batch = method.batch()
    student, teacher = method.outputs(batch)
    of_teacher: set[str] = set()
    of_batch: set[str] = set()
    seen = None if teacher is None else noting(teacher, of_teacher)
    method.terms(noting(batch, of_batch), outputs=(student, seen))
    found = {"logits"} & of_teacher | {"index", "strong"} & of_batch | {"strong"} & of_teacher
    found |= {part for part in WITHOUT if fails_without(part, name)}
    assert set(reads) == found
    assert len(set(reads)) == len(reads)
    assert method.objective.logits_only is not bool(found & WITHOUT.keys())


def test_a_method_that_declares_nothing_gets_every_output_of_a_live_teacher() -> None:
    silent = Objective()
    assert (silent.reads, silent.needs_teacher, silent.logits_only) == (None, True, False)
