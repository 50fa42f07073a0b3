"""Random numbers: every purpose of a run has its own seed, and every member its own generator state."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

from distill.data.stream import stable_seed


def derive_seed(seed: int, purpose: str) -> int:
    """A 63-bit seed for one purpose of a run, the same on every platform and unrelated between purposes."""
    return stable_seed(f"{seed}/{purpose}", byteorder="little")


@contextmanager
def seeded(seed: int, purpose: str) -> Iterator[None]:
    """Seed torch's default CPU generator inside the block (weight initialisation) and restore it afterwards."""
    before = torch.random.get_rng_state()
    # torch.manual_seed also seeds the generators of GPUs, which nothing restores, and takes 2 ms
    torch.default_generator.manual_seed(derive_seed(seed, purpose))
    try:
        yield
    finally:
        torch.random.set_rng_state(before)


def renewed(generator: torch.Generator, device: torch.device) -> torch.Generator:
    """Another generator of `device` that goes on with the same numbers."""
    other = torch.Generator(device)
    other.set_state(generator.get_state())
    return other


class OwnRandomness:
    """The default generators' state of one member, so that dropout in one member does not change that in another.

    `with randomness:` installs the state, runs the block and takes the advanced state back. `state` is part of the
    resume checkpoint.

    On CUDA the default generator is not overwritten but pointed at the member's own (`graphsafe_set_state`). A graph
    captured inside the block registers the state it finds there, and at each replay writes that state's seed and
    offset to where its kernels read them, and advances it. Where members shared one state, replays on parallel streams
    would overwrite each other's seed; copying numbers in and out of it would not help.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        start = derive_seed(seed, "training")
        self._cpu = torch.Generator().manual_seed(start).get_state()
        self._cuda = torch.Generator(device).manual_seed(start) if device.type == "cuda" else None
        self._device = device

    @property
    def state(self) -> dict[str, torch.Tensor]:
        """The states by the kind of device, on the host."""
        return {"cpu": self._cpu} | ({} if self._cuda is None else {"cuda": self._cuda.get_state()})

    @state.setter
    def state(self, state: Mapping[str, torch.Tensor]) -> None:
        self._cpu = state["cpu"]
        if self._cuda is not None and "cuda" in state:  # a run that began on a CPU has none
            self._cuda.set_state(state["cuda"])

    def renew(self) -> None:
        """Replace the CUDA generator, in which a failed capture may still be registered; the state stays."""
        if self._cuda is not None:
            self._cuda = renewed(self._cuda, self._device)

    def __enter__(self) -> None:
        self._outside = torch.random.get_rng_state()
        torch.random.set_rng_state(self._cpu)
        if self._cuda is not None:
            default = torch.cuda.default_generators[self._index]
            self._outside_cuda = default.graphsafe_get_state()
            default.graphsafe_set_state(self._cuda)

    def __exit__(self, *exc: object) -> None:
        self._cpu = torch.random.get_rng_state()
        torch.random.set_rng_state(self._outside)
        if self._cuda is not None:
            torch.cuda.default_generators[self._index].graphsafe_set_state(self._outside_cuda)

    @property
    def _index(self) -> int:
        return torch.cuda.current_device() if self._device.index is None else self._device.index
