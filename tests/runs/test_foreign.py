"""Files of other projects: every layout read bit for bit, and nothing in a hostile one executed."""

import argparse
import os
import pickle
import warnings
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor

from distill.models import resnet8, resnet20
from distill.runs.foreign import Checkpoint, Claim, UnreadableError, read_checkpoint

Weights = dict[str, Tensor]
NON_ZIP = {"_use_new_zipfile_serialization": False}


@pytest.fixture(scope="module")
def weights() -> Weights:
    """Weights of a small network, its BatchNorm statistics moved away from where they begin."""
    torch.manual_seed(3)
    network = resnet8(num_classes=10)
    network(torch.randn(4, 3, 16, 16))
    return network.state_dict()


def within(student: Weights, *, head: str = "module.student.") -> Weights:
    """The student inside a distiller, beside a teacher and a part of the method's."""
    teacher = resnet20(num_classes=10).state_dict()
    named = {f"{head}{name}": tensor for name, tensor in student.items()}
    others = {f"module.teacher.{name}": tensor for name, tensor in teacher.items()}
    return {**others, **named, "module.conv_reg.conv.weight": torch.ones(2)}


def prefixed(student: Weights, head: str) -> Weights:
    """The state dict with `head` before every name."""
    return {f"{head}{name}": tensor for name, tensor in student.items()}


LAYOUTS: dict[str, tuple[Callable[[Weights], Any], str, int | None, Claim | None]] = {
    "ckpt_epoch_240.pth": (
        lambda w: {"epoch": 240, "model": w, "accuracy": torch.tensor([72.34]), "optimizer": {"state": {}}},
        "RepDistiller",
        240,
        Claim(pytest.approx(72.34, abs=1e-5), "accuracy"),
    ),
    "resnet8_best.pth": (
        lambda w: {"epoch": 200, "model": w, "best_acc": torch.tensor(70.5), "optimizer": {}},
        "RepDistiller",
        200,
        Claim(70.5, "best_acc"),
    ),
    "resnet8_last.pth": (
        lambda w: {"opt": argparse.Namespace(lr=0.1, milestones=[150, 180]), "model": w, "optimizer": {}},
        "RepDistiller",
        None,
        None,
    ),
    "latest": (
        lambda w: {"epoch": np.int64(3), "model": within(w), "optimizer": {}, "best_acc": np.float64(61.25)},
        "mdistiller",
        3,
        Claim(61.25, "best_acc"),
    ),
    "single": (
        lambda w: {"epoch": 3, "model": within(w, head="module.student.module."), "best_acc": np.float32(61.25)},
        "mdistiller",
        3,
        Claim(61.25, "best_acc"),
    ),
    "student_best": (lambda w: {"model": w}, "mdistiller student", None, None),
    "lightning": (
        lambda w: {"state_dict": prefixed(w, "module."), "acc": 0.6125, "note": "of mine"},
        "checkpoint (state_dict)",
        None,
        Claim(61.25, "acc"),
    ),
    "kuangliu": (
        lambda w: {"net": prefixed(w, "module."), "acc": 93, "epoch": 7},
        "checkpoint (net)",
        7,
        Claim(93, "acc"),
    ),
    "plain": (lambda w: dict(w), "state dict", None, None),
    "parallel": (lambda w: prefixed(w, "module."), "state dict", None, None),
    "compiled": (lambda w: prefixed(w, "module._orig_mod."), "state dict", None, None),
    "of a distiller": (lambda w: prefixed(w, "student."), "state dict", None, None),
}


