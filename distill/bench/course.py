"""The bench from its plan to its figures: row by row, and of each what stands behind gates that passed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from distill.bench.clock import name_of as timer_of
from distill.bench.figure import Figure, Note, Row
from distill.bench.gates import GATES, IN_BF16, Gate, pass_through
from distill.bench.lab import Lab
from distill.bench.machine import machine, moment
from distill.bench.pair import name_of
from distill.bench.rows import ROWS
from distill.bench.settings import Settings
from distill.bench.targets import Circumstances
from distill.config.plan import RunPlan
from distill.runs.provenance import device_name
from distill.training import determinism, resolve_precision


@dataclass(frozen=True)
class Bench:
    """What a bench found. `figures` are those whose gates all passed; `hidden` says why others are not shown."""

    settings: Settings
    here: Circumstances
    machine: Mapping[str, Any]
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    gates: Mapping[str, Gate]
    figures: Sequence[Figure]
    hidden: Mapping[str, str]

    @property
    def sound(self) -> bool:
        """Whether every gate passed and every row was measured."""
        return not self.hidden and all(gate.passed for gate in self.gates.values())


def bench(
    plan: RunPlan,
    settings: Settings,
    names: Sequence[str],
    *,
    note: Note,
    rows: Mapping[str, Row] = ROWS,
    gates: Mapping[str, Callable[[Lab], Gate]] = GATES,
) -> Bench:
    """Measure the rows `names` of a planned pair; on a CPU with one thread.

    Args:
        plan: by `plan_pair`.
        settings: by which it was planned.
        names: of `rows`, in the order in which they are measured.
        note: told what happens, a line at a time.
        rows: all there are.
        gates: all there are.
    """
    before = moment()
    figures: list[Figure] = []
    hidden: dict[str, str] = {}
    with one_thread(plan.device), determinism(False, plan.device):
        lab = Lab(plan, settings, note=note)
        found: dict[str, Gate] = {}
        for name in names:
            note(f"row {name}")
            try:
                measured = rows[name](lab, note)
            except Exception as error:  # of whatever is broken in it: the other rows do not suffer
                hidden[name] = f"row {name} could not be measured: {type(error).__name__}: {error}"
                note(hidden[name])
                continue
            needed = dict.fromkeys(gate for figure in measured for gate in behind(figure, lab.precision))
            found |= pass_through(lab, [gate for gate in needed if gate not in found], gates=gates, note=note)
            for figure in measured:
                failed = [gate for gate in behind(figure, lab.precision) if not found[gate].passed]
                if failed:
                    hidden[figure.key] = f"{figure.label}: not shown, since its gate failed ({', '.join(failed)})"
                else:
                    figures.append(figure)
        facts = machine(plan.device, timer=timer_of(plan.device))
    here = Circumstances(
        pair=name_of(plan),
        precision=plan.precision,
        device=plan.device.type,
        hardware=device_name(plan.device),
        native_bf16=resolve_precision("auto", plan.device) == "bf16",
    )
    return Bench(settings, here, facts, before, moment(), found, figures, hidden)


def behind(figure: Figure, precision: str) -> tuple[str, ...]:
    """The gates of a figure, those for bf16 added where it was measured so."""
    more = [IN_BF16[gate] for gate in figure.gates if gate in IN_BF16] if precision == "bf16" else []
    return (*figure.gates, *more)


@contextmanager
def one_thread(device: torch.device) -> Iterator[None]:
    """On a CPU one thread: what two gain depends on who else is there."""
    threads = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
