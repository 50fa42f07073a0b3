"""Hostile files, old and new: refused in a sentence, and nothing in them executed."""

import argparse
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distill.exchange.checkpoint import Claim, UnreadableError, read_checkpoint
from distill.models import resnet8

NON_ZIP = {"_use_new_zipfile_serialization": False}


class Anything:
    """A global of any name, as a hostile pickle would name it: whether it exists does not matter."""

    def __init__(self, module: str, name: str) -> None:
        self.__module__, self.__qualname__, self.__name__ = module, name, name

    def __call__(self) -> None:
        raise AssertionError("only its name is written")


class Writer(pickle._Pickler):
    """Pickles `Anything` as the global that it names."""

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        if isinstance(obj, Anything):
            self.write(pickle.GLOBAL + f"{obj.__module__}\n{obj.__name__}\n".encode())
        else:
            super().save(obj, save_persistent_id)


def save_with(path: Path, content: object, *, non_zip: bool = False) -> None:
    """`torch.save` with a pickler that writes globals of any name."""

    class Module:
        Pickler = Writer
        __name__ = "pickle"
        dump = staticmethod(lambda obj, file, protocol=2: Writer(file, protocol).dump(obj))

    torch.save(content, path, pickle_module=Module, **(NON_ZIP if non_zip else {}))


class Calls:
    """Unpickled, it calls a function."""

    def __init__(self, function: Any, *arguments: Any, state: object = None) -> None:
        self.content = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> Any:
        return self.content


def bomb(module: str, name: str, *arguments: object) -> Callable[[], Any]:
    return lambda: {"model": {"w": torch.ones(1)}, "x": Calls(Anything(module, name), *arguments)}


HOSTILE: dict[str, tuple[Callable[[], Any], str]] = {
    "os.system": (bomb("os", "system", "touch executed"), "asks for os.system"),
    "posix.system": (bomb("posix", "system", "touch executed"), "asks for posix.system"),
    "eval": (bomb("builtins", "eval", "open('executed', 'w')"), "asks for eval"),
    "exec": (bomb("__builtin__", "execfile", "executed"), "asks for "),
    "getattr": (bomb("builtins", "getattr", argparse.Namespace(a=1), "__class__"), "asks for getattr"),
    "subprocess": (bomb("subprocess", "Popen", ["touch", "executed"]), "asks for subprocess.Popen"),
    "through Namespace": (
        lambda: {
            "model": {"w": torch.ones(1)},
            "opt": Calls(argparse.Namespace, Calls(Anything("os", "system"), "touch executed")),
        },
        "asks for os.system",
    ),
    "Namespace called": (
        lambda: {"model": {"w": torch.ones(1)}, "opt": Calls(argparse.Namespace, 1)},
        "builds an object of a kind that is not read",
    ),
    "attribute of Namespace": (
        bomb("argparse", "Namespace.__init__.__globals__", "sys"),
        "asks for argparse.Namespace.",
    ),
    "another of argparse": (bomb("argparse", "FileType", "w"), "asks for argparse.FileType"),
    "numpy's objects": (
        lambda: {
            "model": {"w": torch.ones(1)},
            "x": Calls(Anything("numpy.core.multiarray", "scalar"), np.dtype("O"), b"x" * 8),
        },
        "is truncated, damaged or",
    ),
    "numpy's arrays": (lambda: {"model": {"w": torch.ones(1)}, "x": np.ones(3)}, "numpy"),
    "numpy's loader": (bomb("numpy", "load", "executed"), "asks for numpy.load"),
    "a network": (lambda: {"model": resnet8(num_classes=10)}, "asks for distill.models.resnet.CifarResNet"),
    "a terminal's escape": (bomb("os\x1b[2J", "system"), "asks for os\\x1b[2J.system"),
}


@pytest.mark.parametrize("non_zip", [False, True], ids=["zip", "non-zip"])
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_executes_nothing(
    name: str, non_zip: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content, sentence = HOSTILE[name]
    save_with(tmp_path / "x", content(), non_zip=non_zip)
    with pytest.raises(UnreadableError) as caught:
        read_checkpoint(tmp_path / "x")
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert os.listdir(tmp_path) == ["x"]


def test_those_files_would_have_executed_something(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_with(tmp_path / "x", HOSTILE["os.system"][0](), non_zip=True)
    torch.load("x", weights_only=False)
    assert (tmp_path / "executed").exists()


def test_admitted_types_stay_refused_elsewhere(tmp_path: Path) -> None:
    torch.save({"model": {"w": torch.ones(1)}, "opt": argparse.Namespace(a=1)}, tmp_path / "x")
    before = torch.serialization.get_safe_globals()
    read_checkpoint(tmp_path / "x")
    assert set(torch.serialization.get_safe_globals()) == set(before)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "x", weights_only=True)


@pytest.mark.parametrize("module", ["numpy.core.multiarray", "numpy._core.multiarray"])
@pytest.mark.parametrize(
    ("code", "value"), [("f8", 71.5), ("f4", 71.5), ("f2", 71.5), ("i8", 71), ("u1", 71), (">f8", 71.5)]
)
def test_scalars_of_both_numpys(tmp_path: Path, module: str, code: str, value: float) -> None:
    class Scalar:
        def __reduce__(self) -> Any:
            return (Anything(module, "scalar"), (np.dtype(code), np.array(value, dtype=code).tobytes()))

    save_with(tmp_path / "x", {"model": {"w": torch.ones(1)}, "best_acc": Scalar()})
    assert read_checkpoint(tmp_path / "x").claim == Claim(value, "best_acc")
