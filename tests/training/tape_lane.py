"""A lane for tests on a CPU: what CUDA graphs do to a piece of work, done by a tape of its operations.

Capturing runs the Python once and records every operation with its arguments; whatever it wrote, and the generator, are
put back. A replay repeats the operations on the same tensors, their results written to where the first ones lay. So, as
with a graph, a number read from the host is that of the capture for ever, a tensor that was replaced is read at its old
place, and waiting for the device while capturing is an error.
"""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

HOST_READS = {"aten::_local_scalar_dense", "aten::nonzero", "aten::is_nonzero", "aten::equal"}


def tensors(*values) -> list[torch.Tensor]:
    """Those anywhere in the values."""
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)]


def storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata


class Tape(TorchDispatchMode):
    """Records while it is active."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple] = []
        self.made: dict[int, torch.UntypedStorage] = {}
        self.before: dict[int, tuple] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func._schema.name in HOST_READS:
            raise RuntimeError(f"operation not permitted when stream is capturing: {func._schema.name}")
        given = {storage(tensor): tensor.untyped_storage() for tensor in tensors(args, kwargs)}
        for place, memory in given.items():
            if place not in self.made and place not in self.before:
                self.before[place] = memory, memory.clone()
        result = func(*args, **kwargs)
        new = [tensor for tensor in tensors(result) if storage(tensor) not in given]
        self.made.update({storage(tensor): tensor.untyped_storage() for tensor in new})
        # other tensors of the same memory: autograd clones a gradient that somebody else holds
        kept = tree_map_only(torch.Tensor, torch.Tensor.detach, (args, kwargs))
        made = [(i, old.detach()) for i, old in enumerate(tensors(result)) if storage(old) not in given]
        self.operations.append((func, *kept, made, torch.is_grad_enabled()))
        return result

    def undo(self) -> None:
        for memory, bytes_before in self.before.values():
            memory.copy_(bytes_before)

    def spoil(self) -> None:
        """Overwrite what was made, as another graph of the same pool may."""
        for memory in self.made.values():
            memory.fill_(255)  # nan in every floating type

    def replay(self) -> None:
        with torch._C._AutoDispatchBelowAutograd():
            for func, args, kwargs, made, grad in self.operations:
                with torch.set_grad_enabled(grad):  # kernels are chosen by it
                    fresh = func(*args, **kwargs)
                fresh = [fresh] if isinstance(fresh, torch.Tensor) else tensors(fresh)
                for i, old in made:
                    old.copy_(fresh[i])


class TapeLane:
    """A `Lane`; `log` is shared by the lanes of a test and says what happened in which of them."""

    def __init__(self, log: list[tuple[str, "TapeLane"]]) -> None:
        self.log, self.inside = log, False
        self.tapes: list[Tape] = []

    def __enter__(self) -> None:
        assert not self.inside
        self.inside = True
        self.log.append(("enter", self))

    def __exit__(self, *exc: object) -> None:
        self.inside = False

    def join(self) -> None:
        assert not self.inside
        self.log.append(("join", self))

    def capture(self, work):
        assert self.inside
        generator, tape = torch.random.get_rng_state(), Tape()
        try:
            with tape:
                work()
        finally:
            tape.undo()
            torch.random.set_rng_state(generator)
        self.log.append(("capture", self))
        self.tapes.append(tape)

        def replay() -> None:
            assert self.inside
            self.log.append(("replay", self))
            self.play(tape)

        return replay

    def play(self, tape: Tape) -> None:
        tape.replay()


class LateLane(TapeLane):
    """A lane that is as late as a stream may be: a replay is done when somebody waits for it.

    It then overwrites what the lane's later captures made: they take their memory from where earlier ones have their
    intermediate results. Numbers drawn in a replay are not those of the member, whose generator is in place earlier.
    """

    def __init__(self, log: list[tuple[str, TapeLane]]) -> None:
        super().__init__(log)
        self.waiting: list[Tape] = []

    def play(self, tape: Tape) -> None:
        self.waiting.append(tape)

    def join(self) -> None:
        super().join()
        for tape in self.waiting:
            tape.replay()
            for later in self.tapes[self.tapes.index(tape) + 1 :]:
                later.spoil()
        self.waiting.clear()
