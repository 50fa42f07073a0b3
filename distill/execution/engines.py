"""The engine of a command's training steps, as the engine node sets it: eager, compiled, or captured as CUDA graphs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch

from distill.training import (
    WARM_UP,
    WORTH_COMPILING,
    Captured,
    CudaLane,
    Eager,
    Engine,
    Member,
    NotAcross,
    NotCaptured,
    compiled,
    compiled_surroundings,
    compiled_trial,
    is_fused,
    this_world,
    why_not_compiled,
)

NONDETERMINISTIC = "does not have a deterministic implementation"  # in torch's message


class EngineError(RuntimeError):
    """The engine's settings cannot be carried out; the text is one sentence."""


def numeric_settings(engine: Mapping[str, Any], device: torch.device, member: Member) -> dict[str, object]:
    """The engine's settings that may change rounding: for a checkpoint's conditions and for the provenance."""
    compiles = "surroundings" if _compiles_surroundings(engine, member) else False
    return {
        "optimizer": "fused" if is_fused(member.optimizer) else "unfused",
        "compile": True if engine["compile"] is True else compiles,
        "capture": _captures(engine, device),
        "deterministic": engine["deterministic"],
    }


@contextmanager
def step_engine(
    members: Sequence[Member], engine: Mapping[str, Any], device: torch.device, note: Callable[[str], None]
) -> Iterator[Engine]:
    """The `Engine` for `fit`, as the engine node sets it: compiled, captured as CUDA graphs, or eager.

    Raises:
        EngineError: a step cannot be captured, compiled or made deterministic although the settings demand it.
    """
    with ExitStack() as stack, _explained(engine):
        if engine["compile"] is True and this_world().size > 1:
            raise EngineError("engine.compile=true cannot be used by several processes yet: set engine.compile=false")
        if engine["compile"] is True:
            stack.enter_context(compiled(members))
            note("networks are compiled at the first steps, which takes a while")
        long = engine["compile"] == "auto" and any(_is_worth_compiling(member) for member in members)
        if long and device.type == "cuda" and this_world().size == 1 and (failure := compiled_trial(device)):
            note(f"loss and teacher are not compiled: {failure}")
        if any(_compiles_surroundings(engine, member) for member in members):
            stack.enter_context(compiled_surroundings(members))
            note("loss and teacher are compiled at the first steps (engine.compile=false turns this off)")
        if _captures(engine, device):
            note(f"CUDA graphs: steps are captured after {WARM_UP} of a kind, and replayed (engine.capture=false: not)")
            declined = _refuse if engine["capture"] is True else note
            yield Captured(partial(CudaLane, device), declined=declined)
        else:
            yield Eager()


def _compiles_surroundings(engine: Mapping[str, Any], member: Member) -> bool:
    if member.device.type != "cuda" or member.world.size > 1 or why_not_compiled(member.device):
        return False
    wanted = engine["compile"] == "auto" and _is_worth_compiling(member) and not compiled_trial(member.device)
    return engine["compile"] is True or wanted


def _is_worth_compiling(member: Member) -> bool:
    return member.recipe.epochs * member.stream.steps >= WORTH_COMPILING


def _captures(engine: Mapping[str, Any], device: torch.device) -> bool:
    return engine["capture"] is not False and device.type == "cuda" and this_world().size == 1


def _refuse(sentence: str) -> None:
    raise NotCaptured(sentence)


@contextmanager
def _explained(engine: Mapping[str, Any]) -> Iterator[None]:
    try:
        yield
    except NotAcross as error:
        raise EngineError(str(error)) from error
    except NotCaptured as error:
        raise EngineError(f"{error}: set engine.capture=auto to train it as it is") from error
    except RuntimeError as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        if engine["deterministic"] and NONDETERMINISTIC in str(error):
            raise EngineError(f"{first.partition('. ')[0]}: set engine.deterministic=false") from error
        if engine["compile"] is not False and type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise EngineError(f"torch.compile failed ({first}): set engine.compile=false") from error
        raise
