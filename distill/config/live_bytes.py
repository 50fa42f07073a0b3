"""Counting the bytes of tensors as they come and go, on any device, the meta device too."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from weakref import finalize

from torch import Tensor, UntypedStorage
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While active, counts the memory that operations allocate, until the last tensor in it is gone.

    now   bytes alive of what was made in the block
    peak  the most that was alive at once; it may be set back to `now`

    Views share their base's memory and are not counted again. What an operation uses and frees itself, and what an
    allocator keeps, is not seen.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._known: dict[int, int] = {}  # bytes by storage; 0 for memory older than the block

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Sequence[type], args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        for storage in _storages((args, kwargs)):
            self._note(storage, 0)
        result = func(*args, **(kwargs or {}))
        for storage in _storages(result):
            self._note(storage, storage.nbytes())
        self.peak = max(self.peak, self.now)
        return result

    def _note(self, storage: UntypedStorage, size: int) -> None:
        address = storage._cdata
        if address not in self._known:
            self._known[address] = size
            self.now += size
            finalize(storage, self._forget, address)

    def _forget(self, address: int) -> None:
        self.now -= self._known.pop(address)


def _storages(tree: Any) -> list[UntypedStorage]:
    return [leaf.untyped_storage() for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
