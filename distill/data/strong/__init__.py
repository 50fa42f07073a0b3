"""The strong view of a training image: RandAugment and Cutout after a crop and flip of its own.

Sources: RandAugment (Cubuk, Zoph, Shlens and Le, CVPR Workshops 2020, arXiv 1909.13719) for the operations and
how they are combined; FixMatch (Sohn et al., NeurIPS 2020, arXiv 2001.07685, appendix) for their ranges and
for magnitudes drawn anew for every image; Cutout (DeVries and Taylor, 2017, arXiv 1708.04552) for the square.
With `StrongView()` it is the strong view of MLKD (Jin, Wang and Lin, CVPR 2023).

Everything works on whole groups of images, (B, H, H, 3) uint8, on their device. The operations mean what
Pillow's mean, whose arithmetic the papers' pipelines inherit, and give its pixels for equal parameters:
`ImageOps` for the histogram and threshold operations, `ImageEnhance` for the enhancements, `Image.rotate` and
`Image.transform` with nearest resampling for the geometric ones.
"""

from distill.data.strong.render import strong_images
from distill.data.strong.view import StrongDraws, StrongView

__all__ = ["StrongDraws", "StrongView", "strong_images"]
