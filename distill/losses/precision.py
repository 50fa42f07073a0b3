"""The number format of the losses."""

import torch
from torch import Tensor


def at_least_float32(tensor: Tensor) -> Tensor:
    """Raise half types (float16, bfloat16) to float32; float32 and float64 come back as they are.

    A softmax over 100 classes, and a deviation most of all, is too coarse in 8 or 11 significant bits. The
    gradient returns through the same cast, so it is rounded once, to the format of `tensor`.
    """
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
