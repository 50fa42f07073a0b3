"""Kim et al. 2018 as the field runs it: CE + 200 times the mean over images and positions of |q_s - q_t|, q the mean
square over a factor's channels, flattened and normalised. Translator and paraphraser: three 3x3 convolutions, each
followed by BatchNorm (the translator's only, by its batch) and a leaky ReLU of slope 0.1."""

import numpy as np
import torch
from ce import cross_entropy
from torch.nn.functional import adaptive_avg_pool2d, conv2d


def encoded(maps, encoder):
    for convolution, *norms, _ in encoder:
        maps = conv2d(maps, convolution.weight, convolution.bias, padding=1)
        for norm in norms:
            mean, variance = maps.mean((0, 2, 3)), maps.var((0, 2, 3), correction=0)
            maps = (maps - mean[:, None, None]) / (variance + norm.eps).sqrt()[:, None, None]
            maps = maps * norm.weight[:, None, None] + norm.bias[:, None, None]
        maps = torch.where(maps > 0, maps, 0.1 * maps)
    return maps


def energy(factor):
    q = (factor.numpy() ** 2).mean(1).reshape(len(factor), -1)
    return q / np.linalg.norm(q, axis=1, keepdims=True)


@torch.no_grad()
def reference(case):
    ours = encoded(case.student.features[-1], case.objective.translator)
    theirs = encoded(case.teacher.features[-1], case.objective.paraphraser)
    assert [len(step) for step in case.objective.translator] == [3, 3, 3]
    assert [len(step) for step in case.objective.paraphraser] == [2, 2, 2]
    size = tuple(np.minimum(ours.shape[2:], theirs.shape[2:]))
    distance = np.abs(energy(adaptive_avg_pool2d(ours, size)) - energy(adaptive_avg_pool2d(theirs, size))).mean()
    return {"ce": cross_entropy(case), "feature": 200 * distance}
