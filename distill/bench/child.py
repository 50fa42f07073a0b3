"""The process in which the peak memory of one variant is measured: `python -m distill.bench.child VARIANT SETTINGS`."""

import json
import sys

import torch

from distill.bench.rows.memory import peak_of
from distill.bench.settings import Settings, Sizes


def main(variant: str, text: str) -> None:
    """Print the bytes, or null."""
    content = json.loads(text)
    settings = Settings(**{**content, "sizes": Sizes(**content["sizes"])})
    if not settings.device.startswith("cuda"):
        torch.set_num_threads(1)
    print(json.dumps(peak_of(variant, settings)))


if __name__ == "__main__":
    main(*sys.argv[1:])
