"""Embeddings of some classes in the plane, by t-SNE."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distill.report.numbers.softened import Labels

CLASSES = 8
IMAGES = 60  # of a class
SEED = 0
_PERPLEXITY = 30.0


def shown_images(labels: Labels, *, classes: int) -> NDArray[np.integer]:
    """Rows of the first images of some classes, evenly spaced over the numbers of all `classes`."""
    chosen = np.unique(np.linspace(0, classes - 1, min(CLASSES, classes)).round().astype(int))
    return np.concatenate([np.flatnonzero(labels == each)[:IMAGES] for each in chosen])


def varies(embeddings: NDArray[np.floating]) -> bool:
    """Whether the images (rows) differ in anything: where they do not, there are no directions to begin with."""
    return bool((embeddings != embeddings[:1]).any())


def planes(embeddings: Mapping[str, NDArray[np.floating]], labels: Labels, names: Sequence[str]) -> dict[str, Any]:
    """Of each network (M, D) the positions (M, 2) of its images; `classes` are those of the images, in order.

    "Visualizing Data using t-SNE" (van der Maaten and Hinton 2008), scikit-learn's, seeded and started from the
    principal components. Only neighbourhoods mean something, neither sizes nor distances between groups.
    """
    from sklearn.manifold import TSNE  # half a second
    from threadpoolctl import threadpool_limits  # scikit-learn needs it itself

    perplexity = min(_PERPLEXITY, (len(labels) - 1) / 3)
    found = {}
    with threadpool_limits(1):  # several threads add in any order, and wait more than they work
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
