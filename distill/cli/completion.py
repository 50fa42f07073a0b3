"""Completion for bash: `eval "$(distill --completion bash)"`. The script calls `distill --complete LINE`.

Verbs, a verb's keys and options, presets and run ids complete; for anything else bash completes file names.
"""

import importlib
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from distill.cli import VERBS
from distill.cli.arguments import FINISHED, REFUSED, Verb, default_runs_dir
from distill.cli.train import GROUPS, preset_names
from distill.config.faults import nearest
from distill.runs.files import StorageError
from distill.runs.store import scan
from distill.tables.published import table_names

RUN_KEYS = ("run", "teacher.run", "against")

# bash splits words at `=` and `:` too and replaces only the last piece, so the script removes the pieces before it.
SCRIPT = r"""# Completion of distill for bash. To have it in every shell, put this line into ~/.bashrc:
#   eval "$(distill --completion bash)"
_distill() {
    local line=${COMP_LINE:0:$COMP_POINT} current program=$1 word before candidate
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
        COMPREPLY+=("${candidate#"$before"}")
    done < <("$program" --complete "$line" 2>/dev/null)
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[=/] ]]; then
        compopt -o nospace 2>/dev/null
    fi
}
complete -o default -F _distill distill
"""


def main(words: Sequence[str]) -> int:
    """`--completion bash` prints the script, `--complete LINE` the candidates; return the exit code."""
    argument = words[1] if len(words) > 1 else ""
    if words[0] == "--complete":
        print("".join(f"{candidate}\n" for candidate in complete(argument)), end="")
        return FINISHED
    if argument != "bash":
        print(f"--completion cannot be {argument!r}{nearest(argument, ['bash'])}", file=sys.stderr)
        return REFUSED
    print(SCRIPT, end="")
    return FINISHED


def complete(line: str) -> list[str]:
    """The whole words that the last word of a command line, typed up to its end, may become."""
    _program, *words = re.split(r"\s+", line.lstrip())
    if not words:
        return []
    *earlier, last = words
    if not earlier:
        return [word for word in (*VERBS, "--help", "--version", "--completion") if word.startswith(last)]
    verb, *earlier = earlier
    if verb == "--completion":
        return [shell for shell in ("bash",) if shell.startswith(last)]
    if verb not in VERBS:
        return []
    declared: Verb = importlib.import_module(f"distill.cli.{verb}").VERB
    options = declared.options
    if earlier and earlier[-1] in options and options[earlier[-1]].value:
        return [choice for choice in options[earlier[-1]].choices if choice.startswith(last)]
    key, equals, typed = last.partition("=")
    if not equals:
        keys = [f"{key}=" for key in (GROUPS if declared.hydra else declared.keys)]
        return [word for word in (*keys, *options, "--help") if word.startswith(last)]
    if key in declared.arguments and declared.arguments[key].choices:
        return [f"{key}={choice}" for choice in declared.arguments[key].choices if choice.startswith(typed)]
    listed, comma, typed = typed.rpartition(",")
    values = [value for value in _values(key, earlier) if value not in listed.split(",")]
    return [f"{key}={listed}{comma}{value}" for value in values if value.startswith(typed)]


def _values(key: str, earlier: Sequence[str]) -> list[str]:
    """The presets of a group, published tables, or finished runs by id and by folder name."""
    config_dir = _folder("--config-dir", earlier)
    if key in GROUPS:
        return preset_names(key, config_dir)
    if key == "table":
        return table_names(config_dir=config_dir)
    if key not in RUN_KEYS:
        return []
    try:
        finished = [
            record for record in scan(_folder("runs_dir", earlier) or default_runs_dir()) if record.status == "finished"
        ]
    except StorageError:
        return []
    return [record.run_id for record in finished] + [record.path.name for record in finished]


def _folder(name: str, words: Sequence[str]) -> Path | None:
    """The folder given by `name=DIR` or `name DIR`, if it is one."""
    given = re.search(rf"(?:^|\s){re.escape(name)}[=\s](\S+)", " ".join(words))
    folder = Path(given[1]).expanduser() if given else None
    return folder if folder is not None and folder.is_dir() else None
