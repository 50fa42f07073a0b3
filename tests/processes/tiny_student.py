"""A student of the user's own class, named by `student._target_`: cheap, and its dropout needs its random state."""

import os
import time

from torch import Tensor, nn

SLOWLY = "TINY_STUDENT_SECONDS"  # an environment variable: how long every batch takes at least


class Tiny(nn.Module):
    """Two convolutions with BatchNorm and dropout; returns logits, knows nothing of the contract."""

    def __init__(self, *, num_classes: int, width: int = 8) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Conv2d(width, width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(width, num_classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        time.sleep(float(os.environ.get(SLOWLY, "0")))
        logits: Tensor = self.body(images)
        return logits
