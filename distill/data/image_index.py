"""The index of a folder of photographs or of tar shards: what each file holds, read once and remembered.

Every byte is read once: the digest of an image's bytes identifies it, wherever it lies, and its width and height decide
its crops. What was read is appended, line by line, to a file beside the data, or in the user's cache folder where the
data's folder is read-only; a process that is killed loses the last second's work. Later starts compare the name, size
and time of each file and read only what changed, and files with damaged images, which may have been restored.

Shards are tar files without compression. One that states labels has WebDataset's layout: the members of one sample
stand under one key, `KEY.jpg` and `KEY.cls` (the number of its class), and the key is the name up to the first dot of
its last part. In other shards every image is a sample, as in a folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import tarfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from distill.data.image_decode import Undecodable, decode, dimensions, is_complete

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp")
SPLITS = {"train": ("train", "training"), "evaluation": ("val", "valid", "validation", "test")}
INDEX = ".distill-index-2.jsonl"  # the number is raised when a line's meaning changes
FLUSH_SECONDS = 1.0
QUIET_SECONDS = 5.0  # an index that is done sooner is not worth a line


class IndexedImage(NamedTuple):
    """One image: where its bytes lie, its label where the file states one, its size in pixels, and its digest.

    `member` is its name inside a shard and None for a file of its own; `fault` is why it cannot be decoded, or "".
    """

    member: str | None
    offset: int
    length: int
    label: int | None
    height: int
    width: int
    digest: str
    fault: str


class IndexedFile(NamedTuple):
    """A file as it was when it was read: its size, its time of change, and the images in it."""

    size: int
    mtime: int
    images: tuple[IndexedImage, ...]


class ImageIndex:
    """The remembered content of the files below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.path = _index_path(root)
        self._entries = self._load()

    def of(self, names: Sequence[str], *, workers: int) -> dict[str, IndexedFile]:
        """The entries of files, named by their paths below `root`; new, changed and damaged ones are read first.

        Raises ValueError: a file cannot be read, or a shard is damaged.
        """
        found: dict[str, IndexedFile] = {}
        missing: dict[str, os.stat_result] = {}
        for name in names:
            state = _state(self.root / name)
            entry = self._entries.get(name)
            same = entry is not None and (entry.size, entry.mtime) == (state.st_size, state.st_mtime_ns)
            if entry is not None and same and not _damaged(entry):  # a copy may restore an image with its old time
                found[name] = entry
            else:
                missing[name] = state
        if missing:
            progress = _Progress(self.root, len(missing), sum(state.st_size for state in missing.values()))
            for name, entry in self._read(missing, workers=workers):
                found[name] = self._entries[name] = entry
                progress.add(entry.size)
            progress.end()
        return found

    def mark_damaged(self, name: str, member: str | None, fault: str) -> None:
        """Remember that an image turned out to be damaged when it was decoded."""
        entry = self._entries.get(name)
        if entry is None:  # the index could not be written
            return
        images = (each._replace(fault=fault) if each.member == member else each for each in entry.images)
        self._entries[name] = marked = entry._replace(images=tuple(images))
        self._append([_line(name, marked)])

    def _read(self, states: Mapping[str, os.stat_result], *, workers: int) -> Iterator[tuple[str, IndexedFile]]:
        """Read files in their order, several at a time, and remember them as they are done."""
        lines: list[str] = []
        flushed = time.monotonic()
        names = iter(states)
        with ThreadPoolExecutor(workers, thread_name_prefix="distill-index") as pool:
            waiting = [(name, pool.submit(self._entry, name, states[name])) for name in islice(names, 4 * workers)]
            try:
                while waiting:
                    name, future = waiting.pop(0)
                    entry = future.result()
                    waiting += [(name, pool.submit(self._entry, name, states[name])) for name in islice(names, 1)]
                    if entry != self._entries.get(name):
                        lines.append(_line(name, entry))
                    if time.monotonic() - flushed >= FLUSH_SECONDS:
                        self._append(lines)
                        lines, flushed = [], time.monotonic()
                    yield name, entry
            finally:
                for _, future in waiting:
                    future.cancel()
                self._append(lines)

    def _entry(self, name: str, state: os.stat_result) -> IndexedFile:
        path = self.root / name
        doubtful = _damaged(self._entries[name]) if name in self._entries else frozenset()
        try:
            if path.suffix == ".tar":
                images: Iterable[IndexedImage] = _shard(path, doubtful)
            else:
                images = [_indexed(path.read_bytes(), doubtful=bool(doubtful))]
        except OSError as error:
            raise ValueError(f"{path} cannot be read ({error.strerror or error}): restore it or remove it") from error
        except tarfile.TarError as error:
            raise ValueError(f"{path} is no intact tar file ({error}): write it again") from error
        return IndexedFile(state.st_size, state.st_mtime_ns, tuple(images))

    def _append(self, lines: Sequence[str]) -> None:
        """Add lines to the file; without room or permission the index is read again next time."""
        with suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "ab") as file:
                file.write("".join(lines).encode())

    def _load(self) -> dict[str, IndexedFile]:
        try:
            data = self.path.read_bytes()
        except OSError:
            return {}
        lines = data[: data.rfind(b"\n") + 1].splitlines()  # a process that was killed may leave half a line
        if len(data) != data.rfind(b"\n") + 1:
            with suppress(OSError):
                os.truncate(self.path, data.rfind(b"\n") + 1)
        entries: dict[str, IndexedFile] = {}
        for line in lines:
            with suppress(ValueError, TypeError, KeyError):  # a damaged line is read again
                name, size, mtime, images = json.loads(line)
                entries[name] = IndexedFile(size, mtime, tuple(IndexedImage(*each) for each in images))
        return entries


