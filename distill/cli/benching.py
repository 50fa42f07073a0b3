"""What a bench found, laid out for `distill bench`."""

from collections.abc import Iterator
from typing import Any

from distill.bench.course import Bench
from distill.bench.figure import Figure
from distill.bench.report import document, judged, targets_for
from distill.bench.rounds import NOISY
from distill.runs.store import size_of
from distill.tables.rendering import Content, TextTable

PRECISIONS = ("fp32", "bf16")
SCALES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"))


def views(bench: Bench) -> Content:
    """The bench in every shape."""
    return Content(
        table=lambda everything: sheet(bench, everything=everything),
        records=lambda: [_flat(cells) for cells in _records(bench)],
        document=lambda: document(bench),
        notes=lambda: notes(bench),
    )


def sheet(bench: Bench, *, everything: bool = False) -> TextTable:
    """A figure a row; with `everything`, what the title says stands in columns of its own."""
    shared = {"pair": bench.here.pair, "precision": bench.here.precision, "device": bench.here.device}
    more = shared if everything else {}
    headers = ("work", "ratio", "rounds", "ours", "peer", *(f"target {name}" for name in PRECISIONS))
    rows = [*(_row(figure, bench) for figure in bench.figures), *_unmeasured(bench)]
    threads, versions = bench.machine["threads"], bench.machine["versions"]
    title = (
        f"{bench.here.pair}, {bench.here.precision}, {bench.here.hardware}, {bench.machine['isa']}, "
        f"{threads} thread{'s' * (threads != 1)}, torch {versions['torch']}; {bench.machine['timer']}"
    )
    return TextTable(
        title="" if everything else title,
        headers=(*more, *headers),
        numeric=(*(False for _ in more), False, *(True for _ in headers[1:])),
        rows=tuple((*more.values(), *row) for row in rows),
        notes=tuple(notes(bench)),
        divisible=False,
    )


def notes(bench: Bench) -> list[str]:
    """The gates with their numbers, what is not shown and why, what to think of the figures."""
    told = [f"gate {gate.name} {'passed' if gate.passed else 'FAILED'}. {gate.says}" for gate in bench.gates.values()]
    told += list(bench.hidden.values())
    noisy = [figure.label for figure in bench.figures if figure.ratio is not None and figure.ratio.noisy]
    if noisy:
        told.append(f"! rounds differ by more than {NOISY:g}x: other work on this machine; repeat before quoting these")
    prepared = [figure for figure in bench.figures if figure.preparation is not None]
    told += [f"{figure.label}: {figure.preparation:.1f} s before the first window, in no figure" for figure in prepared]
    sizes = bench.settings.sizes
    told.append(
        f"ratio: median over {sizes.rounds} rounds of what the peer cost by what ours cost; ours and peer: median for "
        "one unit; generated images, and neither side writes files"
    )
    load = f"load {bench.before['load']:.1f} before and {bench.after['load']:.1f} after"
    commit = str(bench.machine["commit"] or "unknown")[:12] + (" with changes" if bench.machine["dirty"] else "")
    return [*told, f"{load}; distill {bench.machine['distill']}, commit {commit}"]


def _row(figure: Figure, bench: Bench) -> tuple[str, ...]:
    ratio = figure.ratio
    shown = ("-", "-")
    if ratio is not None:
        span = f"{min(ratio.rounds):.2f} to {max(ratio.rounds):.2f}" if len(ratio.rounds) > 1 else "-"
        shown = f"{ratio.median:.2f}", f"{span}{' !' if ratio.noisy else ''}"
    ours, peer = _amount(figure.cost, figure), _amount(figure.peer_cost, figure)
    return (figure.label, *shown, ours, peer, *(_targets(figure.key, bench, name) for name in PRECISIONS))


def _targets(key: str, bench: Bench, precision: str) -> str:
    found = targets_for(key, bench, precision=precision)
    return ", ".join(f"{target.says} {verdict}" for target, verdict in found) or "-"


def _unmeasured(bench: Bench) -> Iterator[tuple[str, ...]]:
    """Targets whose work was not measured, or is not shown."""
    shown = {figure.key for figure in bench.figures}
    for key in dict.fromkeys(target.figure for target, figure, _ in judged(bench) if figure is None):
        assert key not in shown
        yield (key, "-", "-", "-", "-", *(_targets(key, bench, name) for name in PRECISIONS))


def _amount(value: float | None, figure: Figure) -> str:
    if value is None:
        return "-"
    if figure.quantity == "bytes":
        return size_of(int(value))
    if figure.quantity == "launches":
        return f"{value:.4g}/{figure.unit}"
    scale, unit = next(((scale, unit) for scale, unit in SCALES if value >= scale), SCALES[-1])
    return f"{value / scale:.3g} {unit}/{figure.unit}"


def _records(bench: Bench) -> Iterator[dict[str, Any]]:
    about = {"pair": bench.here.pair, "precision": bench.here.precision, "device": bench.here.hardware}
    for figure in bench.figures:
        ratio = figure.ratio
        yield {
            **about,
            "key": figure.key,
            "work": figure.label,
            "ratio": None if ratio is None else ratio.median,
            "ratios": None if ratio is None else list(ratio.rounds),
            "ours": figure.cost,
            "peer": figure.peer_cost,
            "quantity": figure.quantity,
            "unit": figure.unit,
        } | {f"target_{name}": _targets(figure.key, bench, name) for name in PRECISIONS}


def _flat(record: dict[str, Any]) -> dict[str, Any]:
    return {key: "" if value is None else value for key, value in record.items()}
