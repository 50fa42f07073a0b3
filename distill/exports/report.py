"""What an export found out: for people, for the model card and for export.json. Imports no torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Written:
    """A file that was read back and agrees with the network it was made of; `check` says how well."""

    form: str
    file: str
    title: str
    size: int
    sha256: str
    check: str
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Rounded:
    """What rounding the weights to fp16 changed, on `count` images.

    `accuracy` (percent) is that of fp32 arithmetic with the rounded weights on the whole evaluation split, None
    without the data; so are `correct` and `total`, in images.
    """

    difference: float
    equal: int
    count: int
    accuracy: float | None = None
    correct: int | None = None
    total: int | None = None

    def __str__(self) -> str:
        told = (
            f"rounding the weights to fp16 moves a logit by at most {self.difference:.2g}, "
            f"{self.equal} of {self.count} predictions stay"
        )
        if self.accuracy is None:
            return f"{told}; their accuracy was not measured again, because the data were not at hand"
        return f"{told}; accuracy with the rounded weights {self.accuracy:.2f} % ({self.correct} of {self.total})"


@dataclass(frozen=True)
class Exported:
    """The folder (None where no model was good enough), its models, and a sentence for each that is not there.

    `tried_on` names the images of the checks; `reason` says why they are synthetic, empty where they are not.
    """

    folder: Path | None
    written: tuple[Written, ...]
    failures: tuple[str, ...]
    tried_on: str
    reason: str
    rounded: Rounded | None = None
