"""The exported weights of a run, and that nothing in a run directory is ever unpickled."""

import hashlib
import io
import pickle
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from distill.runs.checkpoint import load_checkpoint, load_weights, save_weights
from distill.runs.files import StorageError
from distill.runs.layout import LAST, PREVIOUS

BASE = torch.arange(12.0).reshape(3, 4)


class Trap:
    """Unpickling it makes a file."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[list[str]]]:
        return subprocess.call, (["touch", str(self.canary)],)


@pytest.mark.parametrize("archive", [False, True], ids=["pickle", "torch.save"])
def test_a_hostile_pickle_executes_nothing(tmp_path: Path, archive: bool) -> None:
    run, canary = tmp_path / "run", tmp_path / "canary"
    run.mkdir()
    content = io.BytesIO()
    if archive:
        torch.save(Trap(canary), content)
    else:
        pickle.dump(Trap(canary), content)
    for name in (LAST, PREVIOUS, "student.safetensors"):
        (run / name).write_bytes(content.getvalue())
    with pytest.raises(StorageError, match="not safetensors"):
        load_checkpoint(run)
    with pytest.raises(StorageError, match=r"student\.safetensors holds no weights"):
        load_weights(run / "student.safetensors")
    assert not canary.exists()
    content.seek(0)
    torch.load(content, weights_only=False) if archive else pickle.load(content)
    assert canary.exists()  # the trap works: whoever unpickles falls into it


def test_weights_come_back_and_equal_weights_are_equal_bytes(tmp_path: Path) -> None:
    tensors = {
        "base": BASE,
        "tied": BASE,
        "transposed": BASE.t(),
        "count": torch.tensor(2**62 + 1),
        "half": torch.tensor([1.0, -0.0], dtype=torch.bfloat16),
        "empty": torch.empty(0, 4),
    }
    sha256 = save_weights(tmp_path / "a.safetensors", tensors)
    assert sha256 == hashlib.sha256((tmp_path / "a.safetensors").read_bytes()).hexdigest()
    turned = {name: tensors[name].clone() for name in reversed(tensors)}
    assert save_weights(tmp_path / "b.safetensors", turned) == sha256
    weights = load_weights(tmp_path / "a.safetensors", expected_sha256=sha256)
    assert weights.keys() == tensors.keys()
    assert all(torch.equal(weights[name], tensors[name]) for name in tensors)
    assert all(weights[name].dtype == tensors[name].dtype for name in tensors)


def test_weights_that_are_not_the_recorded_ones_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "student.safetensors"
    sha256 = save_weights(path, {"x": torch.ones(3)})
    save_weights(path, {"x": torch.zeros(3)})
    with pytest.raises(StorageError, match=r"is not the file its run recorded: its sha256 is [0-9a-f]{12}\.\.\."):
        load_weights(path, expected_sha256=sha256)
    with pytest.raises(StorageError, match=r"could not read .*student\.safetensors"):
        load_weights(tmp_path / "absent" / "student.safetensors")
