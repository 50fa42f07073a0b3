"""`distill import`: weights from elsewhere become a finished run.

The module's name is a word of the language: it is imported by its name as text, as every verb is.
"""

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from distill.cli import import_from_here
from distill.cli.chosen import given_places
from distill.cli.grammar import (
    BUSY,
    CONFIG_DIR,
    FAILED,
    FINISHED,
    CommandLine,
    UsageError,
    nearest,
    parse,
    run_verb,
)
from distill.runs.lock import Busy

HELP = """\
distill import FILE student=NAME dataset=NAME [key=value ...]     make a finished run of weights from elsewhere
distill import DIR [runs_dir=DIR]                                 take in the finished runs of another store

Reads checkpoints of RepDistiller, of mdistiller (of a distiller the student) and of what builds on them, plain state
dicts (*.pth, *.pt, old non-zip files too) and safetensors. Nothing in a file is executed: only tensors and plain values
are read. Every name and shape must be the network's. The accuracy is measured where the data are at hand; else the
one that the file states is recorded, marked as claimed. The run is listed, evaluated, and taken as a teacher:
distill train teacher.run=ID. Its id is the digest of its weights: importing twice changes nothing.

A student.safetensors with its run's config.yaml and result.json beside it comes back as that run, under its own id:
no student= or dataset= is needed, and teacher=NAME finds it instead of training that teacher. The weights may
have been stored as float16.

A folder of runs (another machine's runs_dir, or what `distill export --results` wrote) is taken in run by run: ids,
records and digests of weights are checked, nothing here is overwritten, what is not sound is named and left. A run
without weights is listed and tabulated; it cannot teach, be evaluated or exported until its weights are brought too.

which network and data
  student=resnet56          any student preset: `distill models` lists them
  student=timm student.name=NAME      weights of a timm (or torchvision) network out of a file
  dataset=cifar100          the data that the network was trained on; dataset.KEY=VALUE as in `distill train`
  --config-dir DIR          presets of your own

where and how
  dataset.npz=FILE  dataset.root=DIR  dataset.download=true      where the data lie
  runs_dir=DIR              where the run is to lie (default: DISTILL_RUNS, or runs)
  engine.device=auto|cpu|cuda  (default: auto, CUDA where there is one)

Published weights of timm and torchvision need no file: distill train student=timm student.name=NAME
student.pretrained=true, or student=torchvision student.name=NAME student.weights=IMAGENET1K_V1.

examples
  distill import resnet56_vanilla/ckpt_epoch_240.pth student=resnet56 dataset=cifar100 dataset.npz=cifar100.npz
  distill import student_best student=resnet8x4 dataset=cifar100
  distill import results/cifar100_small/runs/resnet20-cross_entropy-s0-67078f4ee682/student.safetensors
  distill import results/cifar100_small/runs

exit codes: 0 done, or there already; 1 damaged, unlike what is here, or not to be written; 2 refused; 3 busy elsewhere
"""

FILE = "file"
KEYS = ("student", "dataset", "runs_dir", "dataset.npz", "dataset.root", "dataset.download", "engine.device")
OPTIONS = (CONFIG_DIR,)
DEVICES = ("auto", "cpu", "cuda")  # for completion: torch knows more, cuda:1 among them
GROUPS = ("student", "dataset")
EXAMPLES = {"student": "resnet56, say; `distill models` lists them", "dataset": "cifar100, say"}


def main(argv: list[str]) -> int:
    """Run `distill import` with the words after the verb; return the exit code."""
    return run_verb(argv, lambda words: _import(read(words)), help_text=HELP)


def _import(line: CommandLine) -> int:
    if FILE not in line.pairs:
        line.check()  # the fault is among them
    if any("._target_" in key for key in line.pairs):
        import_from_here()

    from distill.config.build import Refused  # only now: torch takes seconds to import

    path = Path(line.pairs[FILE])
    try:
        if path.is_dir():
            return _import_folder(line, path)
        _import_file(line, path)
    except Refused as refused:
        raise UsageError(refused.faults) from refused
    except Busy as error:
        _warn(str(error))
        return BUSY
    return FINISHED


