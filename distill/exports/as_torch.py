"""torch.export: a program that torch runs without this package."""

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from distill.exports.source import Source
from distill.models import Network


def write(source: Source, path: Path) -> Network:
    """The traced program with its weights. Returns the network that was written."""
    with warnings.catch_warnings():
        # said of every tensor without dimensions, such as BatchNorm's counter; they are written whole
        warnings.filterwarnings("ignore", message="No complete tensor found in the group")
        torch.export.save(source.program, path)
    return source.network


def read(path: Path, network: Network) -> Callable[[Tensor], Tensor]:
    """The program of the file."""
    with _silent():
        loaded: Callable[[Tensor], Tensor] = torch.export.load(path).module()
    return loaded


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Without torch's log of a file that cannot be read: the error says it, without a trace."""
    log = logging.getLogger("torch.export")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)
