"""What a temperature does to the softmax."""

from distill.report.blocks import Block, Chapter, Figure, Text
from distill.report.chapters.missing import no_answers
from distill.report.figures.temperature import draw_entropy, draw_samples
from distill.report.numbers.fidelity import entropies
from distill.report.numbers.samples import chosen_images, softened_samples
from distill.report.subjects import Compared

TITLE = "Softmax under temperature"
_MOST = 4  # networks whose bars can be told apart


def chapter(compared: Compared) -> Chapter:
    """Real images at several temperatures, and the entropy over all images."""
    if reason := no_answers(compared):
        return Chapter("temperature", TITLE, (Text(reason, missing=True),))
    assert compared.images is not None
    images, logits, run = compared.images, compared.logits, compared.run.label
    teacher = compared.told
    rows = chosen_images(logits[run], logits[teacher.label] if teacher else None, images.labels)
    kept = list(logits)[: _MOST - 1] if run not in list(logits)[:_MOST] else list(logits)[:_MOST]
    shown = {name: logits[name] for name in dict.fromkeys([*kept, run])}
    numbers = softened_samples(
        shown, images.labels, images.class_names, rows=rows, by=teacher.label if teacher else run
    )
    told = "; ".join(f"{each['kind']}: {each['true']}" for each in numbers["images"])
    softened = entropies(logits)
    left_out = [name for name in logits if name not in shown]
    more = f" Not shown for want of room: {', '.join(left_out)}." if left_out else ""
    blocks: list[Block] = [
        Figure(
            "temperature",
            f"One {images.split} image of each kind, drawn by a seed, with the likeliest classes of "
            f"{teacher.label if teacher else run} (a dot marks the true one) and their probability at four "
            f"temperatures; student is {run}.{more}",
            f"Bar charts of class probabilities, for temperatures 1, 2, 4 and 8. Images: {told}.",
            numbers,
            draw_samples(numbers, compared.looks, images.pixels[list(rows.values())]),
        ),
        Figure(
            "entropy",
            "Mean entropy of the softmax over all images: how soft a network's answers are at a temperature.",
            "Line chart of entropy over temperature: "
            + ", ".join(f"{name} {values[3]:.2f} nats at T = 1" for name, values in softened["entropy"].items())
            + ".",
            softened,
            draw_entropy(softened, compared.looks),
        ),
    ]
    return Chapter("temperature", TITLE, tuple(blocks))
