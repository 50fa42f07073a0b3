"""What contrastive methods remember of a data set: one vector per image, and which images are of other classes."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from distill.losses.norm import unit

# Far above any number of images: the remainder of a draw below it is as good as uniform.
DRAWS = 2**62


class MemoryBank(nn.Module):
    """M vectors (M, D), addressed by `Batch.index`; a buffer, so that they survive a kill and follow the device.

    They begin uniform in +-sqrt(3 / D), of length 1 on average, as in Wu et al. (CVPR 2018, arXiv 1805.01978), where
    the idea comes from.
    """

    rows: Tensor

    def __init__(self, images: int, dim: int, *, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        bound = math.sqrt(3 / dim)
        self.register_buffer("rows", torch.empty(images, dim).uniform_(-bound, bound))

    def scores(self, embeddings: Tensor) -> Tensor:
        """Inner products (B, M) of embeddings (B, D) with every row; the rows have no gradient.

        One product with the whole bank costs less than gathering the K rows of each anchor while M < K D: at batch 64
        and 50,000 images 12.8 MB, where 16,384 gathered rows of 128 numbers would be 537 MB.
        """
        # A copy, since `update` changes rows before the backward pass reads them.
        return embeddings @ self.rows.clone().mT

    @torch.no_grad()
    def update(self, index: Tensor, embeddings: Tensor) -> None:
        """The rows `index` (B,) become unit(momentum * old + (1 - momentum) * new); no other row changes."""
        old = self.rows.index_select(0, index)
        new = unit(torch.lerp(embeddings.detach().to(old.dtype), old, self.momentum))
        self.rows.index_copy_(0, index, new)


class OtherClasses(nn.Module):
    """Draws images of other classes than the anchor's, uniformly and with replacement; nothing waits for the device.

    Labels follow from the data set, so its tables are no part of the saved state.
    """

    order: Tensor
    start: Tensor
    count: Tensor

    def __init__(self, labels: Tensor) -> None:
        """`labels` (M,) of all images. ValueError where there is one class only."""
        super().__init__()
        count = torch.bincount(labels)
        classes = int((count > 0).sum())
        if classes < 2:
            raise ValueError(
                f"the training labels must hold 2 classes or more, got {classes}: "
                "negatives are images of other classes, choose another data set"
            )
        self.register_buffer("order", labels.argsort(stable=True), persistent=False)  # (M,) images, class by class
        self.register_buffer("start", count.cumsum(0) - count, persistent=False)  # (K,) where a class begins in it
        self.register_buffer("count", count, persistent=False)

    def draw(self, labels: Tensor, draws: int) -> Tensor:
        """Positions (B, draws) in the data set for anchors of classes `labels` (B,)."""
        start, count = self.start[labels][:, None], self.count[labels][:, None]
        random = torch.randint(DRAWS, (len(labels), draws), device=labels.device)
        place = random % (len(self.order) - count)
        return self.order[place + count * (place >= start)]  # the anchor's own class is stepped over
