"""Our batches against torchvision's on the same draws."""

from collections.abc import Sequence

import numpy as np
import torch

from distill.bench.gates.gate import Gate, within
from distill.bench.peer import cropped, normalised
from distill.data import Batch, DeviceImages, ImageDataset


def crops(data: ImageDataset, source: DeviceImages, batches: Sequence[Batch]) -> Gate:
    """Pixels exactly those of torchvision's PIL crop and flip; after normalisation equal to 1e-6."""
    raw, after = 0, 0.0
    for batch in batches:
        images = cropped(data, batch.index.tolist(), batch.view.cpu())
        pixels = source.pixels(batch.index, batch.view).cpu().numpy().astype(int)
        raw = max(raw, int(np.abs(np.stack([np.asarray(image, dtype=int) for image in images]) - pixels).max()))
        after = max(after, float((normalised(images, data) - batch.images.cpu().to(torch.float32)).abs().max()))
    return within(
        "crops",
        {"in uint8": (raw, 0), "after normalisation": (after, 1e-6)},
        what="crops and flips, largest difference from torchvision's on the same draws",
    )
