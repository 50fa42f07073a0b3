"""Records how a run was computed: code, versions, device, threads. Never a user, a host or an absolute path."""

import functools
import os
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

_PACKAGES = ("torchvision", "timm", "numpy", "hydra-core", "safetensors")
# what must be equal for a resumed or repeated run to give equal bytes (claimed on CPU only)
_BYTE_CONDITIONS = ("torch", "device", "isa", "threads")
# the values that they had for checkpoints written before they were recorded
_THEN = {
    "optimizer": "unfused",
    "compile": "False",
    "capture": "False",
    "deterministic": "False",
    "teacher folded": "False",
    "processes": "1",
}


def collect(device: str | torch.device = "cpu", **facts: object) -> dict[str, Any]:
    """The provenance of this process working on `device`, and `facts` (precision, engine...) as given.

    Keys: commit and dirty (None outside a checkout), versions, device, threads, isa.
    """
    commit, dirty = _checkout()
    return {
        "commit": commit,
        "dirty": dirty,
        "versions": _versions(),
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "isa": torch.backends.cpu.get_cpu_capability(),
        **facts,
    }


def byte_conditions(device: str | torch.device = "cpu", **facts: object) -> dict[str, Any]:
    """The part of the provenance that decides the bytes, with `facts`; it belongs into a checkpoint's state."""
    now = {"torch": torch.__version__, **collect(device)}
    return {key: str(now[key]) for key in _BYTE_CONDITIONS} | {key: str(value) for key, value in facts.items()}


def why_bytes_differ(then: Mapping[str, object], now: Mapping[str, object]) -> str | None:
    """A sentence for a resume under other conditions than the checkpoint's; None when bytes stay equal."""
    before = {**_THEN, **then}
    changes = [f"{key} was {before.get(key)}, is {now[key]}" for key in now if before.get(key) != now[key]]
    if not changes:
        return None
    return f"the result may differ in its last bits from an uninterrupted run: {', '.join(changes)}"


def device_name(device: str | torch.device = "cpu") -> str:
    """The model name of the processor or GPU."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return _processor() if device.type == "cpu" else device.type


@functools.cache
def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


@functools.cache
def _versions() -> dict[str, str | None]:
    versions = {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "cuda": torch.version.cuda,
    }
    return versions | {package.removesuffix("-core"): _version(package) for package in _PACKAGES}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


@functools.cache  # the code was read when the process began: a commit made later is not what runs
def _checkout() -> tuple[str | None, bool | None]:
    """Commit and dirty flag of the checkout that tracks this file; not of one that only contains the environment."""
    here = Path(__file__)
    if _git(here.parent, "ls-files", "--error-unmatch", here.name) is None:
        return None, None
    commit = _git(here.parent, "rev-parse", "HEAD")
    changes = _git(here.parent, "status", "--porcelain")
    return commit, None if changes is None else bool(changes)


def _git(folder: Path, *arguments: str) -> str | None:
    # GIT_DIR and similar variables, set inside a hook, would show another repository; optional locks would write to it
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    environment["GIT_OPTIONAL_LOCKS"] = "0"
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
