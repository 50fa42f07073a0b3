"""Every test is hermetic: one thread, no network, no environment of the user's, no folder but its own."""

import gc
import ipaddress
import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# Read before torch is first imported, here and in every child process; bytes depend on the number of threads.
os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")
# What a child process would ask the network for fails at once instead of leaving the machine.
os.environ.update(HF_HUB_OFFLINE="1", PIP_NO_INDEX="1", NO_PROXY="localhost,127.0.0.1,::1")
os.environ.update(dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9"))
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="distill-cache-")
PLACES = ("DISTILL_RUNS", "DISTILL_DATA", "HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "TORCH_HOME")
for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", *PLACES):
    os.environ.pop(name, None)


class NetworkUsed(BaseException):
    """A test reached for the network. Not an Exception: code that retries or falls back must not hide it."""


def refuse_remote(address: Any) -> None:
    """Raise NetworkUsed unless `address`, (host, ...) or the path of a Unix socket, is on this machine."""
    host = address[0] if isinstance(address, tuple) else None
    if host in (None, "", "localhost"):
        return
    try:
        local = ipaddress.ip_address(str(host).split("%")[0]).is_loopback
    except ValueError:
        local = False
    if not local:
        raise NetworkUsed(f"tests run offline, but one connects to {address}")


@pytest.fixture(autouse=True, scope="session")
def offline() -> Iterator[None]:
    """Block connections and name look-ups that leave this machine."""
    connect, connect_ex, look_up = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def connect_locally(self: socket.socket, address: Any) -> None:
        refuse_remote(address)
        connect(self, address)

    def connect_ex_locally(self: socket.socket, address: Any) -> int:
        refuse_remote(address)
        return connect_ex(self, address)

    def look_up_locally(host: Any, *args: Any, **kwargs: Any) -> Any:
        refuse_remote((host,))
        return look_up(host, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", connect_locally)
        patch.setattr(socket.socket, "connect_ex", connect_ex_locally)
        patch.setattr(socket, "getaddrinfo", look_up_locally)
        yield


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Undo what an earlier test did to torch's thread count; torch is not imported for it."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(scope="session")
def modules_to_keep() -> set[str]:
    """The names of the modules that no test wrote: the thousands of torch are looked at once."""
    return set()


@pytest.fixture(autouse=True)
def no_modules_of_other_tests(tmp_path_factory: pytest.TempPathFactory, modules_to_keep: set[str]) -> Iterator[None]:
    """Forget the modules that a test wrote and imported: another test may write one of the same name."""
    yield
    written = str(tmp_path_factory.getbasetemp())
    for name in sys.modules.keys() - modules_to_keep:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(written):
            del sys.modules[name]
        else:
            modules_to_keep.add(name)


@pytest.fixture
def runs_dir(tmp_path: Path) -> Path:
    """An empty folder for runs, the test's own."""
    path = tmp_path / "runs"
    path.mkdir()
    return path


@pytest.fixture(scope="session")
def cifar100_npz() -> Path:
    """The real CIFAR-100 (uint8 arrays x_train y_train x_test y_test), where the environment names it."""
    named = os.environ.get("DISTILL_TEST_CIFAR100")
    if not named:
        pytest.skip("needs the real CIFAR-100: set DISTILL_TEST_CIFAR100 to its .npz file")
    path = Path(named).resolve()
    assert path.is_file(), f"DISTILL_TEST_CIFAR100 names {path}, which is no file"
    return path


@pytest.fixture(scope="session")
def photographs() -> Path:
    """Real photographs of Imagenette, train/WNID and val/WNID, where the environment names their folder."""
    named = os.environ.get("DISTILL_TEST_PHOTOGRAPHS")
    if not named:
        pytest.skip("needs real photographs: set DISTILL_TEST_PHOTOGRAPHS to a folder with Imagenette's train and val")
    path = Path(named).resolve()
    assert path.is_dir(), f"DISTILL_TEST_PHOTOGRAPHS names {path}, which is no folder"
    return path


def pytest_collection_finish() -> None:
    """Take what has been imported out of the garbage collector's sight: going through it takes a third of a second."""
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Let it be collected at the end."""
    gc.unfreeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip tests marked `gpu` where they cannot run."""
    if item.get_closest_marker("gpu") is None:
        return
    from accelerator import missing  # imports torch

    reason = missing()
    if reason is not None:
        pytest.skip(reason)
