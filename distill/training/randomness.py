"""Random numbers: every purpose of a run has its own seed, and every member its own generator state."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derive_seed(seed: int, purpose: str) -> int:
    """A 63-bit seed for one purpose of a run, the same on every platform and unrelated between purposes."""
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


@contextmanager
def seeded(seed: int, purpose: str) -> Iterator[None]:
    """Seed torch's default CPU generator inside the block (weight initialisation) and restore it afterwards."""
    before = torch.random.get_rng_state()
    torch.manual_seed(derive_seed(seed, purpose))
    try:
        yield
    finally:
        torch.random.set_rng_state(before)


class OwnRandomness:
    """The default generators' state as one member sees it, so that no member's dropout moves another's.

    `with randomness:` installs the state, runs the block and takes the advanced state back. The state is part of
    the resume checkpoint.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self._device = device
        self._outside: dict[str, torch.Tensor] = {}
        self.state = {"cpu": torch.Generator().manual_seed(derive_seed(seed, "training")).get_state()}
        if device.type == "cuda":
            generator = torch.Generator(device=device).manual_seed(derive_seed(seed, "training"))
            self.state["cuda"] = generator.get_state()

    def __enter__(self) -> None:
        self._outside = self._read()
        self._install(self.state)

    def __exit__(self, *exc: object) -> None:
        self.state = self._read()
        self._install(self._outside)

    def _read(self) -> dict[str, torch.Tensor]:
        state = {"cpu": torch.random.get_rng_state()}
        if self._device.type == "cuda":
            state["cuda"] = torch.cuda.get_rng_state(self._device)
        return state

    def _install(self, state: dict[str, torch.Tensor]) -> None:
        torch.random.set_rng_state(state["cpu"])
        if "cuda" in state:
            torch.cuda.set_rng_state(state["cuda"], self._device)
