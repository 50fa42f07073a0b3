"""A folder of runs brought into the store: every run checked by itself, none overwritten."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path

from distill.cli.grammar import BUSY, FAILED, FINISHED, CommandLine, UsageError
from distill.cli.importing.folder import locked
from distill.cli.importing.restore import target_of
from distill.cli.importing.soundness import same_run, unsound
from distill.runs import files, layout
from distill.runs.config_file import read_config, write_config
from distill.runs.files import StorageError
from distill.runs.layout import CONFIG, LAST, METRICS, PREVIOUS, PROVENANCE, RESULT, STUDENT, TIMING
from distill.runs.lock import Busy
from distill.runs.store import RunRecord, damage, read_run, weightless

Say = Callable[[str], None]

IMPORTED, COMPLETED, THERE = "imported", "given their weights", "there already"
DAMAGED, DIFFERENT, UNWRITTEN = "damaged", "not alike", "not to be written"
LEFT_OUT, HELD = "not finished", "busy elsewhere"
CODES = {DAMAGED: FAILED, DIFFERENT: FAILED, UNWRITTEN: FAILED, HELD: BUSY}


class _Kept(Exception):
    """A run that is not brought in: the kind of its reason, and the reason."""

    def __init__(self, kind: str, sentence: str) -> None:
        self.kind = kind
        super().__init__(sentence)


def bring_in_folder(line: CommandLine, folder: Path, *, say: Say, warn: Say) -> int:
    """Import every finished run in `folder`; returns the exit code.

    Raises:
        UsageError: the folder holds no run, or the command says more than where from and where to.
    """
    others = [key for key in line.pairs if key not in ("file", "runs_dir")]
    line.faults += [f"{key}= is for a file of weights; {folder} is a folder of runs: leave it out" for key in others]
    line.faults += [f"{option} is for a file of weights: leave it out" for option in line.options]
    found = list(runs_below(folder)) if not line.faults else []
    if not (found or line.faults):
        line.faults.append(f"{folder} holds no runs: a run's folder holds {CONFIG}")
    line.check()
    counts: Counter[str] = Counter()
    for path in found:
        try:
            kind, sentence = _bring(path, line.runs_dir)
            say(sentence)
        except _Kept as kept:
            kind = kept.kind
            (say if kind == LEFT_OUT else warn)(str(kept))
        counts[kind] += 1
    told = [f"{count} {kind}" for kind in (IMPORTED, COMPLETED, THERE, *CODES, LEFT_OUT) if (count := counts[kind])]
    say(f"{len(found)} runs in {folder}: {', '.join(told)}")
    return max((CODES[kind] for kind in counts if kind in CODES), key=(BUSY, FAILED).index, default=FINISHED)


def runs_below(folder: Path) -> Iterator[Path]:
    """The folders of runs in `folder`, itself included, by name; hidden folders and links are passed over."""
    if any((folder / name).is_file() for name in (CONFIG, RESULT, layout.FAILED)):
        yield folder
        return
    with files.storage_errors(folder, action="read"):
        inner = sorted(entry.path for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False))
    for path in map(Path, inner):
        if not path.name.startswith("."):
            yield from runs_below(path)


def _bring(path: Path, runs_dir: Path) -> tuple[str, str]:
    """What came of one run, and the line about it. Raises _Kept."""
    record = read_run(path)
    if record is None:
        raise _Kept(DAMAGED, f"{path} has vanished")
    if record.status in ("failed", "unfinished", "running"):
        raise _Kept(LEFT_OUT, f"left out: {path} is {record.status}")
    if sentence := unsound(record):
        raise _Kept(DAMAGED, sentence)
    try:
        target = target_of(record, runs_dir)
        if _is_there(record, target):
            return THERE, f"{target} is there already"
        config, contents = read_config(record.path), _contents(record)
    except (UsageError, StorageError) as error:
        raise _Kept(DAMAGED, str(error)) from error
    try:
        with locked(target):
            completes = (target / RESULT).is_file()
            _write(target, config, contents, completes=completes)
    except Busy as error:
        raise _Kept(HELD, str(error)) from error
    except StorageError as error:
        raise _Kept(UNWRITTEN, str(error)) from error
    if completes:
        return COMPLETED, f"{target}: its weights are here now"
    return IMPORTED, f"{target}: imported{', a record without weights' if weightless(target) else ''}"


def _is_there(record: RunRecord, target: Path) -> bool:
    """Whether the store has the run with all that `record` has. Raises _Kept where something else is in its place."""
    there = read_run(target)
    if there is not None and there.status == "running":
        raise _Kept(HELD, f"{target} is being trained: wait for it, or stop it first")
    if there is not None and (sentence := damage(there)):
        raise _Kept(DAMAGED, f"{sentence}; delete its folder and import it again")
    if there is None or there.result is None:
        if any((target / name).exists() for name in (LAST, PREVIOUS, layout.FAILED)):
            raise _Kept(DIFFERENT, f"{target} has been trained in part: finish it, or delete it and import it again")
        return False
    if not same_run(record, there):
        raise _Kept(
            DIFFERENT,
            f"{target} is finished with another result than {record.path}: two trainings of one configuration; "
            "import it into another runs_dir",
        )
    return bool(weightless(record.path)) or not weightless(target)


def _contents(record: RunRecord) -> dict[str, bytes]:
    """The files that are brought in, as they were checked. Raises StorageError, or _Kept where one has changed."""
    contents: dict[str, bytes] = {}
    for name in (METRICS, TIMING, PROVENANCE, RESULT):
        if (record.path / name).is_file():
            with files.storage_errors(record.path / name, action="read"):
                contents[name] = (record.path / name).read_bytes()
    if (record.path / STUDENT).is_file():
        contents[STUDENT] = _weights(record)
    return contents


def _write(target: Path, config: Mapping[str, object], contents: Mapping[str, bytes], *, completes: bool) -> None:
    """The weights alone where they complete a run; else all, the result last: what is killed before can be typed again.

    Raises StorageError.
    """
    first = [name for name in contents if name == STUDENT or not (completes or name == RESULT)]
    for name in first:
        files.write_bytes(target / name, contents[name])
    if not completes:
        write_config(target, config)
        files.write_bytes(target / RESULT, contents[RESULT])


def _weights(record: RunRecord) -> bytes:
    """The bytes that were checked: whoever changes the file meanwhile is noticed."""
    path = record.path / STUDENT
    with files.storage_errors(path, action="read"):
        data = path.read_bytes()
    if sha256(data).hexdigest() != (record.result or {})["weights_sha256"]:
        raise _Kept(DAMAGED, f"{path} is not the file its run recorded")
    return data
