"""What the verbs accept: `key=value` words and `--options`, declared once, read here and shown by `--help`.

A verb's file declares a `Verb`; `parse` reads a command line by it and `help_text` prints it. `train` and `fill` hand
the words that are keys of a run's configuration on to Hydra.
"""

import difflib
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from distill.config.faults import Fault, Refused, nearest

if TYPE_CHECKING:
    from distill.execution.jobs import Outcome

FINISHED = 0
FAILED = 1
REFUSED = 2
BUSY = 3

FORMATS = ("terminal", "markdown", "latex", "csv", "json", "html")
SUFFIXES = ("", ".txt", ".md", ".tex", ".csv", ".json", ".html")  # of `--out FILE`
BINARY = (".xlsx", ".xls", ".ods", ".parquet", ".feather", ".pdf", ".pkl", ".npz")  # no text under these names
OWN = "student._target_"  # a class of one's own, in place of a preset
ANY = ("*",)  # for `Verb.dotted`
_COLUMN = 34  # where the explanations of a help text begin


@dataclass(frozen=True)
class Argument:
    """A key (`run`) or an option (`--out`); an option without `metavar` and `choices` takes no value.

    `help` explains it in the help text; without one, a line of plain text in the help names the argument.
    """

    name: str
    metavar: str = ""
    help: str = ""
    choices: tuple[str, ...] = ()

    @property
    def is_option(self) -> bool:
        """True for `--out`, False for `run`."""
        return self.name.startswith("-")

    @property
    def value(self) -> str:
        """What stands for the value in messages; empty where there is none."""
        return "|".join(self.choices) or self.metavar

    def expanded(self, value: str) -> str:
        """The value, with `~` as the home folder where it is a path."""
        is_path = re.search(r"\b(FILE|DIR|PATH)\b", self.metavar)
        return ",".join(map(os.path.expanduser, value.split(","))) if is_path else value


@dataclass(frozen=True)
class Verb:
    """A verb as it is typed and explained.

    `sections` are the parts of its help: a heading, then arguments and lines of plain text; `appendix` adds text that
    depends on the user's own presets. Keys that contain a dot are accepted when `dotted` lists the part before the dot
    (`+` and `++` before the key are then dropped) or is `ANY`. Words that are neither options nor known keys are
    mistakes, unless there is a `positional` key that takes them, or `hydra` is true: then Hydra reads them all.
    """

    name: str
    usage: tuple[str, ...]
    about: str
    sections: tuple[tuple[str, tuple[Argument | str, ...]], ...]
    examples: tuple[str, ...]
    exit_codes: str
    dotted: tuple[str, ...] = ()
    positional: str = ""
    hydra: bool = False
    appendix: Callable[[Path | None], str] | None = None

    @property
    def arguments(self) -> dict[str, Argument]:
        """Every declared argument by its name."""
        return {item.name: item for _, items in self.sections for item in items if isinstance(item, Argument)}

    @property
    def keys(self) -> list[str]:
        """The names of its `key=value` arguments."""
        return [name for name, argument in self.arguments.items() if not argument.is_option]

    @property
    def options(self) -> dict[str, Argument]:
        """Its `--option` arguments by name."""
        return {name: argument for name, argument in self.arguments.items() if argument.is_option}


RUNS_DIR = Argument("runs_dir", "DIR", "the folder of the runs (default: $DISTILL_RUNS, or runs)")
RUN = Argument("run", "ID|PATH", "a finished run: the start of its id, the name of its folder, or the folder's path")
NPZ = Argument("dataset.npz", "FILE", "the data, if they have moved since the run was trained: an .npz file")
ROOT = Argument("dataset.root", "DIR", "or a folder with the original files")
SHARDS = Argument("dataset.shards", "DIR", "or a folder with tar shards of photographs")
DOWNLOAD = Argument("dataset.download", help="download the data if they are missing", choices=("true", "false"))
DEVICE = Argument("engine.device", "auto|cpu|cuda", "auto, the default, takes CUDA if there is a GPU")
OWN_NETWORK = Argument(
    OWN,
    "package.Class",
    "your network class, if its code was not recorded or is an installed package",
)
PLACES = (NPZ, ROOT, SHARDS, DOWNLOAD)  # of the data of a run
NEW_PLACES = (Argument(NPZ.name, "FILE", "where the data are: an .npz file"), ROOT, SHARDS, DOWNLOAD)
CONFIG_DIR = Argument("--config-dir", "DIR", "a folder of your own presets, for example DIR/loss/NAME.yaml")
FORMAT = Argument(
    "--format",
    "FORMAT",
    "terminal, markdown, latex, csv, json or html (default: terminal, or plain in a pipe)",
    FORMATS,
)
OUT = Argument("--out", "FILE", "write to FILE; .md .tex .csv .json .html or .txt as its ending sets the format")
OUT_DIR = Argument("--out", "DIR")
FILTERS: tuple[Argument | str, ...] = (
    *map(Argument, ("dataset", "student", "teacher", "loss", "recipe", "seed", "precision")),
    "dataset=cifar100 student=resnet8 teacher=resnet20 loss=kd,zscore_kd recipe=cifar_short seed=1,2,3 precision=bf16",
    "recipe.epochs=10 loss.temperature=4,8   any key of a run's config.yaml; A,B matches either value",
)


