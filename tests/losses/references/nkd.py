"""Yang 2023: CE - T_t log S_t - 3.5 * 3^2 sum over i != t of N(T_i) log N(S_i), N the others' softmax at T = 3."""

import numpy as np
from ce import cross_entropy, log_softmax


def reference(case):
    student, teacher = case.student.logits.numpy(), case.teacher.logits.numpy()
    target, nontarget = [], []
    for s, t, label in zip(student, teacher, case.batch.labels.tolist(), strict=True):
        target.append(-np.exp(log_softmax(t[None]))[0, label] * log_softmax(s[None])[0, label])
        log_s, log_t = (log_softmax(np.delete(row, label)[None] / 3) for row in (s, t))
        nontarget.append(-(3**2) * (np.exp(log_t) * log_s).sum())
    return {"ce": cross_entropy(case), "target": np.mean(target), "nontarget": 3.5 * np.mean(nontarget)}