def _import_folder(line: CommandLine, folder: Path) -> int:
    from distill.exchange.folders import FAILURES, HELD, import_folder

    others = [key for key in line.pairs if key not in (FILE, "runs_dir")]
    line.faults += [f"{key}= is for a file of weights; {folder} is a folder of runs: leave it out" for key in others]
    line.faults += [f"{option} is for a file of weights: leave it out" for option in line.options]
    line.check()
    outcomes = import_folder(folder, line.runs_dir, say=_say, warn=_warn)
    if any(outcomes[failure] for failure in FAILURES):
        return FAILED
    return BUSY if outcomes[HELD] else FINISHED


def _import_file(line: CommandLine, path: Path) -> None:
    from distill.config.build import usable_device
    from distill.exchange.checkpoint import UnreadableError, is_safetensors, read_checkpoint
    from distill.exchange.restore import has_run, read_beside, restore
    from distill.exchange.weights import compose_parts, import_weights

    places = given_places(line)
    parts = compose_parts(line.pairs, places, config_dir=line.config_dir, faults=line.faults)
    try:
        device = usable_device(line.pairs.get("engine.device", "auto"), key="engine.device")
    except ValueError as error:
        line.faults.append(str(error))
    if is_safetensors(path) and has_run(path):
        line.check()
        record, own = read_beside(path, parts.nodes), line.pairs.get("student._target_")
        restore(path, record, line.runs_dir, places=places, device=device, own=own, say=_say)
        return
    for group, example in EXAMPLES.items():
        if group not in line.pairs and not any(f"{group}=" in fault for fault in line.faults):
            line.faults.append(f"import needs {group}=NAME: {example}")
    try:
        checkpoint = read_checkpoint(path)
    except UnreadableError as error:
        line.faults.append(str(error))
    line.check()
    import_weights(checkpoint, parts, line.runs_dir, data_needed=bool(places), device=device, say=_say, warn=_warn)


def _say(sentence: str) -> None:
    print(sentence, flush=True)


def _warn(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def read(argv: Sequence[str]) -> CommandLine:
    """The command line with its faults; the file is the pair `file`."""
    words = [re.sub(r"^\+{1,2}(?=(dataset|student)\.)", "", word) for word in argv]
    words = [_as_pair(word, words[n - 1 : n]) for n, word in enumerate(words)]
    others = [word for word in words if word.startswith(f"{FILE}=")][1:]
    line = parse([word for word in words if word not in others], keys=(FILE, *KEYS), options=OPTIONS, dotted=True)
    line.faults += [f"{word.partition('=')[2]} is a second file: import one after the other" for word in others]
    for key in line.pairs:
        group, dot, _ = key.partition(".")
        if dot and group not in GROUPS and key not in KEYS:
            line.faults.append(f"unknown key {key!r}: {nearest(key, KEYS)}")
    if FILE not in line.pairs:
        line.faults.append("import needs a file: distill import FILE student=NAME dataset=NAME; or distill import DIR")
    if "dataset.npz" in line.pairs and "dataset.root" in line.pairs:
        line.faults.append("dataset.npz and dataset.root name two places: keep one")
    if line.pairs.get("dataset.download", "true") not in ("true", "false"):
        line.faults.append(f"dataset.download cannot be {line.pairs['dataset.download']!r}: choose from true, false")
    if line.config_dir is not None and not line.config_dir.is_dir():
        del line.options[CONFIG_DIR.word]  # named as a fault already; what follows composes without it
    return line


def _as_pair(word: str, before: Sequence[str]) -> str:
    """A word that names the file as `file=WORD`; a path may hold an equals sign (`KD,T=4/student_best`)."""
    key, equals, _ = word.partition("=")
    is_key = bool(equals) and os.sep not in key and not (Path(word).is_file() and key not in KEYS)
    is_value = list(before) == [CONFIG_DIR.word]
    return word if word.startswith("-") or is_key or is_value else f"{FILE}={word}"
