"""What the configurations of runs differ in. Imports no numpy."""

from collections.abc import Mapping
from typing import Any

from distill.tables.values import flatten, to_text

# what changes no number: how it was computed, where the data lay
_UNTOLD = ("engine.", "dataset.npz", "dataset.root", "dataset.download")
ABSENT = "-"


def differences(configs: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """By dotted path, the value of each run, for the paths that are not equal in all of them."""
    flat = {name: {path: to_text(value) for path, value in flatten(config).items()} for name, config in configs.items()}
    paths = sorted({path for each in flat.values() for path in each if not path.startswith(_UNTOLD)})
    rows = {path: {name: each.get(path, ABSENT) for name, each in flat.items()} for path in paths}
    return {path: values for path, values in rows.items() if len(set(values.values())) > 1}
