"""Progress of training: a line rewritten in place on a terminal, a plain line an epoch elsewhere."""

import contextlib
import os
import sys
import time
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from distill.training import Evaluation, Member

REFRESH_SECONDS = 0.5


class TrainingProgress:
    """A `Watch` that writes to a stream; on a terminal the line of the current epoch is rewritten in place."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stdout if stream is None else stream
        self._live = self._stream.isatty()
        self._begun: dict[str, tuple[float, float]] = {}  # member: (time, epochs done) at its first step here
        self._refreshed = 0.0

    def step(self, member: "Member") -> None:
        """Refresh the live line, twice a second at most: reading the meters waits for the device."""
        now = time.monotonic()
        self._begun.setdefault(member.name, (now, self._done(member)))
        if not self._live or now - self._refreshed < REFRESH_SECONDS:
            return
        self._refreshed = now
        head = f"{member.name}  epoch {member.epoch}/{member.recipe.epochs}  step {member.step}/{member.stream.steps}"
        self._rewrite(f"{head}  {self._numbers(member.meters.read())}  {self._pace(member)}")

    def epoch(self, member: "Member", measured: "Evaluation") -> None:
        """Print one line for the epoch."""
        self._rewrite("")
        line = f"{member.name}  epoch {member.epoch - 1}/{member.recipe.epochs}  {self._numbers(member.last_train)}"
        print(
            f"{line}  {member.split} {measured.accuracy:.2f} %  {self._pace(member)}",
            file=self._stream,
            flush=True,
        )

    def stopped(self, member: "Member", error: Exception) -> None:
        """Print at once that a member has failed; the summary repeats it."""
        self._rewrite("")
        print(f"{member.name}  stopped: {error}", file=self._stream, flush=True)

    @staticmethod
    def _numbers(means: dict[str, float]) -> str:
        terms = "  ".join(f"{name} {value:.4f}" for name, value in means.items() if name != "accuracy")
        return f"{terms}  train {means['accuracy']:.2f} %"

    @staticmethod
    def _done(member: "Member") -> float:
        return member.epoch - 1 + member.step / member.stream.steps

    def _pace(self, member: "Member") -> str:
        # a run that was resumed after its last step has no first step here
        since, from_epoch = self._begun.get(member.name, (time.monotonic(), self._done(member)))
        epochs = self._done(member) - from_epoch
        seconds = time.monotonic() - since
        if epochs <= 0 or seconds <= 0:
            return ""
        images = epochs * len(member.stream.dataset.train_labels)
        left = (member.recipe.epochs - self._done(member)) * seconds / epochs
        return f"{images / seconds:,.0f} images/s  {duration(left)} left"

    def _rewrite(self, line: str) -> None:
        if self._live:
            self._stream.write(f"\r\x1b[2K{line}")
            self._stream.flush()


def discard_output() -> None:
    """Discard the rest of stdout's buffer: its reader (`| head`) has gone, and flushing would fail."""
    with contextlib.suppress(OSError, AttributeError):  # stdout may have no file descriptor
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def duration(seconds: float) -> str:
    """`45 s`, `3 min 20 s`, `2 h 05 min` or `5 d 03 h`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 100 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600:02d} h"
