"""The command carried out: everything wrong is said before anything is written."""

import sys
from functools import partial
from pathlib import Path

from distill.cli.grammar import CommandLine, UsageError
from distill.cli.importing.beside import has_run, read_beside
from distill.cli.importing.foreign import bring_in
from distill.cli.importing.imported import prepare
from distill.cli.importing.parts import GROUPS, Parts, compose_parts, places
from distill.cli.importing.restore import restore
from distill.config.build import usable_device
from distill.imports.checkpoint import Checkpoint, read_checkpoint
from distill.imports.files import UnreadableError, is_safetensors

say = partial(print, flush=True)


def warn(sentence: str) -> None:
    """One line beside the output."""
    print(sentence, file=sys.stderr, flush=True)


def carry_out(line: CommandLine, path: Path) -> None:
    """Import `path` as the command says.

    Raises:
        UsageError: everything wrong with the command, the file or the data; nothing has been written.
        Busy, StorageError: the run's folder cannot be written to.
    """
    parts = compose_parts(line, line.faults)
    try:
        device = usable_device(line.pairs.get("engine.device", "auto"), key="engine.device")
    except ValueError as error:
        line.faults.append(str(error))
    if is_safetensors(path) and has_run(path):
        line.check()
        record = read_beside(path, parts)
        own = line.pairs.get("student._target_")
        restore(path, record, line.runs_dir, places=places(line), device=device, own=own, say=say)
        return
    checkpoint = _checkpoint(path, line, parts)
    made = prepare(checkpoint, parts, asked=bool(places(line)), device=device)
    bring_in(made, line.runs_dir, say=say, warn=warn)


def _checkpoint(path: Path, line: CommandLine, parts: Parts) -> Checkpoint:
    """The checkpoint, if nothing at all is wrong. Raises UsageError."""
    examples = {"student": "resnet56, say; `distill models` lists them", "dataset": "cifar100, say"}
    line.faults += [
        f"import needs {group}=NAME: {examples[group]}"
        for group in GROUPS
        if group not in line.pairs and not any(f"{group}=" in fault for fault in line.faults)
    ]
    try:
        checkpoint = read_checkpoint(path)
    except UnreadableError as error:
        raise UsageError([*line.faults, str(error)]) from error
    line.check()
    assert set(parts.nodes) == set(GROUPS)
    return checkpoint
