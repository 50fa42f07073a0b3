"""What the curves of a panel are called: as little as tells them apart."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from distill.tables.naming import short_digests

if TYPE_CHECKING:
    from distill.report.sweeps.tried import Curve


def labels(curves: Sequence["Curve"]) -> list[str]:
    """The preset, then whatever tells curves of one preset apart, and a run's id where words do not."""
    words = [[curve.preset] for curve in curves]
    for fact in (_teacher, _settings, _weights, _run):
        shared = [words.count(mine) > 1 for mine in words]
        for place, curve in enumerate(curves):
            alike = [other for other in curves if other.preset == curve.preset]
            if shared[place] and len({fact(other, alike) for other in alike}) > 1:
                words[place] = [*words[place], fact(curve, alike)]
    return [", ".join(filter(None, each)) for each in words]


def _teacher(curve: "Curve", _: Sequence["Curve"]) -> str:
    row = curve.cells[0].row
    return f"teacher {row.teacher.name}" if row.teacher else ""


def _settings(curve: "Curve", alike: Sequence["Curve"]) -> str:
    """The leaves of its identity that vary among the curves of its preset."""
    all_of = [dict(other.settings) for other in alike]
    mine = dict(curve.settings)
    varying = [path for path in mine if len({each.get(path) for each in all_of}) > 1]
    return ", ".join(f"{path.rpartition('.')[2]}={mine[path]}" for path in varying)


def _weights(curve: "Curve", alike: Sequence["Curve"]) -> str:
    every = [str(each.cells[0].row.teacher.weights) for each in alike if each.cells[0].row.teacher]
    teacher = curve.cells[0].row.teacher
    return short_digests(every)[str(teacher.weights)] if teacher else ""


def _run(curve: "Curve", _: Sequence["Curve"]) -> str:
    return f"run {curve.cells[0].row.first.run_id}"
