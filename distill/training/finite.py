"""Numbers that are no numbers: how a run ends that has produced one."""

from collections.abc import Mapping

import torch


class NonFinite(RuntimeError):
    """A loss term or a tensor of the state is infinite or not a number: the run has failed at `epoch`, `step`, `term`.

    `step` counts the batches of the epoch before the one whose term it was, or before the state was found poisoned.
    """

    def __init__(self, epoch: int, step: int, term: str) -> None:
        self.epoch, self.step, self.term = epoch, step, term
        super().__init__(
            f"{term} is not finite at epoch {epoch}, step {step}: lower the learning rate or the term's weight"
        )


def first_non_finite(tensors: Mapping[str, torch.Tensor], device: torch.device) -> str | None:
    """The name of the first floating tensor that holds an infinity or nan. Waits for `device` once."""
    floating = {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}
    if not floating:
        return None
    # an optimizer may keep its step counts on the host
    finite = torch.stack([torch.isfinite(tensor).all().to(device) for tensor in floating.values()])
    return None if bool(finite.all()) else list(floating)[int(finite.long().argmin())]
