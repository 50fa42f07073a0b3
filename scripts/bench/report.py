"""The bench from its plan to its figures, and how they are printed and written as JSON."""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

import distill
from distill.config.plan import RunPlan
from distill.runs.provenance import collect, device_name
from distill.training import determinism, resolve_precision
from scripts.bench.gates import GATES, IN_BF16, Gate, check
from scripts.bench.lab import Lab, Settings, name_of
from scripts.bench.measure import NOISY, Figure, timer_name
from scripts.bench.rows import ROWS, Note, Row

FORMAT = 2  # of the JSON
FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
SCALES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"))


@dataclass(frozen=True)
class Bench:
    """Results. `figures` are those whose gates all passed; `hidden` gives the reason for every other one."""

    settings: Settings
    plan: RunPlan
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
    """Measure the rows `names` of a pair that `plan_pair` planned; on a CPU with one thread.

    `note` receives a line for every row and gate as it is done.
    """
    before = moment()
    figures: list[Figure] = []
    hidden: dict[str, str] = {}
    found: dict[str, Gate] = {}
    with one_thread(plan.device), determinism(False, plan.device):
        lab = Lab(plan, settings, note=note)
        for name in names:
            note(f"row {name}")
            try:
                measured = rows[name](lab, note)
            except Exception as error:  # whatever is broken in it: the other rows are measured all the same
                hidden[name] = f"row {name} could not be measured: {type(error).__name__}: {error}"
                note(hidden[name])
                continue
            needed = dict.fromkeys(gate for figure in measured for gate in gates_of(figure, lab.precision))
            new = check(lab, [gate for gate in needed if gate not in found], gates=gates)
            for gate in new.values():
                note(f"gate {gate.name}: {'passed' if gate.passed else 'FAILED'}; {gate.says}")
            found |= new
            for figure in measured:
                failed = [gate for gate in gates_of(figure, lab.precision) if not found[gate].passed]
                if failed:
                    hidden[figure.key] = f"{figure.label}: not shown, since its gate failed ({', '.join(failed)})"
                else:
                    figures.append(figure)
        facts = machine(plan.device)
    return Bench(settings, plan, facts, before, moment(), found, figures, hidden)


def gates_of(figure: Figure, precision: str) -> tuple[str, ...]:
    """The gates of a figure, with those for bf16 if it was measured so."""
    more = [IN_BF16[gate] for gate in figure.gates if gate in IN_BF16] if precision == "bf16" else []
    return (*figure.gates, *more)


@contextmanager
def one_thread(device: torch.device) -> Iterator[None]:
    """On a CPU one thread: the gain of two depends on what else runs there."""
    threads = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def document(found: Bench) -> dict[str, Any]:
    """Everything, per round; a hidden figure is named, without its numbers."""
    return {
        "format": FORMAT,
        "pair": name_of(found.plan),
        "precision": found.plan.precision,
        "native_bf16": resolve_precision("auto", found.plan.device) == "bf16",
        "settings": {
            key: value for key, value in asdict(found.settings).items() if key not in ("config_dir", "photographs")
        },
        "machine": dict(found.machine),
        "before": dict(found.before),
        "after": dict(found.after),
        "gates": [asdict(gate) for gate in found.gates.values()],
        "figures": [_figure(figure, found) for figure in found.figures],
        "not_shown": dict(found.hidden),
    }


def _figure(figure: Figure, found: Bench) -> dict[str, Any]:
    ratio = figure.ratio
    return {
        "key": figure.key,
        "label": figure.label,
        "unit": figure.unit,
        "quantity": figure.quantity,
        "ratio": None if ratio is None else ratio.median,
        "spread": None if ratio is None else ratio.spread,
        "noisy": None if ratio is None else ratio.noisy,
        "ratios": None if ratio is None else list(ratio.rounds),
        "ours": list(figure.ours),
        "peer": list(figure.peer),
        "preparation_seconds": figure.preparation,
        "gates": list(gates_of(figure, found.plan.precision)),
    }


