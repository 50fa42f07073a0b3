"""Heo et al. 2019: 0.003 times the sum over stages, the last counting whole and each earlier one half of the next, of
the summed squares of max(0, 1 - r(s)) where the teacher is active and max(0, 1 + r(s)) elsewhere; mean over images."""

import numpy as np
import torch


def reference(case):
    total = 0.0
    ours, theirs = case.student.preactivations[1:], case.teacher.preactivations[1:]
    for place, (student, teacher) in enumerate(zip(ours, theirs, strict=True)):
        convolution, norm = case.objective.connectors[place]
        weight = convolution.weight[:, :, 0, 0].detach().numpy()
        maps = np.einsum("oc,bchw->bohw", weight, student.numpy())
        mean, variance = maps.mean((0, 2, 3)), maps.var((0, 2, 3))
        scale = norm.weight.detach().numpy() / np.sqrt(variance + norm.eps)
        shift = norm.bias.detach().numpy() - mean * scale
        connected = maps * scale[:, None, None] + shift[:, None, None]
        target = teacher.numpy()
        if connected.shape != target.shape:
            size = tuple(np.minimum(connected.shape[2:], target.shape[2:]))
            pool = torch.nn.functional.adaptive_avg_pool2d
            connected, target = (pool(torch.tensor(x), size).numpy() for x in (connected, target))
        active = target > 0
        hinge = active * np.maximum(0, 1 - connected) + ~active * np.maximum(0, 1 + connected)
        total += 0.5 ** (len(ours) - 1 - place) * (hinge**2).sum() / len(hinge)
    return {"feature": 0.003 * total}
