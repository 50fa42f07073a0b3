"""What is wrong with a command, as data: the key, the kind of fault, and a sentence for the user."""

import difflib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from distill.runs.escapes import escaped

Kind = Literal["syntax", "key", "option", "missing", "type", "value", "conflict", "absent", "download"]


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong.

    key   the configuration key it concerns, `loss.temperature`; empty for the command as a whole
    kind  syntax: not KEY=VALUE; key: no such key; option: no such preset; missing: no value yet;
          type, value: not an allowed value; conflict: contradicts another key or a finished run;
          absent: a file is missing; download: the only problem is that the data set has to be downloaded first
    text  one sentence that names the value, the rule and the remedy
    """

    key: str
    kind: Kind
    text: str

    def __str__(self) -> str:
        return self.text

    def within(self, key: str) -> bool:
        """Whether the fault concerns `key` itself or a key inside it."""
        return self.key == key or self.key.startswith(f"{key}.")

    def touches(self, key: str) -> bool:
        """Whether a value set at `key` can have caused the fault: one of the two keys contains the other."""
        return self.within(key) or (bool(self.key) and key.startswith(f"{self.key}."))


def key_of(override: str) -> str:
    """`loss.temperature` for `++loss.temperature=4`."""
    return override.lstrip("+").partition("=")[0]


class Refused(ValueError):
    """A command or a configuration that is refused; `faults` is everything that is wrong with it, each once.

    A plain sentence is a fault of the command as a whole.
    """

    def __init__(self, faults: Iterable[Fault | str]) -> None:
        found = (each if isinstance(each, Fault) else Fault("", "value", each) for each in faults)
        self.faults = tuple(dict.fromkeys(found))
        super().__init__("\n".join(self.sentences))

    @property
    def sentences(self) -> list[str]:
        """The faults as the user reads them."""
        return [escaped(fault.text) for fault in self.faults]

    @property
    def needs_download(self) -> bool:
        """Whether nothing is wrong but that the data set is not on this machine yet."""
        return all(fault.kind == "download" for fault in self.faults)

    def at(self, key: str) -> list[Fault]:
        """The faults of a node that stands at `key`; each sentence begins with that key."""
        return [replace(fault, key=key, text=f"{key}: {fault.text}") for fault in self.faults]


def nearest(word: str, known: Collection[str]) -> str:
    """The end of a sentence: `: did you mean 'kd'?`, or all known names where none is near. Case does not matter."""
    folded = {name.casefold(): name for name in known}
    close = difflib.get_close_matches(word.casefold(), list(folded), n=1, cutoff=0.5)
    if close:
        return f": did you mean {folded[close[0]]!r}?"
    return f": there are {', '.join(sorted(known))}" if known else ""


_NO_FILE = "is not a key of this data set: add dataset=arrays for a file of your own, or dataset=cifar10 or cifar100"
_RESUMED = "is not a key: an unfinished run is resumed when its command is typed again, so leave it out"
_SEEDED = "is not a key: all seeds follow from seed=N"
_IN_MEMORY = "is not a key: small images lie in memory and need no workers, so leave it out"
_RUNS = "has no effect, since runs are written to runs_dir: set runs_dir=DIR"
_FOLDERS = "has no effect, since a run's folder follows from its configuration: leave it out"
_LAUNCHERS = 'is not installed: pip install "distill[launchers]", or use hydra/launcher=cohort'

# What users of other tools type, and what they should type here: the rest of a sentence that begins with what they
# typed. A key that stands elsewhere in the configuration (`epochs`) needs no entry, see `misplaced`.
CORRECTIONS = {
    **dict.fromkeys(("learning_rate", "recipe.lr"), "is not a key: write recipe.optimizer.lr={value}"),
    **dict.fromkeys(("tau", "T", "temp"), "is not a key: write loss.temperature={value}"),
    "alpha": "is not a key: write loss.alpha={value}",
    "npz": "is not a key: write dataset=arrays dataset.npz={value}",
    "root": "is not a key: write dataset=cifar100 dataset.root={value}, for example",
    **dict.fromkeys(("bs", "batch"), "is not a key: write recipe.batch_size={value}"),
    **dict.fromkeys(("model", "network", "net", "arch"), "is not a key: write student={value}"),
    **dict.fromkeys(("data", "dataset.name"), "is not a key: write dataset={value}"),
    **dict.fromkeys(("method", "distiller", "loss.name"), "is not a key: write loss={value}"),
    **dict.fromkeys(("gpu", "cuda"), "is not a key: write engine.device=cuda, or cuda:0 for the first GPU"),
    **dict.fromkeys(("amp", "fp16", "bf16"), "is not a key: write precision=bf16"),
    **dict.fromkeys(("workers", "num_workers"), _IN_MEMORY),
    **dict.fromkeys(("resume", "checkpoint"), _RESUMED),
    **dict.fromkeys(("manual_seed", "random_seed"), _SEEDED),
    **dict.fromkeys(("out", "output_dir", "log_dir", "save_dir"), "is not a key: write runs_dir={value}"),
    **dict.fromkeys(("dataset.npz", "dataset.root", "dataset.download"), _NO_FILE),
    **dict.fromkeys(("hydra.run.dir", "hydra.sweep.dir"), _RUNS),
    **dict.fromkeys(("hydra.sweep.subdir", "hydra.output_subdir", "hydra.job.chdir", "hydra.job.name"), _FOLDERS),
    **dict.fromkeys(("hydra.mode",), "has no effect: write -m for a sweep"),
    "hydra.sweeper.params": "is not supported: write the values with -m, as in loss=ce,kd seed=1,2, or a sweep preset",
    **{f"hydra/launcher={name}": _LAUNCHERS for name in ("joblib", "submitit_local", "submitit_slurm")},
    "hydra/sweeper=optuna": "is not supported: write sweep=optuna, whose search runs without Hydra's sweeper",
}


def correction(typed: str, value: object = "VALUE") -> str | None:
    """The sentence for a key, or for GROUP=OPTION, that is in the table of corrections."""
    rest = CORRECTIONS.get(typed)
    return None if rest is None else f"{typed} {rest.format(value=value)}"


def misplaced(key: str, value: object, config: Mapping[str, Any]) -> str | None:
    """The sentence for a key that stands elsewhere in the configuration: `lr` is recipe.optimizer.lr."""
    places = [
        path for path in paths_in(config) if path.endswith(f".{key}") and not path.startswith(("teacher.", "pair."))
    ]
    if not places:
        return None
    place = min(places, key=lambda path: path.count("."))
    if isinstance(value, Mapping):
        return f"{key} is not a key: write {place}.KEY=VALUE"
    node: Any = config
    for part in place.split("."):
        node = node[part]
    if isinstance(node, Mapping):
        return f"{key} is not a key: write {place}._target_=CLASS, which is {node.get('_target_')} here"
    return f"{key} is not a key: write {place}={value}"


def paths_in(node: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """The dotted path of every key of a node, and of the nodes in it."""
    for key, value in node.items():
        yield f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from paths_in(value, f"{prefix}{key}.")
