"""How the steps of a cohort are carried out, as its engine node has it: compiled, captured, or as they are."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch

from distill.training import WARM_UP, Captured, CudaLane, Eager, Engine, Member, NotCaptured, compiled, is_fused

Note = Callable[[str], None]
NONDETERMINISTIC = "does not have a deterministic implementation"  # torch's words


class CannotCarryOut(RuntimeError):
    """The steps cannot be done in the way that was asked for; the text is one sentence."""


def way(engine: Mapping[str, Any], device: torch.device, member: Member | None = None) -> dict[str, object]:
    """What of the engine may show in the last bits: for conditions of a checkpoint, and for the provenance."""
    optimizer = {} if member is None else {"optimizer": "fused" if is_fused(member.optimizer) else "unfused"}
    return {
        **optimizer,
        "compile": engine["compile"],
        "capture": _captures(engine, device),
        "deterministic": engine["deterministic"],
    }


@contextmanager
def carrying(
    members: Sequence[Member], engine: Mapping[str, Any], device: torch.device, note: Note
) -> Iterator[Engine]:
    """The `Engine` for `fit` inside the block.

    Raises:
        CannotCarryOut: a step cannot be captured, compiled or repeated where that was demanded.
    """
    with ExitStack() as stack, _explained(engine):
        if engine["compile"]:
            stack.enter_context(compiled(members))
            note("networks are compiled at the first steps, which takes a while")
        if _captures(engine, device):
            note(f"CUDA graphs: steps are captured after {WARM_UP} of a kind, and replayed (engine.capture=false: not)")
            declined = _refuse if engine["capture"] is True else note
            yield Captured(partial(CudaLane, device), declined=declined)
        else:
            yield Eager()


def _captures(engine: Mapping[str, Any], device: torch.device) -> bool:
    return engine["capture"] is not False and device.type == "cuda"


def _refuse(sentence: str) -> None:
    raise NotCaptured(sentence)


@contextmanager
def _explained(engine: Mapping[str, Any]) -> Iterator[None]:
    try:
        yield
    except NotCaptured as error:
        raise CannotCarryOut(f"{error}: set engine.capture=auto to train it as it is") from error
    except RuntimeError as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        if engine["deterministic"] and NONDETERMINISTIC in str(error):
            raise CannotCarryOut(f"{first.partition('. ')[0]}: set engine.deterministic=false") from error
        if engine["compile"] and type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise CannotCarryOut(f"torch.compile failed ({first}): set engine.compile=false") from error
        raise
