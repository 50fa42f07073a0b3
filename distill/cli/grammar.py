"""The one grammar of every verb: `key=value` says what it works on, `--word` says how it behaves.

`train` hands its `key=value` words to Hydra; the other verbs read them here. All share the exit codes.
"""

import difflib
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from distill.runs.files import StorageError
from distill.runs.store import scan
from distill.tables import rendering
from distill.tables.filters import Selection, read_filters, unknown
from distill.tables.rendering import Content

if TYPE_CHECKING:
    from distill.execution.jobs import Outcome

FINISHED = 0
FAILED = 1
REFUSED = 2
BUSY = 3


def exit_code(outcomes: "Iterable[Outcome]") -> int:
    """The exit code of a command whose runs ended so: a failure counts before a run that is busy elsewhere."""
    statuses = {outcome.status for outcome in outcomes}
    return FAILED if "failed" in statuses else BUSY if "busy" in statuses else FINISHED


FORMATS = ("terminal", "markdown", "latex", "csv", "json", "html")


class UsageError(ValueError):
    """A command that is refused before any work; `faults` holds one sentence for each thing wrong with it."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = tuple(faults)


@dataclass(frozen=True)
class Option:
    """A `--word`: it takes a value when `metavar` is set, one of `choices` when these are given."""

    word: str
    metavar: str | None = None
    choices: tuple[str, ...] = ()


FORMAT = Option("--format", metavar="|".join(FORMATS), choices=FORMATS)
BASELINE = Option("--baseline", metavar="PRESET")
OUT = Option("--out", metavar="FILE")
CONFIG_DIR = Option("--config-dir", metavar="DIR")


@dataclass
class CommandLine:
    """What `parse` read. Add further `faults` found later, then `check()` refuses all of them at once."""

    pairs: dict[str, str] = field(default_factory=dict)
    options: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    @property
    def out(self) -> Path | None:
        """The file of `--out`."""
        return Path(self.options["--out"]) if "--out" in self.options else None

    @property
    def config_dir(self) -> Path | None:
        """The folder of `--config-dir`."""
        return Path(self.options["--config-dir"]) if "--config-dir" in self.options else None

    @property
    def form(self) -> str | None:
        """The format of `--format`."""
        return self.options.get("--format")

    @property
    def runs_dir(self) -> Path:
        """`runs_dir=DIR`, else `DISTILL_RUNS`, else `runs`."""
        return Path(self.pairs["runs_dir"]) if "runs_dir" in self.pairs else default_runs_dir()

    def check(self) -> None:
        """Raise `UsageError` with every fault collected so far, if there is one."""
        if self.faults:
            raise UsageError(self.faults)


def default_runs_dir() -> Path:
    """Where runs lie when the command does not say: `DISTILL_RUNS`, or `runs` in the current folder."""
    return Path(os.environ.get("DISTILL_RUNS") or "runs")


def wants_help(argv: Sequence[str]) -> bool:
    """True when the command asks for its help, whatever else it holds."""
    return any(word in ("--help", "-h") for word in argv)


def parse(
    argv: Sequence[str], *, keys: Sequence[str], options: Sequence[Option] = (), dotted: bool = False
) -> CommandLine:
    """Read a verb's command line.

    `keys` are the keys the verb knows; with `dotted`, keys that hold a dot pass too, for the verb to check.
    A value follows its option after a space or `=`. Faults are collected, not raised.
    """
    line = CommandLine()
    words = {option.word: option for option in options}

    def is_value(word: str) -> bool:  # what follows an option is its value unless it has a meaning of its own
        key, equals, _ = word.partition("=")
        return not word.startswith("--") and not (equals and _is_key(key, keys, dotted))

    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if word.startswith("-"):
            following = rest.pop(0) if _wants_value(word, words) and rest and is_value(rest[0]) else None
            _read_option(line, word, following, words)
        elif "=" in word:
            _read_pair(line, word, keys, dotted)
        else:
            line.faults.append(f"{word!r} is neither key=value nor an option: write {_as_pair(word, keys)}")
    line.faults += _wrong_paths(line, out=line.out if OUT in options else None)
    return line


def _wrong_paths(line: CommandLine, *, out: Path | None) -> list[str]:
    """What is wrong with the folders of runs and presets and with `out`, a file to write."""
    faults = []
    if line.config_dir is not None and not line.config_dir.is_dir():
        folder = line.options[CONFIG_DIR.word]
        faults.append(f"--config-dir {folder!r} is not a folder: name the one with your presets")
    if line.runs_dir.exists() and not line.runs_dir.is_dir():
        faults.append(f"runs_dir must be a folder, {line.runs_dir} is a file: set runs_dir=DIR")
    if out is not None and out.is_dir():
        faults.append(f"--out must be a file, {out} is a folder: write --out {out / 'FILE'}")
    elif out is not None and not out.parent.is_dir():
        faults.append(f"--out {out} has no folder to lie in: make {out.parent} first")
    return faults


def _wants_value(word: str, words: Mapping[str, Option]) -> bool:
    # a misspelt option most likely has one: one mistake deserves one sentence
    return "=" not in word and (word not in words or words[word].metavar is not None)


def _read_option(line: CommandLine, word: str, following: str | None, words: Mapping[str, Option]) -> None:
    name, equals, value = word.partition("=")
    value = value if equals else following or ""
    option = words.get(name)
    if option is None:
        line.faults.append(f"unknown option {name}: {nearest(name, [*words, '--help'])}")
        return
    if option.metavar is None and equals:
        line.faults.append(f"{name} takes no value, got {value!r}: write {name} alone")
    if option.metavar is not None and not value:
        line.faults.append(f"{name} needs a value: write {name} {option.metavar}")
        return
    if option.choices and value not in option.choices:
        line.faults.append(f"{name} cannot be {value!r}: {nearest(value, option.choices)}")
    if name in line.options:
        line.faults.append(f"{name} is given twice: keep one")
    line.options[name] = value


def _read_pair(line: CommandLine, word: str, keys: Sequence[str], dotted: bool) -> None:
    key, _, value = word.partition("=")
    if not _is_key(key, keys, dotted):
        line.faults.append(f"unknown key {key!r} in {word!r}: {nearest(key, keys)}")
        return
    if not value:
        line.faults.append(f"{key}= needs a value: write {key}=VALUE or leave it out")
        return
    if key in line.pairs:
        line.faults.append(f"{key} is given twice: keep one, or write {key}=A,B for any of several")
    line.pairs[key] = value


def _is_key(key: str, keys: Sequence[str], dotted: bool) -> bool:
    return key in keys or (dotted and re.fullmatch(r"\w+(\.\w+)+", key) is not None)


def _as_pair(word: str, keys: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, keys, n=1)
    return f"{close[0] if close else keys[0]}=VALUE"


def nearest(wrong: str, right: Iterable[str]) -> str:
    """The end of a refusal: the nearest of the right names, or all of them where none is near."""
    names = list(dict.fromkeys(right))
    close = difflib.get_close_matches(wrong.lstrip("+~"), names, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]}?"
    return f"choose from {', '.join(names)}" if names else "there is none to choose from"


def deliver(content: Content, line: CommandLine) -> None:
    """Show, or write to `--out`, in the format asked for. Raises `UsageError` when that file cannot be."""
    try:
        rendering.deliver(content, form=line.form, out=line.out, stream=sys.stdout, aside=sys.stderr)
    except StorageError as error:
        cause = error.__cause__
        reason = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(error)
        sentence = f"could not write {line.out}: {reason.lower()}; choose another --out FILE"
        raise UsageError([sentence]) from error


def select(line: CommandLine) -> Selection:
    """The runs of `runs_dir` that pass the command's filters.

    Raises `UsageError` with every fault found so far, and one for each filter whose key no run has.
    """
    try:
        records = scan(line.runs_dir) if line.runs_dir.is_dir() else []
    except StorageError as error:
        raise UsageError([*line.faults, str(error)]) from error
    asked = read_filters(line.pairs)
    for each, keys in unknown(asked, records):
        line.faults.append(f"no run has the key {each.key!r} of '{each}': {nearest(each.key, keys)}")
    line.check()
    return Selection(line.runs_dir, tuple(records), tuple(asked))


def run_verb(argv: Sequence[str], work: Callable[[Sequence[str]], int], *, help_text: str) -> int:
    """Print a verb's help or do its `work`; returns the exit code. What is wrong with the line or the store is told."""
    if wants_help(argv):
        print(help_text, end="")
        return FINISHED
    try:
        return work(argv)
    except UsageError as error:
        return refuse(error)
    except StorageError as error:
        print(error, file=sys.stderr)
        return FAILED


def refuse(error: UsageError) -> int:
    """Print every fault on stderr, one a line, and return the exit code of a refused command."""
    for fault in error.faults:
        print(fault, file=sys.stderr)
    return REFUSED
