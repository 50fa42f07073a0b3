"""Checkpoints: exact round trips, two generations, and damage told in sentences."""

import errno
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from distill.runs import files
from distill.runs.checkpoint import load_checkpoint, remove_checkpoints, save_checkpoint, save_weights
from distill.runs.files import StorageError
from distill.runs.layout import LAST, PREVIOUS

BASE = torch.arange(12.0).reshape(3, 4)
AWKWARD = {
    "0-d": torch.tensor(3.5),
    "0-d int": torch.tensor(-(2**62)),
    "empty": torch.empty(0, 4),
    "bool": torch.tensor([True, False]),
    "int64": torch.tensor([2**62 + 1, -1]),
    "bf16": torch.tensor([1.0, -0.0, math.inf, 3e-39], dtype=torch.bfloat16),
    "nan": torch.tensor([math.nan, -math.inf, 1e-45]),
    "float64": torch.tensor([0.1], dtype=torch.float64),
    "base": BASE,
    "tied": BASE,
    "transposed": BASE.t(),
    "row": BASE[1],
    "strided": BASE[:, ::2],
    "expanded": torch.ones(1).expand(5),
    "channels_last": torch.arange(96.0).reshape(2, 3, 4, 4).to(memory_format=torch.channels_last),
    "parameter": torch.nn.Parameter(torch.tensor([1.0, 2.0])),
    "generator": torch.Generator().manual_seed(3).get_state(),
}


def raw(tensor: Tensor) -> tuple[Any, ...]:
    """Everything that must come back: type, shape and the very bytes (nan too)."""
    dense = tensor.detach().contiguous()
    return dense.dtype, dense.shape, bytes(dense.reshape(-1).view(torch.uint8).tolist())


def save_generation(folder: Path, number: int) -> None:
    save_checkpoint(folder, {"x": torch.full((100,), float(number))}, {"generation": number})


def generation(folder: Path) -> int:
    loaded = load_checkpoint(folder)
    assert loaded is not None
    assert bool((loaded.tensors["x"] == loaded.state["generation"]).all())
    return int(loaded.state["generation"])


def test_every_tensor_comes_back_exactly_and_on_its_own(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, AWKWARD, {})
    loaded = load_checkpoint(tmp_path)
    assert loaded is not None
    assert loaded.note is None
    assert {name: raw(t) for name, t in loaded.tensors.items()} == {name: raw(t) for name, t in AWKWARD.items()}
    loaded.tensors["tied"].zero_()
    assert raw(loaded.tensors["base"]) == raw(BASE)
    assert raw(BASE) == raw(torch.arange(12.0).reshape(3, 4))


def test_the_state_comes_back_with_nested_values_and_non_finite_numbers(tmp_path: Path) -> None:
    state = {"epoch": 3, "best": math.inf, "meters": {"loss": [0.1, 1 / 3]}, "name": "ü", "none": None}
    save_checkpoint(tmp_path, {}, state)
    loaded = load_checkpoint(tmp_path)
    assert loaded is not None
    assert (loaded.tensors, loaded.state) == ({}, state)


def test_a_folder_without_checkpoints_has_none(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path) is None
    assert load_checkpoint(tmp_path / "absent") is None
    remove_checkpoints(tmp_path)


@pytest.mark.parametrize(
    "bad", [torch.ones(2, dtype=torch.complex128), torch.ones(2).to_sparse()], ids=["dtype", "sparse"]
)
def test_a_tensor_without_a_safetensors_form_is_a_sentence_and_touches_nothing(tmp_path: Path, bad: Tensor) -> None:
    save_generation(tmp_path, 1)
    with pytest.raises(ValueError, match="save"):
        save_checkpoint(tmp_path, {"bad": bad}, {})
    assert generation(tmp_path) == 1
    assert os.listdir(tmp_path) == [LAST]


@pytest.mark.parametrize("links", [True, False])
def test_two_generations_are_kept_with_or_without_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    def no_links(*arguments: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    if not links:
        monkeypatch.setattr(os, "link", no_links)
    for number in (1, 2, 3):
        save_generation(tmp_path, number)
    assert sorted(os.listdir(tmp_path)) == [LAST, PREVIOUS]
    assert generation(tmp_path) == 3
    (tmp_path / LAST).unlink()
    assert generation(tmp_path) == 2
    remove_checkpoints(tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_kill_between_the_two_renames_leaves_nothing_behind_later(tmp_path: Path) -> None:
    save_generation(tmp_path, 1)
    os.link(tmp_path / LAST, tmp_path / PREVIOUS)  # killed after the first rename: both names are one file
    save_generation(tmp_path, 2)
    assert sorted(os.listdir(tmp_path)) == [LAST, PREVIOUS]
    assert generation(tmp_path) == 2
    (tmp_path / LAST).unlink()
    assert generation(tmp_path) == 1


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 10)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def flip_a_bit_of_a_tensor(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)


def change_the_state(path: Path) -> None:
    data = path.read_bytes()
    assert data.count(b'generation\\": 2') == 1
    path.write_bytes(data.replace(b'generation\\": 2', b'generation\\": 9'))


def replace_by_weights(path: Path) -> None:
    save_weights(path, {"x": torch.ones(3)})


def delete(path: Path) -> None:
    path.unlink()


DAMAGES = [truncate, empty, flip_a_bit_of_a_tensor, change_the_state, replace_by_weights, delete]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_last_gives_way_to_the_previous_one_and_says_so(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    save_generation(tmp_path, 1)
    save_generation(tmp_path, 2)
    damage(tmp_path / LAST)
    loaded = load_checkpoint(tmp_path)
    assert loaded is not None
    assert loaded.state == {"generation": 1}
    assert loaded.note is not None
    assert str(tmp_path / LAST) in loaded.note
    # the damaged file must not become the previous generation of the next save
    save_generation(tmp_path, 3)
    (tmp_path / LAST).unlink()
    assert generation(tmp_path) == 1


def test_when_no_generation_is_good_the_sentence_says_what_to_do(tmp_path: Path) -> None:
    save_generation(tmp_path, 1)
    truncate(tmp_path / LAST)
    with pytest.raises(StorageError, match=r"no checkpoint of .* delete this folder to start the run again"):
        load_checkpoint(tmp_path)
    save_generation(tmp_path, 2)
    flip_a_bit_of_a_tensor(tmp_path / LAST)
    with pytest.raises(StorageError, match=r"last\.safetensors: .*digest.*previous\.safetensors: truncated"):
        load_checkpoint(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [LAST, PREVIOUS]


def test_a_save_that_fails_keeps_both_generations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_generation(tmp_path, 1)
    save_generation(tmp_path, 2)

    def full(path: Path, data: bytes) -> None:
        path.write_bytes(data[:50])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "write_synced", full)
    with pytest.raises(StorageError, match=r"could not write .*last\.safetensors: no space left on device"):
        save_generation(tmp_path, 3)
    assert sorted(os.listdir(tmp_path)) == [LAST, PREVIOUS]
    assert generation(tmp_path) == 2
    (tmp_path / LAST).unlink()
    monkeypatch.undo()
    assert generation(tmp_path) == 1


def test_saving_below_a_file_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(StorageError, match="part of its path is a file"):
        save_generation(tmp_path / "run", 1)