def _damaged(entry: IndexedFile) -> frozenset[str | None]:
    """The members that cannot be decoded."""
    return frozenset(each.member for each in entry.images if each.fault)


def _line(name: str, entry: IndexedFile) -> str:
    return json.dumps([name, *entry], separators=(",", ":")) + "\n"


def _index_path(root: Path) -> Path:
    """Beside the data; in the cache folder of the user where the data's folder is read-only."""
    beside = root / INDEX
    # The mode counts too: the superuser may write anywhere, and a folder marked read-only is meant to stay as it is.
    if beside.exists() or (os.access(root, os.W_OK) and root.stat().st_mode & 0o222):
        return beside
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    key = hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]
    return cache / "distill" / f"{key}{INDEX}"


def _state(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}): restore it or remove it") from error


def _indexed(
    data: bytes, *, member: str | None = None, offset: int = 0, label: int | None = None, doubtful: bool = False
) -> IndexedImage:
    """An image from its encoded bytes. One that is doubtful, or does not end as a JPEG does, is decoded to see whether
    it is intact."""
    height = width = 0
    fault = ""
    try:
        height, width = dimensions(data)
        if doubtful or not is_complete(data):
            decode(data)
    except Undecodable as error:
        fault = str(error)
    return IndexedImage(member, offset, len(data), label, height, width, hashlib.sha256(data).hexdigest(), fault)


