"""The names a run was given, taken apart: `kd temperature=8` is the option `kd` with one change."""

import re

# Where data lie, and whether they may be fetched, changes no number; the hold-out has words of its own.
_UNTOLD = {"npz", "root", "download", "holdout"}


def option(name: str) -> str:
    """The preset of a name: `kd` of `kd temperature=8`."""
    return name.split(" ", 1)[0]


def changes(name: str) -> list[str]:
    """What was changed in the preset: `["temperature=8"]`."""
    return re.split(r" (?=[\w.]+=)", name)[1:]


def without_places(name: str) -> str:
    """A data set's name without where it lies: `cifar100 limit=500` of `cifar100 npz=FILE limit=500`."""
    kept = [change for change in changes(name) if change.partition("=")[0] not in _UNTOLD]
    return " ".join([option(name), *kept])
