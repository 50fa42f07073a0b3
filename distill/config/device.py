"""The device that computes."""

import torch


def usable_device(name: str, *, key: str) -> torch.device:
    """The device called `name`; `auto` is CUDA where there is one. `key` is what set it, for the sentence.

    Raises:
        ValueError: there is no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{key}={name} cannot be used here ({reason}): set {key}=cpu or auto") from error
    return device