@pytest.mark.parametrize("options", [{}, NON_ZIP], ids=["zip", "non-zip"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_comes_back_bit_for_bit(weights: Weights, tmp_path: Path, name: str, options: dict) -> None:
    content, layout, epoch, claim = LAYOUTS[name]
    path = tmp_path / name
    torch.save(content(weights), path, **options)
    found = read_checkpoint(path)
    assert_equal(found, weights)
    assert (found.layout, found.epoch, found.claim) == (layout, epoch, claim)
    assert found.container == ("torch non-zip" if options else "torch zip")
    assert found.ignored == (("conv_reg", "teacher") if layout == "mdistiller" else ())


def assert_equal(found: Checkpoint, weights: Weights) -> None:
    """The same names, types and bytes."""
    assert list(found.tensors) == list(weights)
    for name, tensor in weights.items():
        assert found.tensors[name].dtype == tensor.dtype
        assert torch.equal(found.tensors[name], tensor), name
        assert not found.tensors[name].requires_grad


def test_safetensors_whatever_the_name(weights: Weights, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    safetensors.torch.save_file(prefixed(weights, "module."), path)
    found = read_checkpoint(path)
    assert set(found.tensors) == set(weights)
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in weights.items())
    assert (found.layout, found.container, found.claim) == ("safetensors", "safetensors", None)


def test_parameters_views_and_half_types(tmp_path: Path) -> None:
    large = torch.randn(8, 6)
    content = {"a": torch.nn.Parameter(large[2:4]), "b": large.t()[1], "c": torch.ones(3, dtype=torch.bfloat16)}
    torch.save(content, tmp_path / "x")
    found = read_checkpoint(tmp_path / "x").tensors
    assert all(torch.equal(found[name], content[name]) for name in content)
    assert type(found["a"]) is Tensor


@pytest.mark.parametrize("claimed", [float("nan"), -1.0, 101.0, "72", True, torch.ones(2), None])
def test_what_is_no_accuracy_is_no_claim(weights: Weights, tmp_path: Path, claimed: object) -> None:
    torch.save({"model": dict(weights), "best_acc": claimed, "epoch": claimed}, tmp_path / "x")
    found = read_checkpoint(tmp_path / "x")
    assert found.claim is None
    assert found.epoch in (None, 101)


def archived(path: Path, compression: int) -> None:
    """The same zip with another compression."""
    with zipfile.ZipFile(path) as source:
        members = {name: source.read(name) for name in source.namelist()}
    with zipfile.ZipFile(path, "w", compression) as target:
        for name, data in members.items():
            target.writestr(name, data)


BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "empty": (lambda path: path.write_bytes(b""), "is empty"),
    "missing": (lambda path: None, "there is no file"),
    "folder": (lambda path: path.mkdir(), "is a folder"),
    "text": (lambda path: path.write_text("weights"), "is neither"),
    "page": (lambda path: path.write_text("<!DOCTYPE html>"), "is a web page"),
    "lfs": (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"), "is a pointer of Git LFS"),
    "gzip": (lambda path: path.write_bytes(b"\x1f\x8b" + bytes(50)), "is compressed"),
    "tar": (lambda path: path.write_bytes(bytes(257) + b"ustar" + bytes(250)), "is a tar archive"),
    "npz": (lambda path: np.savez(path, x=np.ones(3)) or os.rename(f"{path}.npz", path), "no checkpoint of torch"),
    "bomb": (
        lambda path: [torch.save({"w": torch.ones(9 << 20)}, path), archived(path, zipfile.ZIP_DEFLATED)],
        "no checkp",
    ),
    "program": (lambda path: torch.jit.script(torch.nn.Linear(1, 1)).save(path), "TorchScript"),
    "list": (lambda path: torch.save([torch.ones(1)], path), "holds no state dict but a list"),
    "no weights": (lambda path: torch.save({"epoch": 1, "acc": 2.0}, path), "its keys are epoch, acc"),
    "no names": (lambda path: torch.save({0: torch.ones(1)}, path), "names a tensor 0"),
    "no tensor": (lambda path: torch.save({"a": torch.ones(1), "b": [1]}, path), "b is a list where"),
    "sparse": (lambda path: torch.save({"a": torch.eye(3).to_sparse()}, path), "a is no dense tensor"),
    "meta": (lambda path: torch.save({"a": torch.ones(3, device="meta")}, path), "a is no dense tensor"),
    "complex": (lambda path: torch.save({"a": torch.ones(3, dtype=torch.complex64)}, path), "a is no dense tensor"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_wrong_file_is_told_in_one_sentence(name: str, tmp_path: Path) -> None:
    write, sentence = BROKEN[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is on its way out
        write(tmp_path / "x")
    with pytest.raises(UnreadableError) as caught:
        read_checkpoint(tmp_path / "x")
    assert str(tmp_path / "x") in str(caught.value)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


SAVERS: dict[str, Callable[[Any, Path], None]] = {
    "zip": torch.save,
    "non-zip": partial(torch.save, **NON_ZIP),  # type: ignore[dict-item]
    "safetensors": safetensors.torch.save_file,
}


@pytest.mark.parametrize("saver", SAVERS)
def test_a_file_cut_anywhere_is_told_in_one_sentence(weights: Weights, tmp_path: Path, saver: str) -> None:
    path = tmp_path / "x"
    SAVERS[saver](dict(weights), path)
    data = path.read_bytes()
    for size in (1, 2, 8, 9, 20, 100, 700, 3000, len(data) // 2, len(data) - 9, len(data) - 1):
        path.write_bytes(data[:size])
        with pytest.raises(UnreadableError) as caught:
            read_checkpoint(path)
        assert "\n" not in str(caught.value), size


def test_the_digest_is_that_of_the_file(tmp_path: Path) -> None:
    import hashlib

    torch.save({"w": torch.ones(1)}, tmp_path / "x")
    digest = hashlib.sha256((tmp_path / "x").read_bytes()).hexdigest()
    assert read_checkpoint(tmp_path / "x").metadata["sha256"] == digest


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
    "os.system": (bomb("os", "system", "touch executed"), "needs os.system"),
    "posix.system": (bomb("posix", "system", "touch executed"), "needs posix.system"),
    "eval": (bomb("builtins", "eval", "open('executed', 'w')"), "needs eval"),
    "exec": (bomb("__builtin__", "execfile", "executed"), "needs "),
    "getattr": (bomb("builtins", "getattr", argparse.Namespace(a=1), "__class__"), "needs getattr"),
    "subprocess": (bomb("subprocess", "Popen", ["touch", "executed"]), "needs subprocess.Popen"),
    "through Namespace": (
        lambda: {
            "model": {"w": torch.ones(1)},
            "opt": Calls(argparse.Namespace, Calls(Anything("os", "system"), "touch executed")),
        },
        "needs os.system",
    ),
    "Namespace called": (
        lambda: {"model": {"w": torch.ones(1)}, "opt": Calls(argparse.Namespace, 1)},
        "builds an object of a kind that is not read",
    ),
    "attribute of Namespace": (
        bomb("argparse", "Namespace.__init__.__globals__", "sys"),
        "needs argparse.Namespace.",
    ),
    "another of argparse": (bomb("argparse", "FileType", "w"), "needs argparse.FileType"),
    "numpy's objects": (
        lambda: {
            "model": {"w": torch.ones(1)},
            "x": Calls(Anything("numpy.core.multiarray", "scalar"), np.dtype("O"), b"x" * 8),
        },
        "is truncated, damaged or",
    ),
    "numpy's arrays": (lambda: {"model": {"w": torch.ones(1)}, "x": np.ones(3)}, "numpy"),
    "numpy's loader": (bomb("numpy", "load", "executed"), "needs numpy.load"),
    "a network": (lambda: {"model": resnet8(num_classes=10)}, "needs distill.models.resnet.CifarResNet"),
    "a terminal's escape": (bomb("os\x1b[2J", "system"), "needs os\\x1b[2J.system"),
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
