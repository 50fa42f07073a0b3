"""How training went."""

from distill.report.blocks import Block, Chapter, Figure, Table, Text, columns
from distill.report.figures.curves import draw_evaluation, draw_training
from distill.report.numbers.curves import curves, epochs_to, levels
from distill.report.subjects import Compared

_TERMS = (
    "Losses of unlike methods cannot be compared with each other; each has a panel of its own, in which its weighted "
    "terms add up to what is minimised. Cross-entropy and divergences are in nats, distances of features in none."
)


def chapter(compared: Compared) -> Chapter:
    """Accuracy, cross-entropy and loss terms by epoch; the epochs that an accuracy takes."""
    histories = {each.label: each.found.history for each in compared.everyone if each.found.history}
    if not histories:
        words = "No run has a record of its epochs (metrics.jsonl), so there are no curves."
        return Chapter("curves", "Training", (Text(words, missing=True),))
    result = compared.run.found.result
    split = str(result["split"])
    numbers = curves(histories, split=split)
    told = ", ".join(f"{name} ends at {last:.2f} %" for name, last in _ends(numbers))
    blocks: list[Block] = [
        Figure(
            "curves",
            f"Accuracy and cross-entropy on the {split} images after every epoch.",
            f"Two line charts over the epochs. {told}.",
            numbers,
            draw_evaluation(numbers, compared.looks),
        )
    ]
    if any(run["terms"] for run in numbers["runs"].values()):
        blocks.append(
            Figure(
                "training",
                f"Accuracy on the augmented training images and the terms of each loss, means over the epoch. {_TERMS}",
                "Line charts over the epochs: training accuracy of all runs, then the loss terms of each run.",
                numbers,
                draw_training(numbers, compared.looks),
            )
        )
    yardstick = compared.against[0] if compared.against else compared.run
    targets = levels(yardstick.found.result["last"]["accuracy"], compared.targets)
    reached = epochs_to(numbers, targets)
    headers, numeric = columns({"run": False, **{f"{target:g} %": True for target in targets}})
    rows = tuple((name, *(str(epoch or "-") for epoch in epochs)) for name, epochs in reached["runs"].items())
    chosen = "" if compared.targets else f" The levels are shares of the last accuracy of {yardstick.label}."
    blocks.append(
        Table(
            f"First epoch with at least this {split} accuracy; - where it is never reached.{chosen}",
            headers,
            rows,
            numeric,
        )
    )
    return Chapter("curves", "Training", tuple(blocks))


def _ends(numbers: dict[str, object]) -> list[tuple[str, float]]:
    runs = numbers["runs"]
    assert isinstance(runs, dict)
    known = ((name, [value for value in run["accuracy"] if value is not None]) for name, run in runs.items())
    return [(name, values[-1]) for name, values in known if values]
