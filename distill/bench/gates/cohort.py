"""Members of a cohort against the same runs alone."""

from collections.abc import Callable, Sequence
from itertools import count

import torch

from distill.bench.gates.gate import Gate, within
from distill.training import Member, Silent, determinism, fit

SIZE = 4
COMPARED = (0, SIZE - 1)


def cohort(make: Callable[[int], Member], *, steps: int) -> Gate:
    """Every tensor of the resume state is, byte for byte, what it is after as many steps alone.

    `make(number)` builds a member at the start of its training, the same whenever it is called.
    """
    together = [make(number) for number in range(SIZE)]
    differing = compared = 0
    with determinism(True, together[0].device):  # a CPU repeats itself anyway
        _train(together, steps)
        for number in COMPARED:
            alone = make(number)
            _train([alone], steps)
            expected, found = alone.state()[0], together[number].state()[0]
            compared += len(expected)
            differing += len(expected.keys() ^ found.keys())
            differing += sum(
                not torch.equal(_bytes(expected[name]), _bytes(found[name])) for name in expected.keys() & found.keys()
            )
    failed = [member.error for member in together if member.error is not None]
    return within(
        "cohort",
        {f"of {compared} tensors differ": (differing, 0), "members failed": (len(failed), 0)},
        what=f"members of a cohort of {SIZE} against the same runs alone, byte by byte",
    )


def _train(members: Sequence[Member], steps: int) -> None:
    asked = count(1)
    fit(members, watch=Silent(), stop_requested=lambda: next(asked) >= steps)


def _bytes(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
