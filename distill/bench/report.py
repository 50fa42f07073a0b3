"""What a bench found, as data."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from distill.bench.course import Bench, behind
from distill.bench.figure import Figure
from distill.bench.targets import Target, as_data, targets_of, verdict

FORMAT = 1  # of the JSON


def document(bench: Bench) -> dict[str, Any]:
    """Everything, per round; a hidden figure is named, without its numbers."""
    return {
        "format": FORMAT,
        "pair": bench.here.pair,
        "precision": bench.here.precision,
        "native_bf16": bench.here.native_bf16,
        "settings": {key: value for key, value in asdict(bench.settings).items() if key != "config_dir"},
        "machine": dict(bench.machine),
        "before": dict(bench.before),
        "after": dict(bench.after),
        "gates": [asdict(gate) for gate in bench.gates.values()],
        "figures": [_figure(figure, bench) for figure in bench.figures],
        "not_shown": dict(bench.hidden),
        "targets": [as_data(target, found) for target, _, found in judged(bench)],
    }


def judged(bench: Bench) -> Iterator[tuple[Target, Figure | None, str]]:
    """The targets of the pair, each with its figure where there is one, and what comes of it."""
    figures = {figure.key: figure for figure in bench.figures}
    for target in targets_of(bench.here.pair):
        figure = figures.get(target.figure)
        yield target, figure, verdict(target, figure, bench.here)


def targets_for(key: str, bench: Bench, *, precision: str) -> list[tuple[Target, str]]:
    """The targets of a figure in one precision; those for any precision count for the bench's own."""
    own = precision == bench.here.precision
    return [
        (target, found)
        for target, _, found in judged(bench)
        if target.figure == key and (target.precision == precision or (target.precision is None and own))
    ]


def _figure(figure: Figure, bench: Bench) -> dict[str, Any]:
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
        "gates": list(behind(figure, bench.here.precision)),
        "targets": [as_data(target, found) for target, one, found in judged(bench) if one is figure],
    }
