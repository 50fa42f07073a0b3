"""Knowledge distillation of image classifiers: one trainer, one schedule; only the loss differs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import os

    from distill.exchange.load import LoadedNetwork

__version__ = "0.1.0"


def load(
    run: str | os.PathLike[str],
    *,
    weights: Literal["last", "ema"] = "last",
    runs_dir: str | os.PathLike[str] | None = None,
    own: str | None = None,
) -> LoadedNetwork:
    """The trained network of a finished run, on the CPU and in eval mode.

    From a picture to its class, in five lines:

        import PIL.Image
        import distill

        network = distill.load("3f2a")
        picture = PIL.Image.open("picture.png").convert("RGB")
        print(network(network.normalise(picture)).logits.argmax(dim=1))

    The network reads normalised images, (B, 3, H, W) float32. `network.normalise` makes them of pixels: uint8 RGB
    (B, H, W, 3), or one image (H, W, 3), as array, tensor or picture; its `mean` and `std` are those the run was
    trained with. Images must have the size of the run's. `network(images, taps=True)` gives feature maps too, see
    `distill.models.Output`.

    Args:
        run: the head of its id, its folder's name in `runs_dir`, or the path of the folder.
        weights: those after the last epoch, or `ema`, their average, of a run with `recipe.ema`.
        runs_dir: where runs lie; by default `DISTILL_RUNS`, or `runs` in the current folder.
        own: `package.Class` of a network of your own, if its code has changed since the run or was not recorded.

    Raises:
        ValueError: no run or several match, it is not finished, or it has no averaged weights.
        distill.runs.files.StorageError: its files are damaged, or its class has other code than the run recorded
            and is not named in `own`.
    """
    from distill.exchange.load import load_run  # imports torch, which takes seconds

    return load_run(run, weights=weights, runs_dir=runs_dir, own=own)
