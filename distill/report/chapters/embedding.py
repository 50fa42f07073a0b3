"""Embeddings in the plane."""

from distill.report.blocks import Chapter, Figure, Text
from distill.report.chapters.missing import no_answers
from distill.report.figures.embedding import draw_planes
from distill.report.numbers.embedding import planes, varies
from distill.report.subjects import Compared

TITLE = "Embeddings"


def chapter(compared: Compared) -> Chapter:
    """t-SNE of what the classifiers read."""
    if reason := no_answers(compared):
        return Chapter("embedding", TITLE, (Text(reason, missing=True),))
    assert compared.images is not None
    asked = {each.label: each.found.answers for each in compared.everyone if each.found.answers is not None}
    known = {name: answers.embeddings for name, answers in asked.items() if answers.embeddings is not None}
    values = {name: each for name, each in known.items() if varies(each)}
    rows = compared.images.drawn
    if not values or len(rows) < 4:
        words = "There is nothing to draw: no network has embeddings that vary, or there are too few images."
        return Chapter("embedding", TITLE, (Text(words, missing=True),))
    numbers = planes(values, compared.images.labels[rows], compared.images.class_names)
    classes = list(dict.fromkeys(numbers["classes"]))
    without = [name for name in asked if name not in known]
    equal = [name for name in known if name not in values]
    more = f" Without an embedding: {', '.join(without)}." if without else ""
    more += f" With the same embedding for all images: {', '.join(equal)}." if equal else ""
    return Chapter(
        "embedding",
        TITLE,
        (
            Figure(
                "tsne",
                f"t-SNE of the embeddings of {numbers['images']} {compared.images.split} images: the first "
                f"{numbers['images'] // len(classes)} or so of {len(classes)} classes, evenly spaced over the class "
                f"numbers, nobody's choice (scikit-learn, perplexity {numbers['perplexity']:g}, seed "
                f"{numbers['seed']}). Colours and markers are classes here, not methods. Only who is whose "
                f"neighbour means something: sizes of groups and distances between them do not.{more}",
                f"Scatter charts, one for each network, of the classes {', '.join(classes)}.",
                numbers,
                draw_planes(numbers),
            ),
        ),
    )
