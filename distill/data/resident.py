"""Images resident on a device, and the one gather that turns (index, view) into a batch.

Layout. All images lie in one flat uint8 buffer, NHWC, zero-padded once. Padding is shared: the p zeros
left of a row serve as the right padding of the row before it, and the p zero rows above an image as the
bottom padding of the image before it, so an image takes (H+p)^2 pixels instead of (H+2p)^2. Where a data
set is flipped, a mirrored copy of every image follows. A row of any view is then H adjacent pixels of the
buffer, and a batch is one `index_select` of B*H rows. Gathering single pixels needs no mirrored copy but an
index H times longer, and takes 7 microseconds an image instead of 2 (measured on one CPU core). The price:
CIFAR takes 390 MB.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable, Sequence
from weakref import WeakValueDictionary, finalize

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Channels = tuple[float, float, float]
KEPT_BY_MALLOC = 2**25  # bytes
IN_CACHE = 2**19  # values that are normalised at once on a CPU


def channel_statistics(images: NDArray[np.uint8]) -> tuple[Channels, Channels]:
    """Mean and population standard deviation of (N, H, W, 3) uint8 images in units of 0..1, to six decimals.

    Sums are exact integers (a histogram per channel), so every platform finds the same numbers."""
    levels = np.arange(256)
    mean, std = [], []
    for channel in range(3):
        histogram = np.bincount(images[..., channel].reshape(-1), minlength=256)
        count, total = int(histogram.sum()), int(histogram @ levels)
        squares = int(histogram @ levels**2)
        mean.append(round(total / count / 255, 6))
        std.append(round(math.sqrt(count * squares - total**2) / count / 255, 6))
    return checked_channels("mean", mean), checked_channels("std", std)


def checked_channels(name: str, values: tuple[float, ...] | list[float], *, positive: bool = False) -> Channels:
    """Three finite numbers as a tuple; ValueError otherwise."""
    channels = tuple(float(value) for value in values)
    if len(channels) != 3 or not all(math.isfinite(value) for value in channels):
        raise ValueError(f"dataset.{name} must be three finite numbers, one per channel, got {list(values)}")
    if positive and min(channels) <= 0:
        raise ValueError(
            f"dataset.{name} must be > 0 in every channel, got {list(values)}: "
            f"set dataset.{name}=[a,b,c] (a channel without any variation has no deviation of its own)"
        )
    return (channels[0], channels[1], channels[2])


# Numbering of the augmented views of an image: crop offsets (dy, dx) and a horizontal flip.
#
# A view is numbered ((dy * (2p+1) + dx) * F + flip), F = 2 with flips and 1 without: zero padding of
# p pixels gives (2p+1)^2 crops, so pad 4 with flips has exactly 162 views.


def num_views(*, pad: int, flip: bool) -> int:
    """Number of views of one image."""
    return (2 * pad + 1) ** 2 * (1 + flip)


def split_view(view: Tensor, *, pad: int, flip: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The (dy, dx, flip) of view numbers, int64 tensors of the shape of `view`."""
    crop, mirrored = (view // 2, view % 2) if flip else (view, view * 0)
    span = 2 * pad + 1
    return crop // span, crop % span, mirrored


class HostMemory:
    """Uninitialised tensors on the CPU; the memory of large ones is used again once nothing refers to it.

    For more than 32 MiB the C library takes new pages from the system each time, and the first write to a page takes
    five times as long as later ones. Smaller blocks it keeps."""

    def __init__(self) -> None:
        self._free: deque[NDArray[np.uint8]] = deque(maxlen=4)

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """A contiguous tensor."""
        size = math.prod(shape) * dtype.itemsize
        if size <= KEPT_BY_MALLOC:
            return torch.empty(shape, dtype=dtype)
        memory = self._free.pop() if self._free else None
        if memory is None or len(memory) < size:
            memory = np.empty(size, dtype=np.uint8)
        lent = memory[:size]  # an array of its own, which lives as long as the tensor's storage
        finalize(lent, self._free.append, memory)
        return torch.from_numpy(lent).view(dtype).view(*shape)


class Normalise:
    """Pixels (B, H, H, 3) uint8 to (B, 3, H, H) in channels_last memory, (x / 255 - mean) / std.

    It is computed in float32; the last operation rounds to `dtype`."""

    def __init__(self, size: int, *, mean: Channels, std: Channels, device: torch.device) -> None:
        """H is `size`; `mean` and `std` in units of 0..1 per channel."""
        # (x / 255 - mean) / std = x * scale + shift. Repeated for a whole image, because broadcasting over
        # an inner dimension of three is five times slower than over one of 3 * H * H.
        scale = 1 / (255 * torch.tensor(std, dtype=torch.float64))
        shift = -torch.tensor(mean, dtype=torch.float64) / torch.tensor(std, dtype=torch.float64)
        self._scale = scale.float().repeat(size**2).to(device)
        self._shift = shift.float().repeat(size**2).to(device)
        self._memory = HostMemory()

    def __call__(self, pixels: Tensor, *, dtype: torch.dtype = torch.float32) -> Tensor:
        flat, at_once = pixels.view(len(pixels), -1), len(pixels)
        if pixels.device.type == "cpu":
            at_once = max(1, IN_CACHE // flat.shape[1])
            values = self._memory.empty(flat.shape, dtype)
        else:
            values = torch.empty_like(flat, dtype=dtype)
        for part, out in zip(torch.split(flat, at_once), torch.split(values, at_once), strict=True):
            # Not one fused multiply-add: vector units and the scalar tail of a loop may round it differently.
            scaled = out.copy_(part) if dtype == torch.float32 else part.to(torch.float32)
            torch.add(scaled.mul_(self._scale), self._shift, out=out)
        return values.view(pixels.shape).permute(0, 3, 1, 2)


class DeviceImages:
    """Every view of N square images on one device; `images(index, view)` gathers and normalises."""

    def __init__(
        self,
        images: NDArray[np.uint8],
        labels: NDArray[np.int64],
        *,
        mean: Channels,
        std: Channels,
        pad: int,
        flip: bool,
        device: torch.device,
    ) -> None:
        """`images` (N, H, H, 3) uint8, `labels` (N,); `mean` and `std` in units of 0..1 per channel."""
        self.size = images.shape[1]
        self.labels = torch.tensor(labels, dtype=torch.int64, device=device)
        self.storage = torch.from_numpy(_padded(images, pad=pad, flip=flip)).to(device)
        self._stride = (self.size + pad) ** 2  # pixels from one image to the next
        self._rows = _row_starts(len(images), self.size, pad=pad, flip=flip).to(device)
        # Windows of one row each that overlap: window i holds the H pixels from pixel i on.
        windows = self.storage.numel() // 3 - self.size + 1
        self._windows = self.storage.as_strided((windows, self.size * 3), (3, 1))
        self.normalised = Normalise(self.size, mean=mean, std=std, device=device)

    def pixels(self, index: Tensor, view: Tensor) -> Tensor:
        """The views `view` (B,) of the images `index` (B,) as (B, H, H, 3) uint8."""
        starts = self._rows.index_select(0, view)
        rows = torch.add(starts, index.unsqueeze(1), alpha=self._stride)  # (B, H)
        return self._windows.index_select(0, rows.view(-1)).view(-1, self.size, self.size, 3)

    def images(self, index: Tensor, view: Tensor, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """The same, normalised: (B, 3, H, H) in channels_last memory.

        An element's value does not depend on the batch around it, so batches may be gathered jointly."""
        return self.normalised(self.pixels(index, view), dtype=dtype)


def _padded(images: NDArray[np.uint8], *, pad: int, flip: bool) -> NDArray[np.uint8]:
    """The flat buffer described above: (1 + flip) * N images and the last one's own padding."""
    count, size = len(images), images.shape[1]
    side = size + pad
    copies = 1 + flip
    buffer = np.zeros((copies * count * side * side + pad * side + pad) * 3, dtype=np.uint8)
    stored = _as_pixels(buffer[: copies * count * side * side * 3].reshape(copies, count, side, side, 3))
    source = _as_pixels(np.ascontiguousarray(images))
    stored[0, :, pad:, pad:] = source
    if flip:
        stored[1, :, pad:, pad:] = source[:, :, ::-1]
    return buffer


def _as_pixels(images: NDArray[np.uint8]) -> NDArray[np.void]:
    """(..., 3) bytes as one item per pixel: NumPy then copies pixels, not bytes, which is twice as fast."""
    return images.view(np.dtype("V3"))[..., 0]


def _row_starts(count: int, size: int, *, pad: int, flip: bool) -> Tensor:
    """(views, H) int64: where each row of each view of image 0 starts, in pixels."""
    side = size + pad
    dy, dx, mirrored = split_view(torch.arange(num_views(pad=pad, flip=flip)), pad=pad, flip=flip)
    # Torchvision flips what it has cropped: in the mirrored copy that crop lies at 2p - dx.
    column = torch.where(mirrored == 1, 2 * pad - dx, dx)
    first = mirrored * (count * side * side) + dy * side + column
    return first.unsqueeze(1) + torch.arange(size) * side


_resident: WeakValueDictionary[Hashable, DeviceImages] = WeakValueDictionary()


def resident(
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    *,
    content: Hashable,
    mean: Channels,
    std: Channels,
    pad: int,
    flip: bool,
    device: torch.device,
) -> DeviceImages:
    """`DeviceImages` of this content, one copy per device for as long as it is referenced.

    `content` identifies images and labels (a digest): equal data sets share memory even when loaded twice.
    """
    key = (content, mean, std, pad, flip, device)
    found = _resident.get(key)
    if found is None:
        found = DeviceImages(images, labels, mean=mean, std=std, pad=pad, flip=flip, device=device)
        _resident[key] = found
    return found


def full_device(device: torch.device | str) -> torch.device:
    """The device with its number, so that `cuda` and `cuda:0` are one."""
    device = torch.device(device)
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device
