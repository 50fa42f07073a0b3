"""The page of a sweep: accuracy over the values, what held-out images chose, and what that reaches on the test set."""

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from distill.report.drawing import HEAT, band, dots, dots_legend, drawing, label_dots, line, styles_of
from distill.report.page import INK, Block, Figure, Section, Table, Text, number, report_files
from distill.report.sweep_runs import Choice, SweepRuns, is_number
from distill.tables.rows import Row
from distill.tables.values import to_text

Numbers = Mapping[str, Any]
_LINE = 0.2  # inches: a line of a legend
_DENSE = 0.5  # share of the cells of a grid above which it is drawn as a heat map
_HELD_OUT = (
    "Accuracy after the last epoch on training images that were held out of training: values are chosen on these, "
    "without looking at the test set. The configuration of each method with the highest mean is marked."
)
_TEST = (
    "Accuracy after the last epoch on the test set, of methods whose whole grid was run on it. Its best value is not a "
    "choice: choosing by the test set fits the test set. What held-out images chose is marked where there are any."
)
_METHODS = "Accuracy after the last epoch of every method: each seed, the mean and one deviation to either side."


def sweep_files(found: SweepRuns) -> dict[str, str]:
    """The page and its figures by their names; `found` holds at least one panel."""
    sections = [Section("pictures", "Results", _figures(found)), Section("tried", "All configurations", [_all(found)])]
    if found.preset.keys:
        sections.insert(1, Section("chosen", "Chosen configurations", _chosen(found)))
    keys = " and ".join(found.preset.keys) or "methods and seeds"
    return report_files(
        f"Sweep {found.preset.name}", f"Accuracy over {keys}: {len(found.runs)} finished runs.", sections
    )


def sweep_record(found: SweepRuns) -> dict[str, Any]:
    """What report.json holds: the subject, the runs, and of each tuning what it chose, of how many, and its tests."""
    chosen = [
        {
            "method": choice.curve.label,
            "student": choice.panel.student,
            "dataset": choice.panel.dataset,
            "holdout": choice.panel.holdout,
            "values": list(choice.cell.values),
            "tried": len(choice.curve.cells),
            "held_out": _summary(choice.cell.row),
            "test": [_summary(row) for row in choice.tested],
        }
        for choice in found.choices
    ]
    return {"subject": f"sweep {found.preset.name}", "runs": found.runs, "chosen": chosen}


def sweep_numbers(found: SweepRuns, *, holdout: bool) -> dict[str, Any]:
    """The panels on held-out images, or those on the test set: each configuration with its accuracies in percent."""
    return {
        "sweep": found.preset.name,
        "keys": list(found.preset.keys),
        "logarithmic": sorted(found.preset.logarithmic),
        "panels": [
            {
                "dataset": panel.dataset,
                "student": panel.student,
                "holdout": panel.holdout,
                "measured_on": panel.measured_on,
                "curves": [
                    {
                        "label": curve.label,
                        "preset": curve.preset,
                        "cells": [
                            {
                                "values": list(cell.values),
                                **_summary(cell.row),
                                "chosen": cell.values in curve.chosen,
                            }
                            for cell in curve.cells
                        ],
                    }
                    for curve in panel.curves
                ],
            }
            for panel in found.panels
            if bool(panel.holdout) == holdout
        ],
    }


def _summary(row: Row) -> dict[str, Any]:
    return {
        "n": row.last.n,
        "mean": row.last.mean,
        "deviation": row.last.deviation,
        "by_seed": {str(seed): value for seed, value in row.by_unit.items()},
        "runs": [run.run_id for run in row.runs],
    }


def draw_methods(numbers: Numbers) -> str:
    """For a sweep without keys: a panel for each student, a row for each method with its seeds, mean and deviation."""
    panels = numbers["panels"]
    rows = [1 + len(panel["curves"]) for panel in panels]
    height = (0.9 + sum(0.6 + 0.36 * each for each in rows)) / len(rows)
    with drawing(len(panels), 1, height=height, width=7.2, height_ratios=rows) as drawn:
        for axes, panel in zip(drawn.panels, panels, strict=True):
            curves = panel["curves"]
            for y, (curve, style) in enumerate(zip(curves, styles_of([c["preset"] for c in curves]), strict=True)):
                for cell in curve["cells"]:
                    dots(axes, y, list(cell["by_seed"].values()), cell["mean"], cell["deviation"], style.colour)
            label_dots(axes, [f"{curve['label']}, {_seeds(curve)}" for curve in curves])
            axes.set_title(_title(panel))
            axes.set_xlabel(_accuracy(panel))
        dots_legend(drawn, "a seed")
        return drawn.svg()


