"""Errors by class: how often a network misclassifies each class, and which classes it confuses."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from distill.report.drawing import Style, Styles, drawing, heat, run_styles, square
from distill.report.page import FAINT, INK, PAPER, Block, Figure, PageTable, number_columns, text_columns
from distill.report.runs import Images, Report
from distill.report.softmax import Labels, Logits
from distill.tables.values import number

MOST = 8  # confusions and classes listed by name
_LABELLED = 2  # classes labelled on either side of the diagonal
_SIDE, _LINE = 200, 11  # points: about the side of a panel, and the height of a label
_NAMED = 20  # classes whose names fit next to a matrix


def class_errors(networks: Mapping[str, Logits], labels: Labels, names: Sequence[str]) -> dict[str, Any]:
    """Error of each network on each class in percent, None for a class without images."""
    counts = np.bincount(labels, minlength=len(names))
    return {
        "classes": list(names),
        "images": counts.tolist(),
        "error": {name: _errors(logits, labels, counts) for name, logits in networks.items()},
    }


def _errors(logits: Logits, labels: Labels, counts: NDArray[np.integer]) -> list[float | None]:
    wrong = np.bincount(labels[logits.argmax(axis=1) != labels], minlength=len(counts))
    return [100.0 * int(w) / int(n) if n else None for w, n in zip(wrong, counts, strict=True)]


def confusions(networks: Mapping[str, Logits], labels: Labels, names: Sequence[str]) -> dict[str, Any]:
    """Of each network the K x K counts (row: true class, column: prediction) and the most frequent confusions."""
    return {
        "classes": list(names),
        "networks": {name: _confusion(logits, labels, names) for name, logits in networks.items()},
    }


def _confusion(logits: Logits, labels: Labels, names: Sequence[str]) -> dict[str, Any]:
    counts = np.zeros((len(names), len(names)), dtype=np.int64)
    np.add.at(counts, (labels, logits.argmax(axis=1)), 1)
    wrong = counts - np.diag(np.diag(counts))
    order = np.argsort(-wrong, axis=None, kind="stable")[:MOST]
    pairs = [divmod(int(position), len(names)) for position in order]
    most = [
        {"true": names[t], "predicted": names[p], "images": int(wrong[t, p]), "of": int(counts[t].sum())}
        for t, p in pairs
        if wrong[t, p]
    ]
    return {"counts": counts.tolist(), "most": most}


def largest_changes(errors: Mapping[str, Any], *, of: str, against: str) -> list[dict[str, Any]]:
    """The classes whose error differs most, the worst for `of` first: name, both errors, difference."""
    pairs = zip(errors["classes"], errors["error"][of], errors["error"][against], strict=True)
    rows = [
        {"class": name, "error": a, "against": b, "difference": a - b}
        for name, a, b in pairs
        if a is not None and b is not None and a != b
    ]
    return sorted(sorted(rows, key=lambda row: -abs(row["difference"]))[:MOST], key=lambda row: -row["difference"])


def draw_errors(numbers: Mapping[str, Any], styles: Styles, *, of: str, against: Sequence[str]) -> str:
    """A point for each class: below the diagonal `of` is better. The classes that differ most are labelled."""
    across = min(2, len(against))
    with drawing(len(against), across, margin=0.3, height=3.7, width=3.7 * across) as drawn:
        for axes, other in zip(drawn.panels, against, strict=True):
            _scatter(axes, numbers, of, other, styles[of])
        return drawn.svg()


def _scatter(axes: Axes, numbers: Mapping[str, Any], of: str, other: str, style: Style) -> None:
    pairs = zip(numbers["classes"], numbers["error"][other], numbers["error"][of], strict=True)
    points = [(x, y, name) for name, x, y in pairs if x is not None and y is not None]
    most = min(100.0, 1.15 * max([1.0, *(max(x, y) for x, y, _ in points)]))
    axes.plot([0, most], [0, most], color=FAINT, linewidth=1)
    x, y = [point[0] for point in points], [point[1] for point in points]
    axes.scatter(x, y, s=30, color=style.colour, marker=style.marker, edgecolor=PAPER, linewidth=0.4)
    order = sorted(points, key=lambda point: point[1] - point[0])
    _label_points(axes, [point for point in order[:_LABELLED] if point[1] < point[0]], most, below=True)
    _label_points(axes, [point for point in order[-_LABELLED:] if point[1] > point[0]], most, below=False)
    axes.set_xlim(-0.02 * most, 1.02 * most)
    axes.set_ylim(-0.02 * most, 1.02 * most)
    axes.set_aspect("equal")
    axes.set_xlabel(f"error of {other} (%)")
    axes.set_ylabel(f"error of {of} (%)")


def _label_points(axes: Axes, points: Sequence[tuple[float, float, str]], most: float, *, below: bool) -> None:
    """Names next to points, below and right of them or above them, each on a line of its own."""
    sign = -1 if below else 1
    lifts, line = [0.0] * len(points), -math.inf
    for n in sorted(range(len(points)), key=lambda n: sign * points[n][1]):
        height = sign * points[n][1] / most * _SIDE
        lifts[n] = sign * max(0.0, line - height)
        line = max(line, height) + _LINE
    for (x, y, name), lift in zip(points, lifts, strict=True):
        right = below or x < 0.3 * most  # the side with room for the name
        axes.annotate(
            name,
            (x, y),
            xytext=(4 if right else -4, lift + 4 * sign),
            textcoords="offset points",
            ha="left" if right else "right",
            va="top" if below else "bottom",
            fontsize=9,
            color=INK,
        )


def draw_confusion(numbers: Mapping[str, Any]) -> str:
    """Shares of each true class, a panel for every network."""
    networks, names = numbers["networks"], numbers["classes"]
    named = len(names) <= _NAMED
    across = min(2, len(networks)) if named else square(len(networks))
    width = 8.6 if across > 1 else 5.4
    size = {"margin": 1.1 if named else 0.7, "height": (width - 1.7) / across + 0.3, "width": width}
    with drawing(len(networks), across, **size, sharex=True, sharey=True) as drawn:
        for axes, (name, each) in zip(drawn.panels, networks.items(), strict=True):
            counts = np.array(each["counts"], dtype=float)
            image = heat(axes, 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1), most=100.0)
            axes.set_title(name)
            if named:
                axes.set_xticks(range(len(names)), names, rotation=90 if max(map(len, names)) > 2 else 0)
                axes.set_yticks(range(len(names)), names)
        drawn.label("predicted class", "true class")
        drawn.figure.colorbar(image, ax=drawn.figure.axes, label="share of the true class (%)", fraction=0.05)
        return drawn.svg()


def blocks(report: Report, images: Images) -> list[Block]:
    """Error of each class compared with teacher and baselines, and confusions."""
    run, names, logits = report.run.label, images.class_names, report.logits
    errors, confusion = class_errors(logits, images.labels, names), confusions(logits, images.labels, names)
    others = [name for name in logits if name != run]
    made: list[Block] = []
    if others:
        made.append(
            Figure(
                "class_errors",
                f"Error of every class, {run} compared with the others: below the diagonal {run} is better. With few "
                "images of a class, a point or two is noise.",
                f"Scatter charts with one point a class: error of {run} over the error of {', '.join(others)}.",
                errors,
                draw_errors(errors, run_styles(report), of=run, against=others),
            )
        )
    for other in others[:2]:  # teacher and first baseline
        rows = [
            (row["class"], number(row["error"]), number(row["against"]), f"{row['difference']:+.2f}")
            for row in largest_changes(errors, of=run, against=other)
        ]
        columns = [*text_columns("class"), *number_columns(f"{run} (%)", f"{other} (%)", "difference (points)")]
        caption = f"Classes whose error differs most between {run} and {other}."
        made.append(PageTable(caption, columns, rows, sortable=True))
    most = confusion["networks"][run]["most"]
    return [
        *made,
        Figure(
            "confusion",
            "Confusion: the share of each true class (row) that is predicted as each class (column), in percent; "
            "colours are on a square-root scale.",
            f"Heat maps of true by predicted classes for {', '.join(confusion['networks'])}.",
            confusion,
            draw_confusion(confusion),
        ),
        PageTable(
            f"The most frequent confusions of {run}.",
            [*text_columns("true class", "predicted"), *number_columns("images", "of")],
            [(each["true"], each["predicted"], str(each["images"]), str(each["of"])) for each in most],
            sortable=True,
        ),
    ]
