"""What a member of a cohort expects of those who record it."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch


class Recorder(Protocol):
    """Where a member leaves its numbers: a run directory, or a list in a test."""

    def log_epoch(self, metrics: Mapping[str, Any]) -> None: ...
    def log_timing(self, timing: Mapping[str, Any]) -> None: ...
    def save(self, tensors: Mapping[str, torch.Tensor], state: Mapping[str, object]) -> None: ...
    def finish(self, result: Mapping[str, Any], *, weights: Mapping[str, torch.Tensor]) -> object: ...
    def fail(self, failure: Mapping[str, Any]) -> None: ...


class Checkpoints(Protocol):
    """When to save, so that saving stays cheap."""

    def due(self) -> bool: ...
    def saving(self) -> AbstractContextManager[None]: ...
