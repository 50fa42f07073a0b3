"""The pairs of stages and their common size, for the references of methods on feature maps."""

import numpy as np


def shrunk(feature_map, height, width):
    """Adaptive average pooling of (B, C, H, W) numpy maps, cell by cell."""
    rows, columns = feature_map.shape[2:]
    cells = np.empty((*feature_map.shape[:2], height, width))
    for i in range(height):
        for j in range(width):
            top, bottom = i * rows // height, -(-(i + 1) * rows // height)
            left, right = j * columns // width, -(-(j + 1) * columns // width)
            cells[:, :, i, j] = feature_map[:, :, top:bottom, left:right].mean((2, 3))
    return cells


def stages(case):
    """Pairs of (B, C, H, W) numpy maps of one size: stage with stage, without the stem."""
    ours, theirs = ([tap.numpy() for tap in output.features[1:]] for output in (case.student, case.teacher))
    assert len(ours) == len(theirs)
    for student, teacher in zip(ours, theirs, strict=True):
        size = np.minimum(student.shape[2:], teacher.shape[2:])
        yield shrunk(student, *size), shrunk(teacher, *size)
