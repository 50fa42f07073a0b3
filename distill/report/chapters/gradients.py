"""How hard the terms of a loss pull."""

from typing import Any

from distill.report.blocks import Chapter, Figure, Table, Text, columns, number
from distill.report.figures.gradients import draw_gradients
from distill.report.subjects import Compared

TITLE = "Gradients of the loss terms"
_WHEN = (
    "Measured now, with the final weights: training records the terms by epoch (above), not their gradients, so how "
    "these norms came about epoch by epoch is not known."
)


def chapter(compared: Compared) -> Chapter:
    """Norms of the weighted terms' gradients with the final weights."""
    found = {each.label: each.found.gradients for each in compared.students if each.found.gradients}
    if not found:
        words = "No gradients: they need weights, data, and a method that learned nothing beside its student."
        return Chapter("gradients", TITLE, (Text(words, missing=True),))
    numbers = {"runs": found}
    some: dict[str, Any] = dict(next(iter(found.values())))
    told = ", ".join(
        f"{name} {term} {values['weights']['mean']:.2g}"
        for name, run in found.items()
        for term, values in run["terms"].items()
    )
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
        for name, run in found.items()
        for term, values in run["terms"].items()
    )
    return Chapter(
        "gradients",
        TITLE,
        (
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
        ),
    )
