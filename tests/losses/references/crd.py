"""Tian et al. 2020, section 3.1: CE + 0.8 (student against the teacher's bank + teacher against the student's), each

    -log h(positive) - sum over negatives of log(1 - h),  h = P / (P + K/M),  P = exp(s . t / 0.07) / Z,

mean over the batch; Z is M times the mean of exp over the first batch. Negatives: images of other classes."""

import numpy as np
import torch
from ce import cross_entropy

NEGATIVES, TEMPERATURE = 50, 0.07
OVERRIDES = (f"loss.negatives={NEGATIVES}",)


def embedded(layer, embedding):
    vectors = embedding.numpy() @ layer.weight.numpy().T + layer.bias.numpy()
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def drawn(case):
    """The images of other classes, sorted by class, then by position; draws are remainders of 62 random bits."""
    from method_trials import TASK

    labels = TASK.labels.numpy()
    anchors = case.batch.labels.numpy()
    random = torch.randint(2**62, (len(anchors), NEGATIVES)).numpy()
    columns = []
    for anchor, row in zip(anchors, random, strict=True):
        others = [i for k in range(labels.max() + 1) if k != anchor for i in np.flatnonzero(labels == k)]
        columns.append([others[r % len(others)] for r in row])
    return np.array(columns)


def direction(anchors, bank, positives, negatives):
    images, samples = len(bank), np.arange(len(anchors))[:, None]
    unnormalised = np.exp(anchors @ bank.T / TEMPERATURE)
    columns = np.concatenate([positives[:, None], negatives], axis=1)
    chosen = unnormalised[samples, columns]
    p = chosen / (chosen.mean() * images)
    noise = NEGATIVES / images
    return -(np.log(p[:, 0] / (p[:, 0] + noise)) + np.log(noise / (p[:, 1:] + noise)).sum(1)).mean()


def reference(case):
    objective, index = case.objective, case.batch.index.numpy()
    student = embedded(objective.student_embed, case.student.embedding)
    teacher = embedded(objective.teacher_embed, case.teacher.embedding)
    negatives = drawn(case)
    feature = direction(student, case.before["teacher_bank.rows"].numpy(), index, negatives)
    feature += direction(teacher, case.before["student_bank.rows"].numpy(), index, negatives)
    return {"ce": cross_entropy(case), "feature": 0.8 * feature}


def law(single, doubled):
    """Equal on average over draws of negatives: with 50 each on 8 anchors the means are within some per cent."""
    assert np.isclose(doubled["ce"], single["ce"], rtol=1e-9)
    assert np.isclose(doubled["feature"], single["feature"], rtol=0.1)
    assert doubled["feature"] != single["feature"]
