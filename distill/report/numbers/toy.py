"""The four-class case in which plain KL prefers the wrong student.

Figure 2 of "Logit Standardization in Knowledge Distillation" (Sun et al., CVPR 2024, arXiv 2403.01427), temperature 1.
Computed by the losses that train students, so the deviation is the unbiased one, with which alone its numbers come out.
"""

from typing import Any

import torch

from distill.losses.logit import kd, standardize, zscore_kd

CLASSES = ("Cat", "Dog", "Bird", "Frog")
TEMPERATURE = 1.0
TEACHER = (-1.5, 1.5, 0.5, -0.5)
STUDENTS = {"student 1": (-1.2, 0.6, 0.8, -0.2), "student 2": (-0.15, 0.15, 0.05, -0.05)}


def toy_case() -> dict[str, Any]:
    """Logits, predictions and softmax of the teacher and two students, raw and after the z-score, and both losses."""
    logits = {"teacher": TEACHER, **STUDENTS}
    return {
        "classes": list(CLASSES),
        "temperature": TEMPERATURE,
        "networks": {name: _network(torch.tensor([each], dtype=torch.float64)) for name, each in logits.items()},
    }


def _network(logits: torch.Tensor) -> dict[str, Any]:
    teacher = torch.tensor([TEACHER], dtype=torch.float64)
    scores = standardize(logits)
    return {
        "logits": logits[0].tolist(),
        "prediction": CLASSES[int(logits.argmax())],
        "probability": (100 * logits.softmax(dim=1))[0].tolist(),
        "zscores": scores[0].tolist(),
        "zscore_probability": (100 * scores.softmax(dim=1))[0].tolist(),
        "kd": float(kd(logits, teacher, temperature=TEMPERATURE)),
        "zscore_kd": float(zscore_kd(logits, teacher, temperature=TEMPERATURE)),
    }
