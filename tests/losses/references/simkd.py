"""Chen et al. 2022, Eq. 3: the mean squared error of the projected map and the teacher's last map, of the larger one's
averages over cells. The projector is recomputed from the backbone's last tap."""

import numpy as np
import torch
from ofd import batch_normalised
from review_kd import convolved
from stages import shrunk


def projected(case):
    network = case.student_network
    maps = network.backbone(case.batch.images, taps=True).features[-1].numpy()
    height, width = np.minimum(maps.shape[2:], case.teacher.final_map.shape[2:])
    maps = shrunk(maps, height, width)
    for step in range(0, 9, 3):
        convolution, norm = network.projector[step], network.projector[step + 1]
        maps = np.maximum(batch_normalised(convolved(maps, convolution.weight.numpy()), norm), 0)
    return maps


def reference(case):
    ours = projected(case)
    theirs = case.teacher.final_map.numpy()
    size = np.minimum(ours.shape[2:], theirs.shape[2:])
    with torch.no_grad():
        head = case.teacher_network.head
        logits = ours.mean((2, 3)) @ head.weight.numpy().T + head.bias.numpy()
    assert np.allclose(case.student.logits.numpy(), logits, atol=1e-9)
    return {"feature": ((shrunk(ours, *size) - shrunk(theirs, *size)) ** 2).mean()}
