"""A trained network, ready to be asked, in Python."""

import os
from pathlib import Path
from typing import cast

from distill.config.rebuild import rebuild_network
from distill.exports.normalisation import Normalisation, normalisation_of
from distill.models import Network
from distill.runs.store import RunRecord, finished_run


class LoadedNetwork(Network):
    """What `distill.load` returns, for type checkers: the network itself, of its own class, with `normalise`."""

    normalise: Normalisation


def load_run(run: str | os.PathLike[str], *, runs_dir: str | os.PathLike[str] | None, own: str | None) -> LoadedNetwork:
    """See `distill.load`."""
    store = Path(runs_dir or os.environ.get("DISTILL_RUNS") or "runs")
    return load_record(finished_run(store, os.fspath(run)), own=own)


def load_record(record: RunRecord, *, own: str | None) -> LoadedNetwork:
    """The network of a finished run on the CPU, in eval mode, with `normalise`.

    Raises:
        Untrusted: it is of a class that is neither ours nor `own`.
        StorageError: the run's files are damaged.
        ValueError: a network of the user's has an attribute `normalise` already.
    """
    normalise = normalisation_of(record)
    network = cast(LoadedNetwork, rebuild_network(record, own=own).eval())
    if hasattr(network, "normalise"):
        name = type(network).__name__
        raise ValueError(f"{name} has an attribute normalise of its own, which would be lost: give it another name")
    network.normalise = normalise
    return network
