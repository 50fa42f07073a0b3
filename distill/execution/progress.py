"""Progress of training: a line rewritten in place on a terminal, a plain line an epoch elsewhere."""

import contextlib
import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TextIO

from distill.runs.escapes import escaped

if TYPE_CHECKING:
    from distill.training import Evaluation, Member

REFRESH_SECONDS = 0.5
WIDTH = 100  # columns of a line


class TrainingProgress:
    """A `Watch` that writes to a stream; on a terminal the line of the current epoch is rewritten in place.

    Args:
        stream: stdout by default.
        titles: what runs are called, by the names of their folders, as `3/12 9f1acb kd temperature=4`.
        epochs: how many epochs these runs have before them; with it, the time left for all is shown. A worker of
            joblib or submitit passes none: it has one run, and the number of other workers is unknown.
    """

    def __init__(self, stream: TextIO | None = None, *, titles: Mapping[str, str] | None = None, epochs: int = 0):
        self._stream = sys.stdout if stream is None else stream
        self._live = self._stream.isatty()
        self._titles, self._epochs = titles or {}, epochs
        self._reached: dict[str, tuple[float, float]] = {}  # member with a title: epochs done at its first step and now
        self._begun: dict[str, tuple[float, float]] = {}  # member: (time, epochs done) at its first step here
        self._opened: float | None = None  # the first step of a cohort: its members share one clock
        self._started: float | None = None  # the first step of a run with a title
        self._paces: dict[tuple[float, float], str] = {}  # equal members of a cohort have equal speed
        self._refreshed = 0.0

    def step(self, member: "Member") -> None:
        """Refresh the live line, twice a second at most: reading the meters waits for the device."""
        now = time.monotonic()
        if member.name not in self._begun:
            self._opened = now if self._opened is None else self._opened
            self._begun[member.name] = self._opened, self._done(member)
            self._paces.clear()
        if member.name in self._titles:
            self._started = now if self._started is None else self._started
            done = self._done(member)
            self._reached[member.name] = self._reached.get(member.name, (done, done))[0], done
        if not self._live or now - self._refreshed < REFRESH_SECONDS:
            return
        self._refreshed = now
        place = f"epoch {member.epoch}/{member.recipe.epochs}  step {member.step}/{member.stream.steps}"
        self._rewrite(self._line(member, place, member.meters.read(), "", self._pace(member)))

    def epoch(self, member: "Member", measured: "Evaluation") -> None:
        """Print one line for the epoch."""
        self._rewrite("")
        self._opened = None
        done = self._done(member), self._begun.get(member.name, (0.0, self._done(member)))[1]
        if done not in self._paces:
            self._paces[done] = self._pace(member)
        place = f"epoch {member.epoch - 1}/{member.recipe.epochs}"
        accuracy = f"{member.split} {measured.accuracy:.2f} %"
        line = self._line(member, place, member.last_train, accuracy, self._paces[done])
        print(line, file=self._stream, flush=True)

    def stopped(self, member: "Member", error: Exception) -> None:
        """Print at once that a member has failed; the summary repeats it."""
        self._rewrite("")
        self._opened = None
        print(escaped(f"{member.name}  stopped: {error}"), file=self._stream, flush=True)

    def _line(self, member: "Member", place: str, means: dict[str, float], accuracy: str, pace: str) -> str:
        """At most `WIDTH` columns: terms of the loss, training accuracy and speed go first, then the title's middle."""
        terms = [f"{name} {value:.4f}" for name, value in means.items() if name != "accuracy"]
        speed, _, left = pace.partition("  ")
        title = escaped(self._titles.get(member.name, member.name))
        train = f"train {means['accuracy']:.2f} %"
        parts = [title, place, *terms, train, accuracy, speed, left, self._left_for_all()]
        for spare in [*(term for term in terms if not term.startswith("loss ")), train, speed]:
            if _width(parts) <= WIDTH:
                break
            parts.remove(spare)
        room = len(title) - max(0, _width(parts) - WIDTH)
        return "  ".join(filter(None, [_shortened(title, room), *parts[1:]]))

    def _left_for_all(self) -> str:
        # members of a cohort end an epoch together but print one after the other: steps are counted, not printed epochs
        done = sum(now - first for first, now in self._reached.values())
        if self._started is None or not 0 < done < self._epochs:
            return ""
        return f"all {duration((time.monotonic() - self._started) / done * (self._epochs - done))}"

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
        images = epochs * member.stream.count
        left = (member.recipe.epochs - self._done(member)) * seconds / epochs
        return f"{images / seconds:,.0f} images/s  {duration(left)} left"

    def _rewrite(self, line: str) -> None:
        if self._live:
            self._stream.write(f"\r\x1b[2K{line}")
            self._stream.flush()


def _width(parts: Sequence[str]) -> int:
    return len("  ".join(filter(None, parts)))


def _shortened(title: str, room: int) -> str:
    """A title in at most `room` columns: its place stands at one end, its id or what differs at the other."""
    if len(title) <= room:
        return title
    tail = max(0, room - 3) // 2
    return f"{title[: max(0, room - 3 - tail)]}...{title[len(title) - tail :]}"


def say(sentence: str, *, stream: TextIO | None = None) -> None:
    """Print a sentence at once, on stdout by default; names in it may be those of folders and presets of others."""
    print("\n  ".join(map(escaped, sentence.split("\n  "))), file=stream, flush=True)  # a second line is indented


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
