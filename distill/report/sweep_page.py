"""The page of a sweep: accuracy over the values, what held-out images chose, and what that reaches on the test set."""

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from distill.report.drawing import HEAT, band, dots, dots_legend, drawing, label_dots, line, styles_of
from distill.report.page import (
    INK,
    Block,
    Figure,
    PageColumn,
    PageTable,
    Section,
    Text,
    number_columns,
    report_files,
    text_columns,
)
from distill.report.sweep_runs import Curve, Panel, SweepPreset
from distill.tables.rows import Row
from distill.tables.statistics import Blocks, blocks
from distill.tables.values import fields, is_number, number, rank, to_text

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
_METHODS = (
    "Accuracy after the last epoch of every method: each seed, the mean and one standard deviation to either side."
)


def sweep_files(preset: SweepPreset, panels: Sequence[Panel]) -> dict[str, str]:
    """The page and its figures by their names; there is at least one panel."""
    sections = [Section("pictures", "Results", _figures(preset, panels))]
    sections += [Section("chosen", "Chosen configurations", _chosen(preset, panels))] if preset.keys else []
    sections.append(Section("tried", "All configurations", [_all(preset, panels)]))
    about = f"Accuracy over {' and '.join(preset.keys) or 'methods and seeds'}: {len(_runs(panels))} finished runs."
    return report_files(f"Sweep {preset.name}", about, sections)


def sweep_record(preset: SweepPreset, panels: Sequence[Panel]) -> dict[str, Any]:
    """What report.json holds: the subject, the runs, and of each tuning what it chose, of how many, and its tests."""
    chosen = [
        {
            "method": curve.label,
            "student": panel.student,
            "dataset": panel.dataset,
            "holdout": panel.holdout,
            "values": list(curve.best[0].values),
            "tried": len(curve.cells),
            "held_out": _summary(curve.best[0].row),
            "test": [_summary(row) for row in curve.tested],
        }
        for panel, curve in _tunings(panels)
    ]
    return {"subject": f"sweep {preset.name}", "runs": _runs(panels), "chosen": chosen}


def _tunings(panels: Sequence[Panel]) -> list[tuple[Panel, Curve]]:
    """The curves on held-out images, which have chosen values."""
    return [(panel, curve) for panel in panels for curve in panel.curves if curve.best]


def _runs(panels: Sequence[Panel]) -> list[str]:
    """The ids of all runs shown."""
    rows = [cell.row for panel in panels for curve in panel.curves for cell in curve.cells]
    rows += [row for _, curve in _tunings(panels) for row in curve.tested]
    return list(dict.fromkeys(run.run_id for row in rows for run in row.runs))


def sweep_numbers(preset: SweepPreset, panels: Sequence[Panel]) -> dict[str, Any]:
    """Of the panels each configuration with its accuracies in percent.

    Curves that were trained alike share `pooled`, the deviation over their configurations (`statistics.Blocks`). `half`
    is half of the 95 % interval of a configuration's mean that follows from it, None where its seeds are others.
    """
    return {
        "sweep": preset.name,
        "keys": list(preset.keys),
        "logarithmic": sorted(preset.logarithmic),
        "panels": [_panel_numbers(panel) for panel in panels],
    }


def _panel_numbers(panel: Panel) -> dict[str, Any]:
    rows: dict[Hashable, list[Row]] = defaultdict(list)
    for curve in panel.curves:
        rows[curve.conditions] += [cell.row for cell in curve.cells]
    pooled = {conditions: blocks([row.by_unit for row in alike]) for conditions, alike in rows.items()}
    return {
        "dataset": panel.dataset,
        "student": panel.student,
        "holdout": panel.holdout,
        "measured_on": panel.measured_on,
        "curves": [_curve_numbers(curve, pooled[curve.conditions]) for curve in panel.curves],
    }