def text(found: Bench) -> str:
    """The figures as a table with a title, then notes."""
    facts, versions = found.machine, found.machine["versions"]
    title = (
        f"{name_of(found.plan)}, {found.plan.precision}, {device_name(found.plan.device)}, {facts['isa']}, "
        f"{facts['threads']} thread{'s' * (facts['threads'] != 1)}, torch {versions['torch']}; {facts['timer']}"
    )
    rows = [("work", "ratio", "rounds", "ours", "peer"), *map(_cells, found.figures)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) if n == 0 else cell.rjust(width) for n, (cell, width) in enumerate(pairs)).rstrip()
        for pairs in (zip(row, widths, strict=True) for row in rows)
    ]
    return "\n".join([title, *lines, *notes(found)])


def notes(found: Bench) -> list[str]:
    """The gates with their numbers, hidden figures with the reason, and how to read the figures."""
    lines = [f"gate {gate.name} {'passed' if gate.passed else 'FAILED'}. {gate.says}" for gate in found.gates.values()]
    lines += found.hidden.values()
    if any(figure.ratio is not None and figure.ratio.noisy for figure in found.figures):
        lines.append(
            f"! rounds differ by more than {NOISY:g}x: other work on this machine; repeat before quoting these"
        )
    prepared = [figure for figure in found.figures if figure.preparation is not None]
    lines += [
        f"{figure.label}: {figure.preparation:.1f} s before the first window, in no figure" for figure in prepared
    ]
    lines.append(
        f"ratio: median over {found.settings.sizes.rounds} rounds of the peer's cost divided by ours; ours and peer: "
        "median for one unit; generated images, and neither side writes files"
    )
    load = f"load {found.before['load']:.1f} before and {found.after['load']:.1f} after"
    commit = str(found.machine["commit"] or "unknown")[:12] + (" with changes" if found.machine["dirty"] else "")
    return [*lines, f"{load}; distill {found.machine['distill']}, commit {commit}"]


def _cells(figure: Figure) -> tuple[str, ...]:
    ratio, median, span = figure.ratio, "-", "-"
    if ratio is not None:
        span = f"{min(ratio.rounds):.2f} to {max(ratio.rounds):.2f}" if len(ratio.rounds) > 1 else "-"
        median, span = f"{ratio.median:.2f}", f"{span}{' !' if ratio.noisy else ''}"
    return figure.label, median, span, _amount(figure.cost, figure), _amount(figure.peer_cost, figure)


def _amount(value: float | None, figure: Figure) -> str:
    if value is None:
        return "-"
    if figure.quantity in ("launches", "nodes"):
        return f"{value:.4g}/{figure.unit}"
    scale, unit = next(((scale, unit) for scale, unit in SCALES if value >= scale), SCALES[-1])
    return f"{value / scale:.3g} {unit}/{figure.unit}"


def machine(device: torch.device) -> dict[str, Any]:
    """Facts that hold for the whole bench: commit, versions, device, threads, instruction sets, the timer's name."""
    flags = set(next(iter(_cpu_values("flags")), "").split())
    return {
        **collect(device),
        "distill": distill.__version__,
        "flags": {flag: flag in flags for flag in FLAGS},
        "cores": os.cpu_count(),
        "timer": timer_name(device),
    }


def moment() -> dict[str, Any]:
    """What changes meanwhile: the time, the load average of the last minute, the processor's clock in MHz."""
    clocks = [float(value) for value in _cpu_values("cpu MHz")]
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "load": os.getloadavg()[0],
        "clock_mhz": max(clocks, default=None),
    }


def _cpu_values(name: str) -> list[str]:
    """The values of one key in /proc/cpuinfo, one a core; empty on a system without that file."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    return [value.strip() for key, _, value in (line.partition(":") for line in lines) if key.strip() == name]
