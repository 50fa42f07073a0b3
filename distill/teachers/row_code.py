"""The code of one row of logits: K int16 and two float32, side by side, so that a row is read from one place.

A row is `K + 4` int16, one more where that is odd: the bits of scale and offset, then the codes. Decoded, a logit is
`code * scale + offset`; scale and offset are the row's own and use the whole range of int16, so a logit is off by at
most (highest - lowest) / 131070. Half floats would be off by 1/2048 of each logit: near the teacher, where the soft
term's gradient is a small difference of logits, that is too coarse.
"""

import torch
from torch import Tensor

LEVELS = 65535  # steps between the lowest and the highest code
LOWEST, HIGHEST = -32768, 32767
HEAD = 4  # int16 that hold scale and offset


def row_width(classes: int) -> int:
    """How many int16 a row of `classes` logits takes: even, so that the float32 of the next row are aligned."""
    return HEAD + classes + classes % 2


def encode(logits: Tensor) -> Tensor:
    """Rows (R, row_width(K)) int16 of logits (R, K), which may be of any floating type.

    Equal logits come back exactly. ValueError, with the first such row, where a logit is not finite.
    """
    values = logits.to(torch.float64)
    finite = values.isfinite().all(dim=1)
    if not finite.all():
        raise ValueError(f"row {int(finite.logical_not().int().argmax())} has a logit that is not finite")
    lowest, highest = values.amin(dim=1), values.amax(dim=1)
    scale = ((highest - lowest) / LEVELS).to(torch.float32)
    # the codes are made for the scale and offset as stored, so that their rounding adds nothing
    offset = (lowest - LOWEST * scale.to(torch.float64)).to(torch.float32)
    step = torch.where(scale > 0, scale, 1).to(torch.float64)
    codes = (values - offset.to(torch.float64).unsqueeze(1)) / step.unsqueeze(1)
    rows = torch.zeros(len(values), row_width(values.shape[1]), dtype=torch.int16, device=logits.device)
    rows[:, :HEAD] = torch.stack([scale, offset], dim=1).view(torch.int16)
    rows[:, HEAD : HEAD + values.shape[1]] = codes.round().clamp(LOWEST, HIGHEST).to(torch.int16)
    return rows


def decode(rows: Tensor, *, classes: int) -> Tensor:
    """Logits (R, classes) float32 of rows as `encode` makes them."""
    code = rows[:, :HEAD].view(torch.float32)
    return torch.addcmul(code[:, 1:], rows[:, HEAD : HEAD + classes].to(torch.float32), code[:, :1])
