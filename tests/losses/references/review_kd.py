"""Chen et al. 2021, section 3: CE + 5 min(e / 20, 1) sum over levels of the hierarchical context loss, from the deepest
level down. A level: 1x1 convolution + BatchNorm; with the level above (nearest neighbours), two attention maps by 1x1
convolution and sigmoid; their weighted sum at the teacher's size; 3x3 convolution + BatchNorm; HCL: mean squared error
of the map (weight 1), and of its averages over 4x4, 2x2, 1x1 cells where smaller (1/2, 1/4, 1/8 in turn), over the sum
of weights."""

import numpy as np
from ce import cross_entropy
from ofd import batch_normalised
from stages import shrunk


def convolved(maps, weight):
    """'Same' correlation of (B, C, H, W) with (O, C, k, k)."""
    k = weight.shape[-1]
    rows, columns = maps.shape[2:]
    padded = np.pad(maps, ((0, 0), (0, 0), (k // 2, k // 2), (k // 2, k // 2)))
    out = np.zeros((len(maps), len(weight), rows, columns))
    for i in range(k):
        for j in range(k):
            out += np.einsum("oc,bchw->bohw", weight[:, :, i, j], padded[:, :, i : i + rows, j : j + columns])
    return out


def layer(sequence, maps):
    return batch_normalised(convolved(maps, sequence[0].weight.numpy()), sequence[1])


def nearest(maps, size):
    rows, columns = (np.arange(new) * old // new for new, old in zip(size, maps.shape[2:], strict=True))
    return maps[:, :, rows][:, :, :, columns]


def fused(level, maps, above):
    ours = layer(level.reduce, maps)
    above = nearest(above, ours.shape[2:])
    both = np.concatenate([ours, above], axis=1)
    logits = convolved(both, level.attend.weight.numpy()) + level.attend.bias.numpy()[None, :, None, None]
    attention = 1 / (1 + np.exp(-logits))
    return ours * attention[:, :1] + above * attention[:, 1:]


def hcl(student, teacher):
    weights, losses = [1.0], [((student - teacher) ** 2).mean()]
    for grid in (4, 2, 1):
        if grid < student.shape[2]:
            weights.append(weights[-1] / 2)
            losses.append(((shrunk(student, grid, grid) - shrunk(teacher, grid, grid)) ** 2).mean())
    return np.dot(weights, losses) / sum(weights)


def reference(case):
    objective = case.objective
    above = layer(objective.top.reduce, case.student.embedding.numpy()[:, :, None, None])
    total = hcl(layer(objective.top.expand, above), case.teacher.embedding.numpy()[:, :, None, None])
    for position in reversed(range(1, len(case.student.features))):
        level, target = objective.levels[position - 1], case.teacher.preactivations[position].numpy()
        above = nearest(fused(level, case.student.features[position].numpy(), above), target.shape[2:])
        total += hcl(layer(level.expand, above), target)
    ramp = min((np.floor(case.progress) + 1) / 20, 1)
    return {"ce": cross_entropy(case), "feature": 5 * ramp * total}
