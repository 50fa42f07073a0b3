"""Embeddings: what the classifiers read, of some classes, in the plane by t-SNE."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from distill.report.drawing import COLOURS, MARKERS, drawing, square
from distill.report.page import INK, PAPER, Block, Figure, Text
from distill.report.runs import Images, Report
from distill.report.softmax import Labels

CLASSES = 8
IMAGES = 60  # of each class
SEED = 0
_PERPLEXITY = 30.0


def shown_images(labels: Labels, *, classes: int) -> NDArray[np.integer]:
    """Rows of the first images of some classes, which are evenly spaced over the numbers of all `classes`."""
    chosen = np.unique(np.linspace(0, classes - 1, min(CLASSES, classes)).round().astype(int))
    return np.concatenate([np.flatnonzero(labels == each)[:IMAGES] for each in chosen])


def planes(embeddings: Mapping[str, NDArray[np.floating]], labels: Labels, names: Sequence[str]) -> dict[str, Any]:
    """Of each network (M, D) the positions (M, 2) of its images; `classes` are those of the images, in order.

    "Visualizing Data using t-SNE" (van der Maaten and Hinton 2008), scikit-learn's, seeded and started from the
    principal components. Only neighbourhoods have a meaning, sizes of groups and distances between them have none.
    """
    from sklearn.manifold import TSNE  # the import takes half a second, and only this figure needs it

    perplexity = min(_PERPLEXITY, (len(labels) - 1) / 3)
    found = {}
    with threadpool_limits(1):  # several threads add in any order, and take longer
        for name, values in embeddings.items():
            plane = TSNE(perplexity=perplexity, init="pca", random_state=SEED).fit_transform(values.astype(np.float64))
            found[name] = np.round(plane, 3).tolist()
    return {
        "perplexity": perplexity,
        "seed": SEED,
        "images": len(labels),
        "classes": [names[int(label)] for label in labels],
        "networks": found,
    }


def draw_planes(numbers: Mapping[str, Any]) -> str:
    """A panel for every network. Colours and markers stand for classes here, not for methods."""
    networks, classes = numbers["networks"], list(dict.fromkeys(numbers["classes"]))
    class_of = np.array([classes.index(each) for each in numbers["classes"]])
    colours = (*COLOURS, INK)
    with drawing(len(networks), square(len(networks)), margin=0.9, height=2.9, width=8.6) as drawn:
        for axes, (name, plane) in zip(drawn.panels, networks.items(), strict=True):
            points = np.array(plane)
            for n, each in enumerate(classes):
                x, y = points[class_of == n].T
                axes.plot(x, y, MARKERS[n], color=colours[n % len(colours)], ms=4.5, mec=PAPER, mew=0.3, label=each)
            axes.set_title(name)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.grid(False)
            axes.set_xlabel("t-SNE 1")
            axes.set_ylabel("t-SNE 2")
        drawn.legend()
        return drawn.svg()


def blocks(report: Report, images: Images) -> list[Block]:
    """One figure of all networks whose embeddings differ between images."""
    known = {name: each.embeddings for name, each in report.outputs.items() if each.embeddings is not None}
    # without any difference t-SNE has no direction to start from, and scikit-learn divides by zero
    values = {name: each for name, each in known.items() if (each != each[:1]).any()}
    rows = images.embedded
    if not values or len(rows) < 4:
        text = "There is nothing to draw: no network has embeddings that vary, or there are too few images."
        return [Text(text, missing=True)]
    numbers = planes(values, images.labels[rows], images.class_names)
    classes = list(dict.fromkeys(numbers["classes"]))
    without = ", ".join(name for name in report.outputs if name not in known)
    equal = ", ".join(name for name in known if name not in values)
    more = f" Without an embedding: {without}." if without else ""
    more += f" With the same embedding for all images: {equal}." if equal else ""
    return [
        Figure(
            "tsne",
            f"t-SNE of the embeddings of {numbers['images']} {images.split} images: about the first "
            f"{numbers['images'] // len(classes)} of each of {len(classes)} classes, which are evenly spaced over the "
            f"class numbers and not selected by hand (scikit-learn, perplexity {numbers['perplexity']:g}, seed "
            f"{numbers['seed']}). Colours and markers stand for classes here, not for methods. Only neighbourhoods "
            f"have a meaning: sizes of groups and distances between them have none.{more}",
            f"Scatter charts, one for each network, of the classes {', '.join(classes)}.",
            numbers,
            draw_planes(numbers),
        )
    ]
