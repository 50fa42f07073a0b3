"""Peng et al. 2019 in RepDistiller's form: CE + 0.02 mean_i d_i . d_{i+1} with d = |W_s s + b_s - W_t t - b_t|."""

import numpy as np
import pytest
from ce import cross_entropy


def projected(layer, embedding):
    return embedding.numpy() @ layer.weight.numpy().T + layer.bias.numpy()


def reference(case):
    ours = projected(case.objective.student_projection, case.student.embedding)
    theirs = projected(case.objective.teacher_projection, case.teacher.embedding)
    assert ours.shape == theirs.shape == (len(case.batch.labels), 128)
    d = np.abs(ours - theirs)
    return {"ce": cross_entropy(case), "feature": 0.02 * np.mean([d[i] @ d[i + 1] for i in range(len(d) - 1)])}


def law(single, doubled):
    assert doubled["ce"] == pytest.approx(single["ce"], rel=1e-9)
    joint = 15 * doubled["feature"] - 14 * single["feature"]  # of 8 samples: last difference times first, times 0.02
    assert 0 < joint < 10 * single["feature"]
