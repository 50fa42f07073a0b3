"""How hard the terms of a loss pull."""

from typing import Any

from distill.report.blocks import Block, Chapter, Figure, Table, Text, columns, number
from distill.report.figures.gradients import draw_gradients, draw_gradients_by_epoch
from distill.report.numbers.curves import gradient_norms
from distill.report.subjects import Compared

TITLE = "Gradients of the loss terms"
_WHEN = (
    "Measured now, with the final weights: these runs recorded their terms by epoch (above), not the gradients of "
    "them, so how these norms came about epoch by epoch is not known."
)


def chapter(compared: Compared) -> Chapter:
    """Norms of the weighted terms' gradients: by epoch where a run recorded them, else with the final weights."""
    recorded = gradient_norms({each.label: each.found.history for each in compared.students})
    later = {
        each.label: each.found.gradients
        for each in compared.students
        if each.found.gradients and each.label not in recorded["runs"]
    }
    blocks: list[Block] = []
    if recorded["runs"]:
        blocks += _by_epoch(recorded, compared)
    if later:
        blocks += _at_the_end(later, compared)
    if not blocks:
        words = "No gradients: they need weights, data, and a method that learned nothing beside its student."
        blocks.append(Text(words, missing=True))
    return Chapter("gradients", TITLE, tuple(blocks))


def _by_epoch(numbers: dict[str, Any], compared: Compared) -> list[Block]:
    recorded = [
        (name, term, [(epoch, value) for epoch, value in zip(run["epoch"], values, strict=True) if value is not None])
        for name, run in numbers["runs"].items()
        for term, values in run["terms"].items()
    ]
    ends = [(name, term, known[0], known[-1]) for name, term, known in recorded if known]
    told = ", ".join(f"{name} {term} from {first[1]:.2g} to {last[1]:.2g}" for name, term, first, last in ends)
    headers, numeric = columns({"run": False, "term": False, "epochs": True, "first": True, "last": True})
    rows = tuple(
        (name, term, f"{first[0]} to {last[0]}", f"{first[1]:.4g}", f"{last[1]:.4g}")
        for name, term, first, last in ends
    )
    return [
        Figure(
            "gradient_norms",
            "Norm of the gradient of each weighted term at the student's weights, recorded by training after every "
            "epoch: on the batch, with the draws and with the memory of the step that came next. One scale for all.",
            f"Line charts of gradient norms by epoch: {told}.",
            numbers,
            draw_gradients_by_epoch(numbers, compared.looks),
        ),
        Table(
            "Gradient norms at the weights, after the first and the last epoch of which they are recorded.",
            headers,
            rows,
            numeric,
        ),
    ]


def _at_the_end(found: dict[str, Any], compared: Compared) -> list[Block]:
    numbers = {"runs": found}
    some: dict[str, Any] = dict(next(iter(found.values())))
    terms = [(name, term, values) for name, run in found.items() for term, values in run["terms"].items()]
    told = ", ".join(f"{name} {term} {values['weights']['mean']:.2g}" for name, term, values in terms)
    headers, numeric = columns(
        {"run": False, "term": False, "at the weights": True, "at the logits": True, "cosine to ce": True}
    )
    rows = tuple(
        (
            name,
            term,
            f"{values['weights']['mean']:.4g} ± {values['weights']['deviation']:.2g}",
            f"{values['logits']['mean']:.4g} ± {values['logits']['deviation']:.2g}",
            number(values["cosine_to_ce"], 3),
        )
        for name, term, values in terms
    )
    return [
        Figure(
            "gradients",
            f"Norm of the gradient of each weighted term, mean and deviation over {some['batches']} batches of "
            f"{some['batch_size']} augmented training images, BatchNorm as in training. {_WHEN}",
            f"Bar charts of gradient norms: {told}.",
            numbers,
            draw_gradients(numbers, compared.looks),
        ),
        Table(
            "Gradient norms; the cosine is that between a term's gradient at the weights and that of ce.",
            headers,
            rows,
            numeric,
        ),
    ]
