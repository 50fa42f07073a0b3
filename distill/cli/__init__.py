"""The command line: chooses the verb, imports its file, checks the arguments and returns the exit code.

A verb's file declares its arguments as `VERB` and does its work in `run`; both import neither torch nor Hydra. The
modules that do are imported inside `run` after the arguments were checked, so help and refusals come at once.
"""

import difflib
import errno
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from distill.cli.arguments import BUSY, FAILED, FINISHED, REFUSED, help_text, parse
from distill.config.faults import Refused
from distill.execution.progress import discard_output
from distill.runs.escapes import escaped
from distill.runs.files import StorageError, keep_trace
from distill.runs.lock import Busy

VERBS = {
    "train": "train a student, a baseline or a teacher, or a sweep of them",
    "evaluate": "measure the accuracy of a finished run again",
    "ls": "list runs, finished or not",
    "table": "compare finished runs, also with published numbers",
    "fill": "train the runs that a published table still lacks",
    "report": "write figures and a web page about runs",
    "models": "list networks with parameters, MACs and feature shapes",
    "losses": "list loss presets with paper, terms, needs and defaults",
    "import": "add weights or runs from elsewhere to your runs",
    "export": "write a finished run as safetensors, ONNX or torch.export",
}

HELP = """distill: knowledge distillation in which only the loss differs

  distill train                                     the demo: resnet20 teaches resnet8 on digits, offline
  distill train sweep=demo                          baseline, KD and Z-score KD, three seeds each
  distill train experiment=cifar100/resnet32x4_resnet8x4 loss=zscore_kd seed=1 dataset.download=true
  distill table                                     compare the finished runs

Verbs
{verbs}

`distill VERB --help` explains a verb. Arguments are KEY=VALUE words and --OPTIONS, in any order.
Exit codes: 0 finished, 1 a run failed, 2 the command was refused, 3 another process is working on a run.
Completion in bash: eval "$(distill --completion bash)"
"""


def main(argv: list[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    words = sys.argv[1:] if argv is None else argv
    try:
        Path.cwd()
    except OSError:
        print("the current folder no longer exists: change to another one", file=sys.stderr)
        return REFUSED
    try:
        code = _run(words)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, `| head` for example, has read enough
        discard_output()
        return 0
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            print(f"{escaped(str(error.filename))[:60]}... is too long for a path: name a file", file=sys.stderr)
            return REFUSED
        # unforeseen: the trace is what a bug report needs
        reason = escaped(" ".join(f"{type(error).__name__}: {error}".split()))
        print(f"internal error: {reason}; the trace is in {keep_trace(Path())}", file=sys.stderr)
        return FAILED
    return code


def _run(words: Sequence[str]) -> int:
    verb = words[0] if words else "--help"
    if verb in ("--help", "-h", "help"):
        print(HELP.format(verbs="\n".join(f"  {name:<9} {what}" for name, what in VERBS.items())))
        return FINISHED
    if verb in ("--completion", "--complete"):
        return int(importlib.import_module("distill.cli.completion").main(words))
    if verb == "--version":
        print(importlib.import_module("distill").__version__)
        return FINISHED
    if verb not in VERBS:
        close = difflib.get_close_matches(verb, VERBS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"the verbs are {', '.join(VERBS)}"
        print(f"distill {verb}: there is no such verb: {hint}", file=sys.stderr)
        return REFUSED
    if verb != "train" and "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1:  # under torchrun
        if os.environ["RANK"] == "0":
            print(f"distill {verb} runs in one process: start it without torchrun", file=sys.stderr)
        return REFUSED
    # streams that a GPU may run side by side, read when CUDA starts: 8 by default, and a cohort of 8 has more
    os.environ.setdefault("CUDA_DEVICE_MAX_CONNECTIONS", "32")
    module = importlib.import_module(f"distill.cli.{verb}")
    line = parse(words[1:], module.VERB)
    if any(word in ("--help", "-h") for word in words):
        print(help_text(module.VERB, line.config_dir), end="")
        return FINISHED
    # classes of the user's own are imported from here, as by `python -m distill`, and from beside the user's presets
    for folder in (Path.cwd(), *([line.config_dir.resolve()] if line.config_dir else [])):
        if str(folder) not in sys.path:
            sys.path.append(str(folder))
    try:
        return int(module.run(line))
    except Refused as refused:
        print(refused, file=sys.stderr)
        return REFUSED
    except StorageError as error:
        print(error, file=sys.stderr)
        return FAILED
    except Busy as error:
        print(error, file=sys.stderr)
        return BUSY
    except KeyboardInterrupt:  # while nothing is being trained, or pressed twice: there is nothing to save
        print("stopped: type the command again to go on", file=sys.stderr)
        return FAILED
