"""Which classes are got wrong."""

from typing import Any

from distill.report.blocks import Block, Chapter, Figure, Table, Text, columns, number
from distill.report.chapters.missing import no_answers
from distill.report.figures.errors import draw_errors
from distill.report.figures.matrices import draw_confusion
from distill.report.numbers.errors import class_errors, confusions, largest_changes
from distill.report.subjects import Compared

TITLE = "Errors by class"


def chapter(compared: Compared) -> Chapter:
    """Error of each class against teacher and baselines, and confusions."""
    if reason := no_answers(compared):
        return Chapter("errors", TITLE, (Text(reason, missing=True),))
    assert compared.images is not None
    run, names = compared.run.label, compared.images.class_names
    errors = class_errors(compared.logits, compared.images.labels, names)
    confusion = confusions(compared.logits, compared.images.labels, names)
    others = [name for name in compared.logits if name != run]
    blocks: list[Block] = []
    if others:
        blocks.append(
            Figure(
                "class_errors",
                f"Error of every class, {run} against the others: below the line {run} is better. With few images of a "
                "class, a point or two is noise.",
                f"Scatter charts with one point a class: error of {run} over the error of {', '.join(others)}.",
                errors,
                draw_errors(errors, compared.looks, of=run, against=others),
            )
        )
        blocks += [_changes(errors, run, other) for other in others[:2]]  # teacher and baseline
    blocks += [
        Figure(
            "confusion",
            "Confusion: of each true class (row) the share that is taken for each class (column), in percent; the "
            "scale of colours is that of the square root.",
            f"Heat maps of true by predicted classes for {', '.join(confusion['networks'])}.",
            confusion,
            draw_confusion(confusion),
        ),
        _most(confusion, run),
    ]
    return Chapter("errors", TITLE, tuple(blocks))


def _changes(errors: dict[str, Any], run: str, other: str) -> Table:
    headers, numeric = columns({"class": False, f"{run} (%)": True, f"{other} (%)": True, "difference (points)": True})
    rows = tuple(
        (row["class"], number(row["error"]), number(row["against"]), f"{row['difference']:+.2f}")
        for row in largest_changes(errors, of=run, against=other)
    )
    caption = f"Classes whose error differs most between {run} and {other}."
    return Table(caption, headers, rows, numeric, sortable=True)


def _most(confusion: dict[str, Any], run: str) -> Table:
    headers, numeric = columns({"true class": False, "taken for": False, "images": True, "of": True})
    listed = confusion["networks"][run]["most"]
    rows = tuple((each["true"], each["predicted"], str(each["images"]), str(each["of"])) for each in listed)
    return Table(f"What {run} confuses most often.", headers, rows, numeric, sortable=True)
