"""Heo et al. 2019, section 3: CE + 0.001 sum over stages of 2^(i - L) of the sum over a map of (s - max(t, m))^2 where
s > max(t, m) or max(t, m) > 0, mean over the batch; s = BatchNorm(1x1 convolution of the student before its ReLU), m =
each channel's mean negative response, 0 where it has none."""

import numpy as np
from ce import cross_entropy
from stages import shrunk


def batch_normalised(maps, layer):
    mean, variance = (moment(maps, axis=(0, 2, 3), keepdims=True) for moment in (np.mean, np.var))
    scale, shift = (p.numpy()[None, :, None, None] for p in (layer.weight, layer.bias))
    return (maps - mean) / np.sqrt(variance + layer.eps) * scale + shift


def stage(connector, student, teacher):
    size = np.minimum(student.shape[2:], teacher.shape[2:])
    student, teacher = shrunk(student.numpy(), *size), shrunk(teacher.numpy(), *size)
    margin = [channel[channel < 0].mean() if (channel < 0).any() else 0 for channel in np.moveaxis(teacher, 1, 0)]
    target = np.maximum(teacher, np.array(margin)[None, :, None, None])
    convolution, norm = connector
    s = batch_normalised(np.einsum("oc,bchw->bohw", convolution.weight.numpy()[:, :, 0, 0], student), norm)
    distance = np.where((s <= target) & (target <= 0), 0, (s - target) ** 2)
    return distance.sum((1, 2, 3)).mean()


def reference(case):
    ours, theirs = case.student.preactivations[1:], case.teacher.preactivations[1:]
    stages = [stage(*three) for three in zip(case.objective.connectors, ours, theirs, strict=True)]
    weights = 0.5 ** np.arange(len(stages))[::-1]
    return {"ce": cross_entropy(case), "feature": 0.001 * (weights * stages).sum()}
