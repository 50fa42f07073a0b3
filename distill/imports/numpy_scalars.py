"""NumPy's scalars in a pickle (`best_acc` of many trainers), rebuilt without NumPy's own reconstructors.

Those take a state that can describe any memory layout, which a hostile file could use. What stands in for them here
knows numbers of fixed size and nothing else.
"""

import struct
from typing import Any

_FORMATS = {"b1": "?", "i1": "b", "i2": "h", "i4": "i", "i8": "q", "u1": "B", "u2": "H", "u4": "I", "u8": "Q"}
_FORMATS |= {"f2": "e", "f4": "f", "f8": "d"}
_ORDERS = {"<": "<", ">": ">", "|": "<", "=": "="}


class ScalarType:
    """Stands in for `numpy.dtype`: the code of a number and its byte order. ValueError for anything else."""

    def __init__(self, code: object, align: object = False, copy: object = False) -> None:
        if not isinstance(code, str) or code not in _FORMATS:
            raise ValueError(f"a NumPy type that is no plain number: {code!r}")
        self._code, self._order = code, "<"

    def __setstate__(self, state: Any) -> None:
        """Of numpy's state (version, byte order, ...) only the byte order is read."""
        self._order = _ORDERS[state[1]]

    def unpack(self, data: bytes) -> bool | int | float:
        """The number in `data`. struct.error where the length is not the type's."""
        number: bool | int | float = struct.unpack(self._order + _FORMATS[self._code], data)[0]
        return number


def scalar(kind: ScalarType, data: bytes) -> bool | int | float:
    """Stands in for `numpy.core.multiarray.scalar`: the number as Python's own type."""
    if type(kind) is not ScalarType or not isinstance(data, bytes):
        raise ValueError("a NumPy scalar that is no plain number")
    return kind.unpack(data)


# the same functions under the names that NumPy 1 and NumPy 2 write
NAMES: dict[str, Any] = {
    "numpy.dtype": ScalarType,
    "numpy.core.multiarray.scalar": scalar,
    "numpy._core.multiarray.scalar": scalar,
}
