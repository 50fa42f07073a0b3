"""The softmax at a temperature and what several sections measure with it.

N images, K classes: logits are (N, K) and computed with in float64, labels are (N,).
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax as scipy_log_softmax

Logits = NDArray[np.floating]
Labels = NDArray[np.integer]
Reals = NDArray[np.float64]
Flags = NDArray[np.bool_]

_EPS = 1e-7  # added to the deviation, as the z-score of the losses does


def log_softmax(logits: Logits, temperature: float) -> Reals:
    """log softmax(z / T) of each row: (N, K) -> (N, K)."""
    result: Reals = scipy_log_softmax(logits.astype(np.float64) / temperature, axis=-1)
    return result


def divergence(student: Logits, teacher: Logits, *, temperature: float) -> float:
    """KL(teacher || student) of the softened softmax in nats, mean over the images, without the factor T^2."""
    log_teacher, log_student = log_softmax(teacher, temperature), log_softmax(student, temperature)
    return float((np.exp(log_teacher) * (log_teacher - log_student)).sum(axis=1).mean())


def entropy(logits: Logits, *, temperature: float) -> float:
    """Entropy of the softened softmax in nats, mean over the images."""
    log_share = log_softmax(logits, temperature)
    return float(-(np.exp(log_share) * log_share).sum(axis=1).mean())


def standardized(logits: Logits) -> Reals:
    """The z-score of each row, with the unbiased deviation: (N, K) -> (N, K)."""
    values = logits.astype(np.float64)
    centred = values - values.mean(axis=1, keepdims=True)
    return centred / (values.std(axis=1, ddof=1, keepdims=True) + _EPS)


def accuracy(logits: Logits, labels: Labels) -> float:
    """Percent of images whose largest logit is that of their label."""
    return 100.0 * float((logits.argmax(axis=1) == labels).mean())
