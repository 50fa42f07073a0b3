"""How much memory is left on a device: the GPU's own, or what the system and its control groups leave a process."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import torch

PROC, GROUPS = Path("/proc"), Path("/sys/fs/cgroup")


def free_bytes(device: torch.device) -> int | None:
    """Bytes that this process may still take there; None where nothing says.

    On a GPU what torch has reserved and does not use counts as free. On a CPU it is the least of the system's
    estimate (`MemAvailable`) and the room below each memory limit of the control groups around this process.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    return host_bytes() if device.type == "cpu" else None


def host_bytes(*, proc: Path = PROC, groups: Path = GROUPS) -> int | None:
    """The same for main memory; `proc` and `groups` are where the kernel tells."""
    return min([*_available(proc / "meminfo"), *_rooms(proc / "self" / "cgroup", groups)], default=None)


def _available(meminfo: Path) -> Iterator[int]:
    with suppress(OSError, ValueError, IndexError):
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                yield int(line.split()[1]) * 1024


def _rooms(membership: Path, groups: Path) -> Iterator[int]:
    """Bytes below each limit; version 2 has one tree of groups, version 1 one for memory alone."""
    with suppress(OSError, ValueError):
        for line in membership.read_text().splitlines():
            number, controllers, path = line.split(":", 2)
            if number == "0":
                yield from _above(groups, path, "memory.max", "memory.current", "inactive_file")
            elif "memory" in controllers.split(","):
                names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
                yield from _above(groups / "memory", path, *names)


def _above(root: Path, path: str, limit: str, usage: str, cached: str) -> Iterator[int]:
    """A limit of any group above holds too; inside a container a path may be the host's, and only the root is there."""
    own = root / path.lstrip("/")
    for group in dict.fromkeys((own, *(parent for parent in own.parents if parent.is_relative_to(root)), root)):
        with suppress(OSError, ValueError):  # no limit here, be it no file or the word `max`
            room = int((group / limit).read_text()) - int((group / usage).read_text())
            yield max(0, room + _reclaimable(group / "memory.stat", cached))


def _reclaimable(stat: Path, name: str) -> int:
    """Files that were read and may be forgotten: they count as used until somebody needs the room."""
    with suppress(OSError, ValueError, IndexError):
        for line in stat.read_text().splitlines():
            if line.startswith(f"{name} "):
                return int(line.split()[1])
    return 0