def draw_curves(numbers: Numbers) -> str:
    """A row for every panel, in it axes for every key: mean by value, with the deviation over seeds as a band."""
    keys, panels = numbers["keys"], numbers["panels"]
    across = len(keys)
    height = sum(3.7 + _LINE * len(panel["curves"]) for panel in panels) / len(panels)
    size = {"height": height, "width": 6.4 if across == 1 else 9.0}
    with drawing(len(panels) * across, across, **size, sharey="row") as drawn:
        for row, panel in zip(drawn.rows, panels, strict=True):
            for n, (axes, key) in enumerate(zip(row, keys, strict=True)):
                _draw_key(axes, panel, n, joined=across == 1, logarithmic=key in numbers["logarithmic"])
                axes.set_xlabel(key)
            row[0].set_ylabel(_accuracy(panel))
            drawn.legend_above(row[0], _title(panel))
        return drawn.svg()


def _draw_key(axes: Axes, panel: Numbers, n: int, *, joined: bool, logarithmic: bool) -> None:
    """Accuracy over the n-th key, points alone where other keys vary too. Words stand at equal distances."""
    curves = panel["curves"]
    values = list(dict.fromkeys(cell["values"][n] for curve in curves for cell in curve["cells"]))
    numeric = all(map(is_number, values))
    position = {value: value if numeric else rank for rank, value in enumerate(values)}
    for curve, style in zip(curves, styles_of([curve["preset"] for curve in curves]), strict=True):
        x = [position[cell["values"][n]] for cell in curve["cells"]]
        mean = [cell["mean"] for cell in curve["cells"]]
        line(
            axes,
            x,
            mean,
            style,
            f"{curve['label']}, {_seeds(curve)}",
            markevery=1,
            **({} if joined else {"linestyle": ""}),
        )
        if joined:
            band(axes, x, mean, [cell["deviation"] for cell in curve["cells"]], style.colour)
    chosen = [cell for curve in curves for cell in curve["cells"] if cell["chosen"]]
    if chosen:
        x = [position[cell["values"][n]] for cell in chosen]
        ring: dict[str, Any] = {"ls": "", "marker": "o", "mfc": "none", "mec": INK, "ms": 13, "mew": 1.6, "zorder": 4}
        axes.plot(x, [cell["mean"] for cell in chosen], label="chosen on held-out images", **ring)
    if logarithmic:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    if not numeric:
        axes.set_xticks(range(len(values)), [to_text(value) for value in values])
    elif len(values) <= 8 and not logarithmic:
        axes.set_xticks(values, [to_text(value) for value in values])


def draw_map(numbers: Numbers) -> str:
    """For two keys: a heat map for every curve, those of a panel on one scale."""
    curves = [(panel, curve) for panel in numbers["panels"] for curve in panel["curves"]]
    across = min(2, len(curves))
    with drawing(len(curves), across, margin=0.5, height=3.7, width=9.0 if across > 1 else 6.0) as drawn:
        for axes, (panel, curve) in zip(drawn.panels, curves, strict=True):
            means = [cell["mean"] for each in panel["curves"] for cell in each["cells"]]
            low, high = min(means), max(means) if max(means) > min(means) else min(means) + 1
            down, along = (_key_values(curve, n) for n in (0, 1))
            table = [[float("nan")] * len(along) for _ in down]
            for cell in curve["cells"]:
                x, y = along.index(cell["values"][1]), down.index(cell["values"][0])
                table[y][x] = cell["mean"]
                colour = "#000000" if (cell["mean"] - low) / (high - low) > 0.5 else "#ffffff"
                spread = "" if cell["deviation"] is None else f"\n± {cell['deviation']:.2f}"
                axes.text(x, y, f"{cell['mean']:.2f}{spread}", ha="center", va="center", color=colour, fontsize=9)
                for edge, width in (("#000000", 5.0), ("#ffffff", 2.0)) if cell["chosen"] else ():
                    axes.add_patch(Rectangle((x - 0.46, y - 0.46), 0.92, 0.92, fill=False, ec=edge, lw=width))
            image = axes.imshow(table, cmap=HEAT, interpolation="none", aspect="auto", vmin=low, vmax=high)
            axes.grid(False)
            axes.set_xticks(range(len(along)), [to_text(value) for value in along])
            axes.set_yticks(range(len(down)), [to_text(value) for value in down])
            title = f"{curve['label']}, {_seeds(curve)}"
            axes.set_title(f"{title}\n{_title(panel)}" if len(numbers["panels"]) > 1 else title)
            axes.set_xlabel(numbers["keys"][1])
            axes.set_ylabel(numbers["keys"][0])
            drawn.figure.colorbar(image, ax=axes, label=_accuracy(panel), fraction=0.05)
        return drawn.svg()


def _is_grid(curve: Numbers) -> bool:
    """Whether a curve over two keys fills enough of their grid; the proposals of a search do not."""
    return len(curve["cells"]) >= _DENSE * len(_key_values(curve, 0)) * len(_key_values(curve, 1))


def _key_values(curve: Numbers, n: int) -> list[Any]:
    return sorted({cell["values"][n] for cell in curve["cells"]}, key=lambda value: (isinstance(value, str), value))


