"""Completion for bash: `eval "$(distill --completion bash)"`. The script asks `distill --complete LINE`.

One candidate a line, each a whole word: the script cuts off what bash, which also splits words at `=` and `:`,
counts as earlier words. Two answers are no candidates but ask bash to complete names of files or folders.
"""

import importlib
import re
import shlex
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from distill.cli import VERBS, published
from distill.cli.completion import configuration, runs
from distill.cli.grammar import FINISHED, REFUSED, Option, default_runs_dir, nearest

FILES, FOLDERS = ":files", ":folders"
SHELLS = ("bash",)
HELP = Option("--help")
PUBLISHED = ("table", "fill", "report")  # verbs that work on a published table
RUNS = ("run", "teacher.run", "against")
PLACES = {"dataset.npz": FILES, "dataset.root": FOLDERS, "runs_dir": FOLDERS}
PLACES |= {"--out": FILES, "--json": FILES}

SCRIPT = r"""# Completion of distill for bash. To have it in every shell, put this line into ~/.bashrc:
#   eval "$(distill --completion bash)"
_distill() {
    local line=${COMP_LINE:0:$COMP_POINT} current program=$1 word before candidate
    # what bash will replace: the part behind the last of its own word breaks
    if (( $# >= 2 )); then
        current=$2
    else
        current=${COMP_WORDS[COMP_CWORD]}
        [[ $current == [=:] ]] && current=""
    fi
    type -P -- "$program" >/dev/null || program=distill
    word=${line##*[[:space:]]}
    before=${word%"$current"}
    COMPREPLY=()
    while IFS= read -r candidate; do
        case $candidate in
            :files) compopt -o default 2>/dev/null ;;
            :folders) compopt -o dirnames -o nospace 2>/dev/null ;;
            *) COMPREPLY+=("${candidate#"$before"}") ;;
        esac
    done < <("$program" --complete "$line" 2>/dev/null)
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[=./] ]]; then
        compopt -o nospace 2>/dev/null
    fi
}
complete -F _distill distill
"""


def main(words: list[str]) -> int:
    """`--completion SHELL` prints the script, `--complete LINE` the candidates; return the exit code."""
    if words[0] == "--complete":
        for candidate in complete(words[1] if len(words) > 1 else ""):
            print(candidate)
        return FINISHED
    shell = words[1] if len(words) > 1 else ""
    if shell not in SHELLS:
        print(f"--completion needs a shell that it knows, got {shell!r}: {nearest(shell, SHELLS)}", file=sys.stderr)
        return REFUSED
    print(SCRIPT, end="")
    return FINISHED


def complete(line: str) -> list[str]:
    """What the last word of a command line, typed up to its end, may become."""
    head, last = _split(line)
    if not head:
        return []
    _program, *words = head
    if not words:
        return [word for word in (*VERBS, "--help", "--version", "--completion") if word.startswith(last)]
    verb, *words = words
    if verb == "--completion":
        return [shell for shell in SHELLS if shell.startswith(last)]
    if verb not in VERBS:
        return []
    known = {option.word: option for option in _options(verb)}
    before = known.get(words[-1]) if words else None
    if before is not None and before.metavar is not None:
        return _fitting("", last, _option_values(before, words))
    name, equals, typed = last.partition("=")
    if last.startswith("-") and equals:
        option = known.get(name)
        return _fitting(f"{name}=", typed, _option_values(option, words)) if option else []
    if last.startswith("-"):
        return [word for word in known if word.startswith(last)]
    if equals and name in RUNS and "/" in typed:
        return [FOLDERS]
    if equals:
        earlier, comma, typed = typed.rpartition(",")
        chosen = set(earlier.split(","))
        values = [value for value in _values(verb, name, words) if value not in chosen]
        return _fitting(f"{name}={earlier}{comma}", typed, values)
    return _fitting("", last, _keys(verb, words, last))


def _split(line: str) -> tuple[list[str], str]:
    """The finished words, and the one that is being typed (as it stands)."""
    last = re.split(r"\s", line)[-1]
    head = line[: len(line) - len(last)]
    try:
        return shlex.split(head), last
    except ValueError:  # an open quote
        return head.split(), last


