"""What a stream yields: one batch of normalised images with everything needed to draw it again."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """One batch on the stream's device (B images, H = W = the data set's image size).

    images  (B, 3, H, W) float32 in channels_last memory, normalised
    labels  (B,) int64
    index   (B,) int64, position in the training set used (after limit and hold-out);
            for an evaluation stream the position in the evaluation set
    view    (B,) int64, number of the augmented view, ((dy * (2p+1) + dx) * F + flip) with F = 2
            where images are flipped and 1 where not; -1 where views are not enumerable
    strong  (B, 3, H, W) second, strongly augmented images for two-view methods, otherwise None
    """

    images: Tensor
    labels: Tensor
    index: Tensor
    view: Tensor
    strong: Tensor | None = None