def _seeds(curve: Numbers) -> str:
    counts = sorted({cell["n"] for cell in curve["cells"]})
    return f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"


def _accuracy(panel: Numbers) -> str:
    return f"accuracy on {panel['measured_on']}, %"


def _title(panel: Numbers) -> str:
    return f"{panel['student']}, {panel['dataset']}"


def _figures(found: SweepRuns) -> list[Block]:
    made: list[Block] = []
    keys = len(found.preset.keys)
    for name, caption, holdout in (("tuning", _HELD_OUT, True), ("test", _TEST, False)):
        numbers = sweep_numbers(found, holdout=holdout)
        if not numbers["panels"]:
            continue
        curves = [(panel, curve) for panel in numbers["panels"] for curve in panel["curves"]]
        means = "; ".join(
            f"{curve['label']} on {panel['measured_on']}: "
            + ", ".join(
                f"{' '.join(map(to_text, cell['values']))} {cell['mean']:.2f} %".strip() for cell in curve["cells"]
            )
            for panel, curve in curves
        )
        if not keys:
            kind, svg, note = "Dot chart", draw_methods(numbers), "A method has one colour in all figures."
        elif keys == 2 and all(_is_grid(curve) for _, curve in curves):
            kind, svg, note = "Heat maps", draw_map(numbers), "The methods of a student have one scale of colours."
        else:
            kind, svg, note = "Line chart", draw_curves(numbers), "A method has one colour in all figures."
            note = f"The band is one deviation over the seeds to either side. {note}" if keys == 1 else note
        caption = f"{caption if keys else _METHODS} {note}"
        made.append(Figure(name, caption, f"{kind} of accuracies. {means}.", numbers, svg))
    return made


def _swept(found: SweepRuns) -> dict[str, bool]:
    """The swept keys, and whether all values of each are numbers."""
    cells = [cell for panel in found.panels for curve in panel.curves for cell in curve.cells]
    return {key: all(is_number(cell.values[n]) for cell in cells) for n, key in enumerate(found.preset.keys)}


def _chosen(found: SweepRuns) -> list[Block]:
    if not found.choices:
        text = "Nothing was chosen: no configuration of this sweep was measured on held-out images."
        return [Text(text, missing=True)]
    rows = []
    for choice in found.choices:
        names = (choice.curve.label, choice.panel.student, choice.panel.dataset, *map(to_text, choice.cell.values))
        held_out = (str(len(choice.curve.cells)), str(choice.cell.row.last))
        tests = [(str(row.last), str(row.last.n)) for row in choice.tested]
        rows += [(*names, *held_out, *test) for test in tests or [("-", "0")]]
    columns = {"method": False, "student": False, "dataset": False, **_swept(found)}
    caption = (
        "Of each method the configuration with the highest mean on the held-out images, and its accuracy on the test "
        "set after training on all images; - where that has not been done."
    )
    columns |= {"tried": True, "held out (%)": True, "test set (%)": True, "n": True}
    made: list[Block] = [Table(caption, columns, rows, sortable=True)]
    made += [Text(_tie(found, choice)) for choice in found.choices if choice.ties]
    if len({len(choice.curve.cells) for choice in found.choices}) > 1:
        text = "The methods did not have equal budgets: the column 'tried' is the number of configurations of each."
        made.append(Text(text, warning=True))
    return made


def _tie(found: SweepRuns, choice: Choice) -> str:
    chosen, *others = (
        " ".join(f"{key}={to_text(value)}" for key, value in zip(found.preset.keys, cell.values, strict=True))
        for cell in (choice.cell, *choice.ties)
    )
    why = "the first that was trained on all images" if choice.tested else "the first of them"
    student = choice.curve.cells[0].row.first.names["student"]
    return (
        f"{choice.curve.label} on {student}: {len(others) + 1} configurations tie on the held-out images. {chosen} "
        f"counts as chosen, {why}; equally good: {', '.join(others)}."
    )


def _all(found: SweepRuns) -> Table:
    keys = found.preset.keys
    columns = {"method": False, "student": False, "dataset": False, **_swept(found)}
    columns |= {"measured on": False, "n": True, "last epoch (%)": True, **({"chosen": False} if keys else {})}
    rows = [
        (
            curve.label,
            panel.student,
            panel.dataset,
            *map(to_text, cell.values),
            panel.measured_on,
            str(cell.row.last.n),
            number(cell.row.last.mean) if cell.row.last.deviation is None else str(cell.row.last),
            *(["chosen" if cell.values in curve.chosen and panel.holdout else ""] if keys else []),
        )
        for panel in found.panels
        for curve in panel.curves
        for cell in sorted(curve.cells, key=lambda cell: -cell.row.last.mean)
    ]
    caption = "All finished configurations, the best of each method first. Click the head of a column to sort by it."
    if found.preset.searched:
        caption += " Proposals that the search stopped early have no last epoch and are not listed."
    return Table(caption, columns, rows, sortable=True)
