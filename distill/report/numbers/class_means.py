"""Class-mean logits of student and teacher compared, as figure 3 of the Z-score paper does.

"Logit Standardization in Knowledge Distillation" (Sun et al., CVPR 2024, arXiv 2403.01427): for every true class the
mean of the K logits over its test images, student minus teacher, in magnitude, with the diagonal set to 0.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from distill.report.numbers.softened import Labels, Logits, Reals, standardized


def class_means(teacher: Logits, students: Mapping[str, Logits], labels: Labels) -> dict[str, Any]:
    """Of each student the maps `raw` and `standardised`: K x K distances (row: true class), their mean and maximum.

    The mean is over all K^2 entries, zeros of the diagonal included. A class without images has a row of zeros.
    """
    z_teacher = standardized(teacher)
    return {
        "students": {
            name: {
                "raw": distances(logits, teacher, labels),
                "standardised": distances(standardized(logits), z_teacher, labels),
            }
            for name, logits in students.items()
        }
    }


def distances(student: Logits, teacher: Logits, labels: Labels) -> dict[str, Any]:
    """One map with its mean and maximum."""
    found = np.abs(_means(student, labels) - _means(teacher, labels))
    np.fill_diagonal(found, 0.0)
    return {"mean": float(found.mean()), "max": float(found.max()), "map": np.round(found, 4).tolist()}


def _means(logits: Logits, labels: Labels) -> Reals:
    """(K, K): row k is the mean of the logits of the images of class k."""
    classes = logits.shape[1]
    sums = np.zeros((classes, classes))
    np.add.at(sums, labels, logits.astype(np.float64))
    counts = np.bincount(labels, minlength=classes)[:, None]
    return sums / np.maximum(counts, 1)