def _fitting(before: str, typed: str, values: Sequence[str]) -> list[str]:
    if any(value in (FILES, FOLDERS) for value in values):
        return list(values)
    return [f"{before}{value}" for value in values if value.startswith(typed)]


def _options(verb: str) -> list[Option]:
    return [*importlib.import_module(f"distill.cli.{verb}").OPTIONS, HELP]


def _option_values(option: Option, words: Sequence[str]) -> Sequence[str]:
    if option.word == "--baseline":
        return runs.values(_runs_dir(words), "loss")
    if option.metavar == "DIR":
        return [FOLDERS]
    return [PLACES[option.word]] if option.word in PLACES else option.choices


def _keys(verb: str, words: Sequence[str], typed: str) -> list[str]:
    """Keys with what follows them: `=`, or `.` where they hold others."""
    if verb == "train":
        return configuration.keys(words, typed, config_dir=_config_dir(words))
    own = [f"{key}=" for key in _own_keys(verb, words)]
    if verb in ("models", "import"):
        inside = configuration.keys(words, typed, config_dir=_config_dir(words))
        known = [*own, *(key for key in inside if key.startswith(("dataset.", "student.")) and key not in own)]
        wants_file = verb == "import" and all("=" in word or word.startswith("-") for word in words)
        return [FILES] if wants_file and not (typed and any(key.startswith(typed) for key in known)) else known
    if verb == "fill":
        inside = configuration.keys(_for_every_run(words), typed, config_dir=_config_dir(words))
        return own + [key for key in inside if "." in key and key not in own]
    if verb in ("evaluate", "export", "losses", "report", "bench") and not _takes_filters(verb, words):
        return own
    return own + runs.keys(_runs_dir(words), typed)


def _for_every_run(words: Sequence[str]) -> list[str]:
    """Of the words of `fill` those that its runs are told."""
    own = importlib.import_module("distill.cli.fill").OWN
    return [word for word in words if word.partition("=")[0] not in own]


def _takes_filters(verb: str, words: Sequence[str]) -> bool:
    return verb == "export" and "--results" in words


def _own_keys(verb: str, words: Sequence[str]) -> Sequence[str]:
    module = importlib.import_module(f"distill.cli.{verb}")
    keys: Sequence[str] = module.FILTER_KEYS if _takes_filters(verb, words) else module.KEYS
    return keys


def _values(verb: str, key: str, words: Sequence[str]) -> Sequence[str]:
    if key in PLACES:
        return [PLACES[key]]
    if key in RUNS:
        return runs.ids(_runs_dir(words))
    if verb in ("evaluate", "report"):
        module = importlib.import_module(f"distill.cli.{verb}")
        choices: dict[str, Sequence[str]] = {**module.CHOICES, "engine.device": module.DEVICES}
        return choices.get(key, ())
    if verb == "bench" and key in importlib.import_module("distill.cli.bench").CHOICES:
        return list(importlib.import_module("distill.cli.bench").CHOICES[key])
    if verb == "export" and not _takes_filters(verb, words):
        return importlib.import_module("distill.cli.export").CHOICES.get(key, ())
    if verb in ("train", "models", "losses", "import", "bench"):
        return configuration.values(words, key, config_dir=_config_dir(words))
    if verb in PUBLISHED and key in published.KEYS:
        chosen = next((word.partition("=")[2] for word in words if word.startswith("table=")), None)
        return published.choices(key, chosen, config_dir=_config_dir(words))
    if verb == "fill":
        return configuration.values(_for_every_run(words), key, config_dir=_config_dir(words))
    return runs.values(_runs_dir(words), key)


def _runs_dir(words: Sequence[str]) -> Path:
    given = [word.partition("=")[2] for word in words if word.startswith("runs_dir=")]
    return Path(given[-1]).expanduser() if given else default_runs_dir()


def _config_dir(words: Sequence[str]) -> Path | None:
    for word, following in pairwise([*words, ""]):
        name, equals, value = word.partition("=")
        folder = Path(value if equals else following).expanduser()
        if name == "--config-dir" and folder.is_dir():
            return folder
    return None
