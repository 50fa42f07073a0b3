"""What is aimed at, as data: least ratios to the peer, and most seconds where a target is a time."""

from dataclasses import asdict, dataclass
from typing import Any

from distill.bench.figure import Figure

MET, MISSED, NOT_MEASURED = "met", "missed", "not measured"

SMALL, LARGE, LONG = "resnet20 -> resnet8", "resnet32x4 -> resnet8x4", "resnet56 -> resnet20"
H200 = "H200"


@dataclass(frozen=True)
class Target:
    """For one figure of one pair (None: of any) in one precision (None: in any) on one kind of device.

    `ratio` is the least one, `seconds` the most; `hardware` a word that the device's name must have. bf16 is meant on
    hardware that multiplies it.
    """

    figure: str
    pair: str | None
    precision: str | None
    ratio: float | None = None
    seconds: float | None = None
    device: str = "cpu"
    hardware: str = ""

    @property
    def says(self) -> str:
        """`1.45x` or `< 90 s`."""
        return f"{self.ratio:g}x" if self.ratio is not None else f"< {self.seconds:g} s"


TARGETS = (
    Target("data", None, None, ratio=13),
    Target("step.live", SMALL, "fp32", ratio=1.45),
    Target("compiled.live", SMALL, "fp32", ratio=1.75),
    Target("step.live", SMALL, "bf16", ratio=3.2),
    Target("compiled.live", SMALL, "bf16", ratio=3.9),
    Target("step.table", SMALL, "fp32", ratio=2.2),
    Target("step.table", SMALL, "bf16", ratio=4),
    Target("compiled.table", SMALL, "bf16", ratio=5),
    Target("step.table", LARGE, "fp32", ratio=2.9),
    Target("step.table", LARGE, "bf16", ratio=8.5),
    Target("cohort4.live", LARGE, "bf16", ratio=7.9),
    Target("cohort4.live", SMALL, "bf16", ratio=4),
    Target("run.table", LARGE, "bf16", seconds=90, device="cuda", hardware=H200),
    Target("run.cohort8.table", LARGE, "bf16", seconds=50, device="cuda", hardware=H200),
    Target("run.table", LONG, "bf16", seconds=90, device="cuda", hardware=H200),
    Target("run.cohort8.table", LONG, "bf16", seconds=25, device="cuda", hardware=H200),
    Target("table.build", LARGE, "bf16", seconds=120, device="cuda", hardware=H200),
)


@dataclass(frozen=True)
class Circumstances:
    """Of what, and on what, a bench was run; `native_bf16`: whether the hardware multiplies it."""

    pair: str
    precision: str
    device: str
    hardware: str
    native_bf16: bool


def targets_of(pair: str) -> list[Target]:
    """Those that concern a pair."""
    return [target for target in TARGETS if target.pair in (None, pair)]


def verdict(target: Target, figure: Figure | None, here: Circumstances) -> str:
    """`met`, `missed`, or `not measured`: no figure, a hidden one, or one of another pair, precision or device."""
    elsewhere = (
        figure is None
        or figure.key != target.figure
        or target.pair not in (None, here.pair)
        or target.precision not in (None, here.precision)
        or target.device != here.device
        or target.hardware not in here.hardware
        or (target.precision == "bf16" and not here.native_bf16)
    )
    if elsewhere or figure is None:
        return NOT_MEASURED
    if target.seconds is not None:
        return MET if figure.cost <= target.seconds else MISSED
    ratio = figure.ratio
    if ratio is None or target.ratio is None:
        return NOT_MEASURED
    return MET if ratio.median >= target.ratio else MISSED


def as_data(target: Target, found: str) -> dict[str, Any]:
    """A target and its verdict, for JSON."""
    return {**asdict(target), "verdict": found}
