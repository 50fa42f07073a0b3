"""Romero et al. 2015, Eq. 3 without its 1/2: CE + 100 mean (relu(batchnorm(conv(s))) - t)^2 on the second stage, the
convolution summed entry by entry."""

import numpy as np
from ce import cross_entropy


def convolved(x, layer, size):
    """y[o] = bias + sum_c,i,j w[o, c, i, j] x[c, stride * row + i - padding, stride * column + j - padding]."""
    weight, (stride, _), (padding, _) = layer.weight.numpy(), layer.stride, layer.padding
    y = np.zeros((len(x), len(weight), *size)) + layer.bias.numpy()[:, None, None]
    for row in range(size[0]):
        for column in range(size[1]):
            for i, j in np.ndindex(*weight.shape[2:]):
                above, left = stride * row + i - padding, stride * column + j - padding
                if 0 <= above < x.shape[2] and 0 <= left < x.shape[3]:
                    y[:, :, row, column] += x[:, :, above, left] @ weight[:, :, i, j].T
    return y


def spread(x, layer, size):
    """The transposed convolution: every pixel writes its kernel, weighted, at stride times its place."""
    weight, (stride, _), (padding, _) = layer.weight.numpy(), layer.stride, layer.padding
    y = np.zeros((len(x), weight.shape[1], *size)) + layer.bias.numpy()[:, None, None]
    for above, left in np.ndindex(*x.shape[2:]):
        for i, j in np.ndindex(*weight.shape[2:]):
            row, column = stride * above + i - padding, stride * left + j - padding
            if 0 <= row < size[0] and 0 <= column < size[1]:
                y[:, :, row, column] += x[:, :, above, left] @ weight[:, :, i, j]
    return y


def reference(case):
    student, teacher = case.student.features[2].numpy(), case.teacher.features[2].numpy()
    layer, norm, _ = case.objective.regressor
    enlarges = student.shape[2] < teacher.shape[2]
    y = (spread if enlarges else convolved)(student, layer, teacher.shape[2:])
    mean, variance = y.mean((0, 2, 3), keepdims=True), y.var((0, 2, 3), keepdims=True)
    scale, shift = (p.numpy()[:, None, None] for p in (norm.weight, norm.bias))
    guess = np.maximum((y - mean) / np.sqrt(variance + norm.eps) * scale + shift, 0)
    return {"ce": cross_entropy(case), "feature": 100 * ((guess - teacher) ** 2).mean()}