def _shard(path: Path, doubtful: frozenset[str | None]) -> Iterator[IndexedImage]:
    """The images of a tar file; ValueError where a label is no number. Members in `doubtful` are decoded."""
    images: dict[str, tuple[str, int, int]] = {}  # by name: the key, and where the bytes lie
    labels: dict[str, int] = {}  # by key
    with tarfile.open(path, "r:") as shard:
        for member in shard:
            if not member.isfile():
                continue
            name = member.name.removeprefix("./")  # as `tar -C DIR .` writes them
            if is_hidden(name):
                continue
            folder, _, base = name.rpartition("/")
            stem, _, extension = base.partition(".")
            key = f"{folder}/{stem}"
            if extension == "cls":
                text = shard.extractfile(member)
                content = b"" if text is None else text.read()
                if not re.fullmatch(rb"\s*\d+\s*", content):
                    raise ValueError(f"{path}: {member.name} must hold the number of a class, got {content[:20]!r}")
                labels[key] = int(content)
            elif is_image(base):
                images[name] = (key, member.offset_data, member.size)
    if labels:  # of a sample's images the last one counts
        last = {key: name for name, (key, _, _) in images.items()}
        images = {name: images[name] for name in last.values()}
    with open(path, "rb") as file:
        for name, (key, offset, length) in images.items():
            file.seek(offset)
            data = file.read(length)
            yield _indexed(data, member=name, offset=offset, label=labels.get(key), doubtful=name in doubtful)


def is_hidden(path: str) -> bool:
    """Whether a file, or a folder in which it lies, has a name that starts with a dot."""
    return any(part.startswith(".") and part not in (".", "..") for part in path.split("/"))


def is_image(name: str) -> bool:
    """Whether a file's name is that of a photograph; hidden files are not."""
    return name.lower().endswith(EXTENSIONS) and not is_hidden(name)


def folder_files(root: Path, split: str) -> Iterator[str]:
    """The images of `root/split/CLASS/`, at any depth, by their paths below `root`; hidden folders are left out."""
    for folder, below_it, files in os.walk(root / split, followlinks=True):
        below_it[:] = [name for name in below_it if not is_hidden(name)]
        below = os.path.relpath(folder, root).replace(os.sep, "/")
        if below != split:
            yield from (f"{below}/{name}" for name in files if is_image(name))


def shard_files(root: Path, split: str) -> list[str]:
    """The tar files of a split, `train` or `evaluation`: its name is a word of the file's or its folder's name.

    Of its names the first that occurs counts: test shards beside validation shards are left out, like such folders.
    """
    paths = [path.relative_to(root).as_posix() for path in [*root.glob("*.tar"), *root.glob("*/*.tar")]]
    names = sorted(path for path in paths if not is_hidden(path))
    for word in SPLITS[split]:
        pattern = re.compile(rf"(^|[^a-z]){word}([^a-z]|$)")
        if found := [name for name in names if pattern.search(name.lower())]:
            return found
    return []


class _Progress:
    """A bar on a terminal, a line every half minute elsewhere, nothing where it takes a moment."""

    def __init__(self, root: Path, files: int, size: int) -> None:
        self._root, self._files, self._size = root, files, max(size, 1)
        self._done = self._read = 0
        self._begun = self._shown = time.monotonic()
        self._live, self._spoke = sys.stderr.isatty(), False

    def add(self, size: int) -> None:
        """Note that a file of `size` bytes was read."""
        self._done, self._read = self._done + 1, self._read + size
        now = time.monotonic()
        wait = 0.2 if self._live else 30.0 if self._spoke else QUIET_SECONDS
        if now - self._shown >= wait:
            self._shown, self._spoke = now, True
            share, pace = self._read / self._size, self._read / (now - self._begun)
            left = round((self._size - self._read) / max(pace, 1))
            bar = "#" * round(20 * share)
            text = (
                f"reading {self._root} once: [{bar:<20}] {self._done:,} of {self._files:,} files, "
                f"{pace / 1e6:,.0f} MB/s, {left // 60} min {left % 60:02d} s left"
            )
            print(
                f"\r\x1b[2K{text}" if self._live else text, end="" if self._live else "\n", file=sys.stderr, flush=True
            )

    def end(self) -> None:
        """Clear the bar, and leave one line where anything was shown."""
        if self._spoke:
            seconds = max(time.monotonic() - self._begun, 1e-9)
            text = f"read {self._done:,} files of {self._root}, {self._read / 1e6 / seconds:,.0f} MB/s"
            print(f"\r\x1b[2K{text}" if self._live else text, file=sys.stderr, flush=True)
