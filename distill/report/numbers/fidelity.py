"""How far students say what their teacher says."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from distill.report.numbers.softened import Labels, Logits, accuracy, divergence, entropy, standardized

TEMPERATURES = (1.0, 4.0)
SOFTENING = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)


def fidelity(teacher: Logits, students: Mapping[str, Logits], labels: Labels) -> dict[str, Any]:
    """Of each student: top-1 agreement with the teacher in percent, on all images, and on those the teacher gets right
    and wrong (None where there are none); KL(teacher || student) in nats at T 1 and 4, raw and after the z-score.
    """
    right = teacher.argmax(axis=1) == labels
    return {"students": {name: _fidelity(teacher, logits, labels, right) for name, logits in students.items()}}


def _fidelity(teacher: Logits, student: Logits, labels: Labels, right: np.ndarray[Any, Any]) -> dict[str, Any]:
    equal = student.argmax(axis=1) == teacher.argmax(axis=1)
    z_teacher, z_student = standardized(teacher), standardized(student)
    return {
        "accuracy": accuracy(student, labels),
        "agreement": _share(equal),
        "agreement_where_teacher_is_right": _share(equal[right]),
        "agreement_where_teacher_is_wrong": _share(equal[~right]),
        "kl": {f"{t:g}": divergence(student, teacher, temperature=t) for t in TEMPERATURES},
        "kl_after_zscore": {f"{t:g}": divergence(z_student, z_teacher, temperature=t) for t in TEMPERATURES},
    }


def entropies(networks: Mapping[str, Logits]) -> dict[str, Any]:
    """Mean entropy of the softmax at each temperature in nats; `most` is that of a uniform one, log K."""
    classes = next(iter(networks.values())).shape[1]
    return {
        "temperatures": list(SOFTENING),
        "entropy": {name: [entropy(z, temperature=t) for t in SOFTENING] for name, z in networks.items()},
        "most": float(np.log(classes)),
    }


def _share(flags: np.ndarray[Any, Any]) -> float | None:
    return 100.0 * float(flags.mean()) if len(flags) else None
