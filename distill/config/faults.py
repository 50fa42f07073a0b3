"""What is wrong with a command, as data: the key, the kind of fault, and a sentence for the user."""

import difflib
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Literal

Kind = Literal["syntax", "key", "option", "missing", "type", "value", "conflict", "absent", "download"]


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong.

    key   the configuration key it concerns, `loss.temperature`; empty for the command as a whole
    kind  syntax: not KEY=VALUE; key: no such key; option: no such preset; missing: no value yet;
          type, value: not an allowed value; conflict: contradicts another key or a finished run;
          absent: a file is not where it was looked for; download: nothing but a data set that must be downloaded first
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
        return [fault.text for fault in self.faults]

    @property
    def needs_download(self) -> bool:
        """Whether nothing is wrong but that the data set is not on this machine yet."""
        return all(fault.kind == "download" for fault in self.faults)

    def at(self, key: str) -> list[Fault]:
        """The faults of a node that stands at `key`; each sentence begins with that key."""
        return [replace(fault, key=key, text=f"{key}: {fault.text}") for fault in self.faults]


def nearest(word: str, known: Collection[str]) -> str:
    """The end of a sentence: `: did you mean 'kd'?`, or the names there are where none is near."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    if close:
        return f": did you mean {close[0]!r}?"
    return f": there are {', '.join(sorted(known))}" if known else ""