@dataclass
class CommandLine:
    """What `parse` read. A verb adds the faults that it finds itself; `check` then refuses all of them together."""

    words: tuple[str, ...] = ()  # as typed
    overrides: list[str] = field(default_factory=list)  # those that Hydra reads
    pairs: dict[str, str] = field(default_factory=dict)
    options: dict[str, str] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    @property
    def out(self) -> Path | None:
        """The path of `--out`."""
        return Path(self.options["--out"]) if "--out" in self.options else None

    @property
    def config_dir(self) -> Path | None:
        """The folder of `--config-dir`; None where it is not a folder, which is a fault."""
        folder = Path(self.options.get(CONFIG_DIR.name, ""))
        return folder if CONFIG_DIR.name in self.options and folder.is_dir() else None

    @property
    def runs_dir(self) -> Path:
        """`runs_dir=DIR`, else `DISTILL_RUNS`, else `runs`."""
        return Path(self.pairs["runs_dir"]) if "runs_dir" in self.pairs else default_runs_dir()

    def fault(self, sentence: str, *, of: str = "") -> None:
        """Note a mistake, of the argument `of` where it is one argument's."""
        self.faults.append(Fault(of, "value", sentence))

    @property
    def faulty(self) -> set[str]:
        """The names of the arguments whose mistakes are noted."""
        return {fault.key for fault in self.faults}

    def require(self, key: str, sentence: str) -> None:
        """Note that a key is missing, unless a mistake in it has been noted."""
        if key not in self.pairs and key not in self.faulty:
            self.fault(sentence, of=key)

    def allow(self, keys: Sequence[str], *, known: Iterable[str], otherwise: str) -> None:
        """Note a mistake for every key not in `keys`: `KEY= {otherwise}` if it is `known`, else the nearest name."""
        for key in self.pairs:
            if key not in keys:
                unknown = f"unknown key {key!r}{nearest(key, keys)}"
                self.fault(f"{key}= {otherwise}" if key in known else unknown, of=key)

    def check(self) -> None:
        """Raise `Refused` with every fault collected so far, if there is one."""
        if self.faults:
            raise Refused(self.faults)


def default_runs_dir() -> Path:
    """The folder of runs when the command names none: `DISTILL_RUNS`, or `runs` in the current folder."""
    return Path(os.environ.get("DISTILL_RUNS") or "runs")


def parse(argv: Sequence[str], verb: Verb) -> CommandLine:
    """Read the words after a verb. Faults are collected in the result, not raised.

    A value follows its option after a space or `=`.
    """
    line = CommandLine(words=tuple(argv))
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if word.startswith("-"):
            option = verb.options.get(name)
            # a misspelt option probably has a value too: one mistake then gives one sentence
            if not equals and (option is None or option.value) and rest and _is_value(rest[0], verb):
                value = rest.pop(0)
            _read_option(line, verb, name, value, given=bool(equals))
        elif verb.hydra:
            line.overrides.append(word)
        elif verb.positional and _is_positional(word, verb):
            if verb.positional in line.pairs:
                line.fault(f"{word} is a second {verb.positional}: name one", of=verb.positional)
            else:
                line.pairs[verb.positional] = verb.arguments[verb.positional].expanded(word)
        elif equals:
            _read_pair(line, verb, word)
        else:
            close = difflib.get_close_matches(word, verb.keys, n=1)
            key = close[0] if close else verb.keys[0]
            line.fault(f"{word!r} is neither key=value nor an option: write {key}=VALUE", of=key)
    _check_paths(line, verb)
    return line


def _is_value(word: str, verb: Verb) -> bool:
    """Whether the word after an option is its value, and not an option or a known key of its own."""
    key, equals, _ = word.partition("=")
    return not word.startswith("--") and not (equals and _known(key, verb))


def _is_positional(word: str, verb: Verb) -> bool:
    """Whether a word is a path: one without `=`, or with one inside the path (`save/KD,T=4/student_best`)."""
    key, equals, _ = word.partition("=")
    return not equals or os.sep in key or (Path(word).is_file() and not _known(key, verb))


def _known(key: str, verb: Verb) -> bool:
    root, dot, _ = key.partition(".")
    dotted = bool(dot) and (verb.dotted == ANY or root in verb.dotted)
    return key in verb.keys or (dotted and re.fullmatch(r"\w+(\.\w+)+", key) is not None)