def _curve_numbers(curve: Curve, pooled: Blocks | None) -> dict[str, Any]:
    return {
        "label": curve.label,
        "preset": curve.preset,
        "pooled": fields(pooled, "deviation", "degrees", "rows", "n", "least") if pooled else None,
        "cells": [
            {
                "values": list(cell.values),
                **_summary(cell.row),
                "half": pooled.half if pooled and cell.row.by_unit.keys() == pooled.keys else None,
                "chosen": cell.values in curve.chosen,
            }
            for cell in curve.cells
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
    """A row for every panel, in it axes for every key: seeds and mean by value, with the mean's interval as a band."""
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
            band(axes, x, mean, [cell["half"] for cell in curve["cells"]], style.colour)
            seeds = [
                (at, value) for at, cell in zip(x, curve["cells"], strict=True) for value in cell["by_seed"].values()
            ]
            if len(seeds) > len(x):
                axes.plot(*zip(*seeds, strict=True), "o", mfc="none", mec=style.colour, ms=5, mew=1.0, zorder=3)
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
    return sorted({cell["values"][n] for cell in curve["cells"]}, key=rank)


def _seeds(curve: Numbers) -> str:
    counts = sorted({cell["n"] for cell in curve["cells"]})
    return f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"


def _accuracy(panel: Numbers) -> str:
    return f"accuracy on {panel['measured_on']}, %"


def _title(panel: Numbers) -> str:
    return f"{panel['student']}, {panel['dataset']}"


def _figures(preset: SweepPreset, panels: Sequence[Panel]) -> list[Block]:
    made: list[Block] = []
    keys = len(preset.keys)
    for name, caption, holdout in (("tuning", _HELD_OUT, True), ("test", _TEST, False)):
        shown = [panel for panel in panels if bool(panel.holdout) == holdout]
        if not shown:
            continue
        numbers = sweep_numbers(preset, shown)
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
            note = f"{_band(numbers)} {note}" if keys == 1 else note
        caption = f"{caption if keys else _METHODS} {note}"
        made.append(Figure(name, caption, f"{kind} of accuracies. {means}.", numbers, svg))
    return made


def _band(numbers: Numbers) -> str:
    """How to read the bands of curves."""
    pools: dict[str, list[str]] = defaultdict(list)
    for panel in numbers["panels"]:
        for curve in panel["curves"]:
            if found := curve["pooled"]:
                degrees = f"{found['degrees']} degree{'s' * (found['degrees'] != 1)} of freedom"
                words = (
                    f"on {_title(panel)} {found['deviation']:.2f} points over {found['rows']} configurations of "
                    f"{found['n']} seeds ({degrees}): a single difference below about "
                    f"{found['least']:.2f} points is not resolved"
                )
                pools[words].append(curve["label"])
    if not pools:
        return (
            "There is no band: no two configurations share two seeds, or their differences are the same for every seed."
        )
    deviations = "; for ".join(f"{', '.join(labels)} {words}" for words, labels in pools.items())
    return (
        "Each circle is a seed. The band is a mean's 95 % interval for comparisons within the seeds (Loftus and Masson "
        "1994): curves that were trained alike share one standard deviation, without what a seed changes in all of "
        f"them alike. It is, for {deviations}."
    )


def _key_columns(preset: SweepPreset, panels: Sequence[Panel]) -> list[PageColumn]:
    """The swept keys; a column of numbers where all values of its key are."""
    cells = [cell for panel in panels for curve in panel.curves for cell in curve.cells]
    return [PageColumn(key, all(is_number(cell.values[n]) for cell in cells)) for n, key in enumerate(preset.keys)]


def _chosen(preset: SweepPreset, panels: Sequence[Panel]) -> list[Block]:
    tunings = _tunings(panels)
    if not tunings:
        text = "Nothing was chosen: no configuration of this sweep was measured on held-out images."
        return [Text(text, missing=True)]
    rows, ties = [], []
    for panel, curve in tunings:
        cell, *others = curve.best
        names = (curve.label, panel.student, panel.dataset, *map(to_text, cell.values))
        tests = [(str(row.last), str(row.last.n)) for row in curve.tested]
        rows += [(*names, str(len(curve.cells)), str(cell.row.last), *test) for test in tests or [("-", "0")]]
        if others:
            chosen, *equal = (" ".join(map("{}={}".format, preset.keys, map(to_text, c.values))) for c in curve.best)
            why = "the first that was trained on all images" if tests else "the first of them"
            ties.append(
                f"{curve.label} on {panel.student}: {len(curve.best)} configurations tie on the held-out images. "
                f"{chosen} counts as chosen, {why}; equally good: {', '.join(equal)}."
            )
    columns = [*text_columns("method", "student", "dataset"), *_key_columns(preset, panels)]
    columns += number_columns("tried", "held out (%)", "test set (%)", "n")
    caption = (
        "Of each method the configuration with the highest mean on the held-out images, and its accuracy on the test "
        "set after training on all images; - where that has not been done."
    )
    made: list[Block] = [PageTable(caption, columns, rows, sortable=True), *map(Text, ties)]
    if len({len(curve.cells) for _, curve in tunings}) > 1:
        text = "The methods did not have equal budgets: the column 'tried' is the number of configurations of each."
        made.append(Text(text, warning=True))
    return made


def _all(preset: SweepPreset, panels: Sequence[Panel]) -> PageTable:
    columns = [*text_columns("method", "student", "dataset"), *_key_columns(preset, panels)]
    columns += [*text_columns("measured on"), *number_columns("n", "last epoch (%)")]
    columns += text_columns("chosen") if preset.keys else []
    rows = [
        (
            curve.label,
            panel.student,
            panel.dataset,
            *map(to_text, cell.values),
            panel.measured_on,
            str(cell.row.last.n),
            number(cell.row.last.mean) if cell.row.last.deviation is None else str(cell.row.last),
            *(["chosen" if cell.values in curve.chosen and panel.holdout else ""] if preset.keys else []),
        )
        for panel in panels
        for curve in panel.curves
        for cell in sorted(curve.cells, key=lambda cell: -cell.row.last.mean)
    ]
    caption = "All finished configurations, the best of each method first. Click a column header to sort by it."
    if preset.searched:
        caption += " Proposals that the search stopped early have no last epoch and are not listed."
    return PageTable(caption, columns, rows, sortable=True)
