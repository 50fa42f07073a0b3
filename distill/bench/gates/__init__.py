"""The equalities that figures stand behind: a figure is shown only where all of its gates passed in the same run."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from distill.bench.gates import cohort as cohorts
from distill.bench.gates import curve as curves
from distill.bench.gates import teachers
from distill.bench.gates.crops import crops
from distill.bench.gates.evaluation import evaluation
from distill.bench.gates.gate import Gate
from distill.bench.lab import Lab
from distill.teachers import LiveTeacher
from distill.training import Member, compiled

__all__ = ["GATES", "IN_BF16", "Gate", "pass_through"]

# what a figure in bf16 stands behind besides
IN_BF16 = {"folded": "folded bf16", "curve": "curve bf16"}


def _crops(lab: Lab) -> Gate:
    data = lab.steps(curves.STEPS)
    stream = lab.stream(data)
    return crops(data, stream.source, list(stream.epoch(1)))


def _folded(lab: Lab) -> Gate:
    batches = lab.gate_batches(lab.data)
    return teachers.folded(lab.live(precision="fp32"), lab.plain_teacher(), batches)


def _folded_bf16(lab: Lab) -> Gate:
    network = lab.plain_teacher()
    plain = LiveTeacher(lab.plain_teacher(), weights="bench", precision="bf16", taps=False)
    return teachers.in_bf16(lab.live(precision="bf16"), plain, network, lab.gate_batches(lab.data))


def _table(lab: Lab) -> Gate:
    return teachers.table(lab.table(lab.data), lab.live(precision="fp32"), lab.gate_batches(lab.data))


def _cohort(lab: Lab) -> Gate:
    data, teacher = lab.first(lab.batch_size * 2 + lab.batch_size // 2), lab.live()

    def make(number: int) -> Member:
        seed = lab.plan.seed + number // (cohorts.SIZE - 1)  # the last one has a stream of its own
        return lab.member(data, teacher, temperature=1.0 + number, seed=seed)

    return cohorts.cohort(make, steps=lab.stream(data).steps)


def _curve(lab: Lab) -> Gate:
    return _curve_of(lab, "curve", precision="fp32", limit=curves.EXACT, what="loss of a KD step in fp32")


def _curve_bf16(lab: Lab) -> Gate:
    return _curve_of(lab, "curve bf16", precision="bf16", limit=curves.BF16, what="loss of a KD step in bf16")


def _curve_compiled(lab: Lab) -> Gate:
    what = "loss of a compiled KD step in fp32"
    return _curve_of(lab, "compiled", precision="fp32", limit=curves.EXACT, what=what, around=compiled)


def _curve_of(
    lab: Lab,
    name: str,
    *,
    precision: str,
    limit: float,
    what: str,
    around: Callable[[Sequence[Member]], AbstractContextManager[object]] = nullcontext,
) -> Gate:
    """Of the steps as they are carried out on this device: captured, on CUDA."""
    data = lab.steps(curves.STEPS)
    member = lab.member(data, lab.live(precision=precision), precision=precision)
    with around([member]):
        return curves.curve(name, member, lab.peer, data, limit=limit, what=what, engine=lab.engine())


def _evaluation(lab: Lab) -> Gate:
    return evaluation(lab.student(), lab.evaluation(lab.data), lab.peer(taught=False), lab.validation_loader)


GATES: dict[str, Callable[[Lab], Gate]] = {
    "crops": _crops,
    "folded": _folded,
    "folded bf16": _folded_bf16,
    "table": _table,
    "cohort": _cohort,
    "curve": _curve,
    "curve bf16": _curve_bf16,
    "compiled": _curve_compiled,
    "evaluation": _evaluation,
}


@contextmanager
def full_fp32(device: torch.device) -> Iterator[None]:
    """Convolutions in fp32 are not TF32 meanwhile: the gates are about formulas, not about what TF32 rounds away."""
    if device.type != "cuda":
        yield
        return
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield


def pass_through(
    lab: Lab, names: Iterable[str], *, gates: Mapping[str, Callable[[Lab], Gate]] = GATES, note: Callable[[str], None]
) -> dict[str, Gate]:
    """What each of these gates was found to be; `note` is told at once. One that cannot be tried has failed."""
    found: dict[str, Gate] = {}
    for name in names:
        try:
            with full_fp32(lab.device):
                gate = gates[name](lab)
        except Exception as error:  # of whatever is broken behind it: its figures stay hidden, the others do not
            gate = Gate(name, False, f"{name} could not be tried: {type(error).__name__}: {error}", {})
        note(f"gate {name}: {'passed' if gate.passed else 'FAILED'}; {gate.says}")
        found[name] = gate
    return found
