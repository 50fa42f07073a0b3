"""Real images and what networks make of them at several temperatures."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from distill.report.numbers.softened import Labels, Logits, log_softened

TEMPERATURES = (1.0, 2.0, 4.0, 8.0)
SHOWN = 5  # classes of an image
SEED = 0


def chosen_images(run: Logits, teacher: Logits | None, labels: Labels) -> dict[str, int]:
    """One image of each kind there is, drawn by a seed: right and wrong predictions of teacher and student."""
    mine = run.argmax(axis=1) == labels
    if teacher is None:
        kinds = {"right": mine, "wrong": ~mine}
    else:
        theirs = teacher.argmax(axis=1) == labels
        kinds = {
            "teacher and student are right": theirs & mine,
            "only the teacher is right": theirs & ~mine,
            "both are wrong": ~theirs & ~mine,
        }
    random = np.random.default_rng(SEED)
    return {kind: int(random.choice(np.flatnonzero(flags))) for kind, flags in kinds.items() if flags.any()}


def softened_samples(
    networks: Mapping[str, Logits],
    labels: Labels,
    names: Sequence[str],
    *,
    rows: Mapping[str, int],
    by: str,
) -> dict[str, Any]:
    """Probabilities of the classes that the network `by` holds most likely, for each image, network and temperature.

    `rows` are the images by what tells them. The shown classes always contain the true one.
    """
    images = []
    for kind, row in rows.items():
        label = int(labels[row])
        likely = [int(k) for k in np.argsort(-networks[by][row], kind="stable")[:SHOWN]]
        classes = likely if label in likely else [*likely[: SHOWN - 1], label]
        shares = {
            name: {f"{t:g}": _percent(logits[row], t)[classes].tolist() for t in TEMPERATURES}
            for name, logits in networks.items()
        }
        images.append(
            {
                "kind": kind,
                "position": row,
                "true": names[label],
                "classes": [names[k] for k in classes],
                "probability": shares,
            }
        )
    return {"temperatures": list(TEMPERATURES), "images": images}


def _percent(logits: Logits, temperature: float) -> np.ndarray[Any, Any]:
    percent: np.ndarray[Any, Any] = 100.0 * np.exp(log_softened(logits[None], temperature))[0]
    return percent
