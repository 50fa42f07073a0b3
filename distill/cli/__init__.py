"""The command line: one verb, one small file. Imports nothing heavy until a verb is known."""

import difflib
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from distill.execution.progress import discard_output

VERBS = {
    "train": "train students, baselines and teachers from composed configurations",
    "evaluate": "measure a finished run's accuracy again",
    "table": "compare finished runs",
    "fill": "train the missing cells of a published table",
    "ls": "list runs",
    "report": "write figures and a page of a student, held against others",
    "models": "list networks with parameters, MACs and feature shapes",
    "losses": "list loss presets with paper, terms, needs and numbers",
    "bench": "measure what training costs, as a ratio to the field's loop",
    "import": "make a finished run of weights from elsewhere; take in a folder of runs",
    "export": "write a finished run as safetensors, ONNX, torch.export; or runs as small files",
}

HELP = """distill: knowledge distillation in which only the loss differs

  distill train                                     the demo: resnet20 to resnet8 by KD, on digits, offline
  distill train sweep=demo                          baseline, KD and Z-score KD over three seeds
  distill train experiment=cifar100/resnet32x4_resnet8x4 loss=zscore_kd seed=1
  distill table                                     what the finished runs say

{verbs}

`distill VERB --help` shows what a verb takes. Exit codes: 0 finished, 1 a run failed, 2 refused, 3 busy elsewhere.
Completion: eval "$(distill --completion bash)"
"""


def main(argv: list[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    words = sys.argv[1:] if argv is None else argv
    try:
        code = _run(words)
        sys.stdout.flush()
    except BrokenPipeError:  # it was read as far as its reader (`| head`) wanted
        discard_output()
        return 0
    return code


def import_from_here() -> None:
    """Networks and losses of one's own are found in the current folder too, as `python -m distill` finds them."""
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))


def _run(words: Sequence[str]) -> int:
    verb = words[0] if words else "--help"
    if verb in ("--help", "-h", "help"):
        print(HELP.format(verbs="\n".join(f"  {name:<9} {what}" for name, what in VERBS.items())))
        return 0
    if verb in ("--completion", "--complete"):
        return int(importlib.import_module("distill.cli.completion").main(list(words)))
    if verb == "--version":
        print(importlib.import_module("distill").__version__)
        return 0
    if verb not in VERBS:
        close = difflib.get_close_matches(verb, VERBS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"the verbs are {', '.join(VERBS)}"
        print(f"distill {verb}: there is no such verb: {hint}", file=sys.stderr)
        return 2
    return int(importlib.import_module(f"distill.cli.{verb}").main(list(words[1:])))