def _read_option(line: CommandLine, verb: Verb, name: str, value: str, *, given: bool) -> None:
    option = verb.options.get(name)
    if option is None:
        options = [*verb.options, "--help"]
        close = difflib.get_close_matches(name, options, n=1)
        return line.fault(f"unknown option {name}{nearest(name, options)}", of=close[0] if close else "")
    if not option.value and given:
        line.fault(f"{name} takes no value, got {value!r}: write {name} alone", of=name)
    if option.value and not value:
        return line.fault(f"{name} needs a value: write {name} {option.value}", of=name)
    if option.choices and value not in option.choices:
        line.fault(f"{name} cannot be {value!r}{nearest(value, option.choices)}", of=name)
    if name in line.options:
        line.fault(f"{name} is given twice: keep one", of=name)
    line.options[name] = option.expanded(value)
    return None


def _read_pair(line: CommandLine, verb: Verb, word: str) -> None:
    key, _, value = word.partition("=")
    plain = re.sub(r"^\+{1,2}", "", key)
    if plain.partition(".")[0] in verb.dotted and "." in plain:
        key = plain  # Hydra's sign for a key that is new
    if not _known(key, verb):
        known = verb.keys if verb.dotted == ANY else list({*verb.keys, *verb.dotted})
        close = difflib.get_close_matches(plain, known, n=1)
        return line.fault(f"unknown key {key!r} in {word!r}{nearest(plain, known)}", of=close[0] if close else "")
    if not value:
        return line.fault(f"{key}= needs a value: write {key}=VALUE or leave it out", of=key)
    if key in line.pairs:
        line.fault(f"{key} is given twice: keep one, or write {key}=A,B for any of several", of=key)
    choices = verb.arguments[key].choices if key in verb.arguments else ()
    if choices and value not in choices:
        line.fault(f"{key} cannot be {value!r}{nearest(value, choices)}", of=key)
    line.pairs[key] = verb.arguments[key].expanded(value) if key in verb.arguments else value
    return None


def _check_paths(line: CommandLine, verb: Verb) -> None:
    if CONFIG_DIR.name in line.options and line.config_dir is None:
        folder = line.options[CONFIG_DIR.name]
        line.fault(f"--config-dir {folder!r} is not a folder: name the one with your presets", of=CONFIG_DIR.name)
    if line.runs_dir.exists() and not line.runs_dir.is_dir():
        line.fault(f"runs_dir must be a folder, {line.runs_dir} is a file: set runs_dir=DIR", of="runs_dir")
    places = [place.name for place in (NPZ, ROOT, SHARDS) if place.name in line.pairs]
    if len(places) > 1:
        line.fault(f"{places[0]} and {places[1]} name two places: keep one", of=places[0])
    out = line.out if verb.options.get("--out") == OUT else None
    form = line.options.get(FORMAT.name)
    if out is not None and out.suffix.lower() not in SUFFIXES and (not form or out.suffix.lower() in BINARY):
        line.fault(f"--out {out} cannot be written as {out.suffix}: end it in {', '.join(SUFFIXES[1:])}", of="--out")
    if out is not None and out.is_dir():
        line.fault(f"--out must be a file, {out} is a folder: write --out {out / 'FILE'}", of="--out")
    elif out is not None and out.exists() and not out.is_file():
        line.fault(
            f"--out {out} is no regular file, and would be replaced by one: leave --out away to print", of="--out"
        )
    elif out is not None and not out.parent.is_dir():
        line.fault(f"--out {out} cannot be written, its folder does not exist: create {out.parent} first", of="--out")


def exit_code(outcomes: "Iterable[Outcome]") -> int:
    """The exit code for these outcomes: FAILED if a run failed, else BUSY if another process is training one."""
    statuses = {outcome.status for outcome in outcomes}
    return FAILED if "failed" in statuses else BUSY if "busy" in statuses else FINISHED


def help_text(verb: Verb, config_dir: Path | None) -> str:
    """The help of a verb: usage, what it does, its arguments by section, examples, exit codes."""
    lines = [f"distill {verb.name} {usage}".rstrip() for usage in verb.usage]
    lines += ["", *verb.about.strip().splitlines()]
    for heading, items in verb.sections:
        lines += ["", heading, *(line for item in items for line in _help_lines(item))]
    lines += ["", "Examples", *(f"  {example}" for example in verb.examples), "", f"Exit codes: {verb.exit_codes}"]
    return "\n".join(lines) + "\n" + (verb.appendix(config_dir) if verb.appendix else "")


def _help_lines(item: Argument | str) -> list[str]:
    if isinstance(item, str):
        return [f"  {line}" for line in item.splitlines()]
    if not item.help:
        return []
    between = " " if item.is_option else "="
    value = item.metavar or item.value
    label = f"  {item.name}{between}{value}" if value else f"  {item.name}"
    first, *more = item.help.split("\n")
    head = [label.ljust(_COLUMN) + first] if len(label) < _COLUMN - 1 else [f"{label}  {first}"]
    return head + [" " * _COLUMN + line for line in more]
