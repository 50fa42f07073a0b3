"""From the runs of a sweep to the files of its page."""

from typing import Any

from distill.report.assembled import assembled
from distill.report.blocks import Block, Chapter, Figure, Table, Text, columns, number
from distill.report.sweeps.cells import chosen, measured_on, numbers
from distill.report.sweeps.drawings import draw_sweep
from distill.report.sweeps.tried import Choice, SweepRuns, is_number
from distill.tables.values import to_text

_HELD = (
    "Accuracy after the last epoch on training images that were held out of training: on these a value is chosen, the "
    "test set is not looked at. The one with the highest mean of a method is marked."
)
_TEST = (
    "Accuracy after the last epoch on the test set, where the whole grid was run on it. Its best value is not a "
    "choice: to choose by the test set is to fit to it. What held-out images chose is marked, if they were asked."
)
_METHODS = "Accuracy after the last epoch of every method: each seed, the mean and one deviation to either side."
_COLOURS = " A method has one colour in all figures."
_DRAWN = {
    1: f" The band is one deviation over the seeds to either side.{_COLOURS}",
    2: " The colours of a student's methods are on one scale.",
}


def sweep_files(found: SweepRuns) -> dict[str, str]:
    """The page and its figures by their names; `found` holds at least one panel."""
    keys = " and ".join(found.preset.keys) or "methods and seeds"
    runs = f"{len(found.runs)} finished runs"
    made = [_pictures(found), _chosen(found), _tried(found)] if found.preset.keys else [_pictures(found), _tried(found)]
    return assembled(f"Sweep {found.preset.name}", f"Accuracy over {keys}: {runs}.", made)


def sweep_record(found: SweepRuns) -> dict[str, Any]:
    """What report.json says."""
    return {"subject": f"sweep {found.preset.name}", "runs": found.runs, "chosen": chosen(found)}


def _pictures(found: SweepRuns) -> Chapter:
    blocks: list[Block] = []
    count = len(found.preset.keys)
    for name, words, holdout in (("tuning", _HELD, True), ("test", _TEST, False)):
        data = numbers(found, holdout=holdout)
        if not data["panels"]:
            continue
        told = "; ".join(
            f"{curve['label']} on {panel['measured_on']}: "
            + ", ".join(
                f"{' '.join(map(to_text, cell['values']))} {cell['mean']:.2f} %".strip() for cell in curve["cells"]
            )
            for panel in data["panels"]
            for curve in panel["curves"]
        )
        kind = {0: "Dot chart", 2: "Heat maps"}.get(count, "Line chart")
        caption = f"{words if count else _METHODS}{_DRAWN.get(count, _COLOURS)}"
        blocks.append(Figure(name, caption, f"{kind} of accuracies. {told}.", data, draw_sweep(data)))
    return Chapter("pictures", "What was tried", tuple(blocks))


def _chosen(found: SweepRuns) -> Chapter:
    if not found.choices:
        words = "Nothing was chosen: no configuration of this sweep was measured on held-out images."
        return Chapter("chosen", "What was chosen", (Text(words, missing=True),))
    told = {"method": False, "student": False, "dataset": False, **_swept(found)}
    headers, numeric = columns({**told, "tried": True, "held out (%)": True, "test set (%)": True, "n": True})
    rows = []
    for choice in found.choices:
        first = choice.cell.row
        names = (choice.curve.label, first.first.names["student"], _dataset(found, choice.curve))
        before = (*map(to_text, choice.cell.values), str(len(choice.curve.cells)), str(first.last))
        for row in choice.tested:
            rows.append((*names, *before, str(row.last), str(row.last.n)))
        if not choice.tested:
            rows.append((*names, *before, "-", "0"))
    table = Table(
        "Of each method the configuration with the highest mean on the held-out images, and what it reaches on the "
        "test set when it is trained on all images; - where that has not been done.",
        headers,
        tuple(rows),
        numeric,
        sortable=True,
    )
    blocks: list[Block] = [table]
    blocks += [Text(_ties(found, choice)) for choice in found.choices if choice.ties]
    counts = {len(choice.curve.cells) for choice in found.choices}
    if len(counts) > 1:
        words = "The methods were not given equal budgets: the column 'tried' says how many configurations each had."
        blocks.append(Text(words, warning=True))
    return Chapter("chosen", "What was chosen", tuple(blocks))


def _swept(found: SweepRuns) -> dict[str, bool]:
    """The swept keys, and whether all their values are numbers."""
    cells = [cell for panel in found.panels for curve in panel.curves for cell in curve.cells]
    return {key: all(is_number(cell.values[place]) for cell in cells) for place, key in enumerate(found.preset.keys)}


def _ties(found: SweepRuns, choice: Choice) -> str:
    chosen, *others = (
        " ".join(f"{key}={to_text(value)}" for key, value in zip(found.preset.keys, cell.values, strict=True))
        for cell in (choice.cell, *choice.ties)
    )
    why = "the first that was trained on all images" if choice.tested else "the first of them"
    return (
        f"{choice.curve.label} on {choice.curve.cells[0].row.first.names['student']}: {len(others) + 1} configurations "
        f"tie on the held-out images. {chosen} counts as chosen, {why}; as good: {', '.join(others)}."
    )


def _dataset(found: SweepRuns, curve: Any) -> str:
    return next(panel.dataset for panel in found.panels if curve in panel.curves)


def _tried(found: SweepRuns) -> Chapter:
    heads = {"method": False, "student": False, "dataset": False, **_swept(found)}
    heads |= {"measured on": False, "n": True, "last epoch (%)": True}
    headers, numeric = columns({**heads, "chosen": False} if found.preset.keys else heads)
    rows = [
        (
            curve.label,
            panel.student,
            panel.dataset,
            *map(to_text, cell.values),
            measured_on(panel.holdout),
            str(cell.row.last.n),
            number(cell.row.last.mean) if cell.row.last.deviation is None else str(cell.row.last),
            *(["chosen" if cell.values in curve.chosen and panel.holdout else ""] if found.preset.keys else []),
        )
        for panel in found.panels
        for curve in panel.curves
        for cell in sorted(curve.cells, key=lambda cell: -cell.row.last.mean)
    ]
    caption = "All configurations that were finished, the best of each method first. The head of a column sorts by it."
    if found.preset.searched:
        caption += " Proposals that the search ended early have no last epoch and are not among them."
    table = Table(caption, headers, tuple(rows), numeric, sortable=True)
    return Chapter("tried", "All configurations", (table,))
