"""Tuning on held-out images: the best combination of a grid, and the space of a search; the test set is never read."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from distill.config.compose.presets import Presets
from distill.config.faults import Fault, Refused, key_of

TEACHER_SEED = "teacher.seed"
SEEDS = ("seed", TEACHER_SEED)  # averaged over, not tuned


@dataclass(frozen=True)
class Combination:
    """One configuration of a grid.

    `method` is what is compared (the swept choices of groups, `loss=kd`), `values` what is tuned (swept values of keys,
    `loss.temperature=4`), `jobs` the positions of its runs among the sweep's jobs: more than one where seeds are swept.
    """

    method: tuple[str, ...]
    values: tuple[str, ...]
    jobs: tuple[int, ...]

    @property
    def title(self) -> str:
        """`loss=kd loss.temperature=4`."""
        return " ".join(text.lstrip("+") for text in (*self.method, *self.values)) or "the search"


@dataclass(frozen=True)
class HoldoutTuning:
    """The combinations of a sweep that is run without `holdout` training images, to choose the best of each method.

    `fixed` are the overrides that no job varies, and all seeds of teachers; `seeds` is how many students a chosen
    combination then gets on all images, under each teacher.
    """

    holdout: int
    seeds: int
    fixed: tuple[str, ...]
    combinations: tuple[Combination, ...]

    def overrides(self, combination: Combination) -> list[str]:
        """The overrides that train a combination on all images."""
        return [*self.fixed, *combination.method, *combination.values, f"seed=range(1,{self.seeds + 1})"]


@dataclass(frozen=True)
class Chosen:
    """The best combination of a method, with its mean accuracy on the held-out images, of `tried` that were finished.

    `ties` counts the combinations that are as good, itself included: it is the first of them.
    """

    combination: Combination
    accuracy: float
    tried: int
    ties: int = 1

    @property
    def rank(self) -> str:
        """Its place among the combinations, in words."""
        first = f"the first of {self.ties} that tie as " if self.ties > 1 else ""
        return f"{first}the best of {self.tried} configurations"


def combinations_of(jobs: Sequence[Sequence[str]], presets: Presets) -> tuple[tuple[str, ...], tuple[Combination, ...]]:
    """The overrides that all jobs share, and the combinations of the rest, in the order of the jobs.

    Students' seeds are left out. All seeds of teachers together count as shared.
    """
    shared = set(jobs[0]).intersection(*jobs)
    found: dict[tuple[tuple[str, ...], tuple[str, ...]], list[int]] = {}
    for position, job in enumerate(jobs):
        swept = [override for override in job if override not in shared and key_of(override) not in SEEDS]
        method = tuple(override for override in swept if key_of(override) in presets.groups)
        values = tuple(override for override in swept if override not in method)
        found.setdefault((method, values), []).append(position)
    fixed = [override for override in jobs[0] if override in shared and key_of(override) not in SEEDS]
    teachers = dict.fromkeys(override for job in jobs for override in job if key_of(override) == TEACHER_SEED)
    if teachers:
        fixed.append(f"{TEACHER_SEED}={','.join(override.partition('=')[2] for override in teachers)}")
    return tuple(fixed), tuple(Combination(*key, tuple(positions)) for key, positions in found.items())


def best_of_each_method(combinations: Sequence[Combination], accuracies: Mapping[int, float]) -> list[Chosen]:
    """The combination of each method with the highest mean accuracy over its jobs; the first of equals.

    A combination with a failed job is left out; a method whose combinations all failed has no result.
    """
    means: dict[tuple[str, ...], dict[Combination, float]] = {}
    for combination in combinations:
        if all(job in accuracies for job in combination.jobs):
            means.setdefault(combination.method, {})[combination] = fmean(accuracies[job] for job in combination.jobs)
    return [_first_of_the_best(each) for each in means.values()]


def _first_of_the_best(means: Mapping[Combination, float]) -> Chosen:
    most = max(means.values())
    best = [combination for combination, mean in means.items() if mean == most]
    return Chosen(best[0], most, len(means), len(best))


def holdout_size(share: float, images: int) -> int:
    """How many of `images` training images a share of them is. Raises Refused unless 0 < share < 1."""
    if not 0 < share < 1:
        text = f"sweep.select.holdout must be between 0 and 1, got {share:g}: set sweep.select.holdout=0.1"
        raise Refused([Fault("sweep.select.holdout", "value", text)])
    return max(1, round(share * images))


def checked_seeds(seeds: int) -> int:
    """`seeds`. Raises Refused unless there is at least one."""
    if seeds < 1:
        text = f"sweep.select.seeds must be >= 1, got {seeds}: set sweep.select.seeds=4"
        raise Refused([Fault("sweep.select.seeds", "value", text)])
    return seeds


KEYS = ("low", "high", "log")


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, uniform, or with `log` uniform in their logarithm; integers if both ends are."""

    key: str
    low: float
    high: float
    log: bool

    @property
    def whole(self) -> bool:
        """Whether the key takes whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def ends(self) -> tuple[Any, ...]:
        """The values that are checked before the search starts."""
        return (self.low, self.high)


@dataclass(frozen=True)
class Choice:
    """One of several values."""

    key: str
    ends: tuple[Any, ...]


@dataclass(frozen=True)
class Search:
    """`trials` proposals for each of `bases` (the overrides of a method, hold-out included) within `space`."""

    trials: int
    seed: int
    space: tuple[Range | Choice, ...]
    bases: tuple[tuple[str, ...], ...]


def override(key: str, value: Any) -> str:
    """One value as an override. Floats keep four digits; just below 1 their distance to 1 does, which is what counts in
    the decay of an average.
    """
    if isinstance(value, float):
        digits = 3 - math.floor(math.log10(1 - value)) if 0.99 < value < 1 else 4
        return f"++{key}={value:.{digits}g}"
    return f"++{key}={'null' if value is None else value}"


def read_space(space: Mapping[str, Any]) -> tuple[Range | Choice, ...]:
    """The dimensions of a space: `{low, high, log}` or a list of values by key. Raises Refused."""
    faults: list[Fault] = []
    found = [_dimension(key, node, faults) for key, node in space.items()]
    if not found:
        text = "sweep.search.space is empty: name at least one key, e.g. loss.temperature: {low: 1.0, high: 8.0}"
        faults.append(Fault("sweep.search.space", "missing", text))
    if faults:
        raise Refused(faults)
    return tuple(each for each in found if each is not None)


def corners(base: Sequence[str], space: Sequence[Range | Choice]) -> list[list[str]]:
    """The overrides of jobs that together contain both ends of every dimension."""
    longest = max(len(dimension.ends) for dimension in space)
    return [
        [*base, *(override(each.key, each.ends[min(step, len(each.ends) - 1)]) for each in space)]
        for step in range(longest)
    ]


def _dimension(key: str, node: Any, faults: list[Fault]) -> Range | Choice | None:
    where = f"sweep.search.space.{key}"
    if isinstance(node, list | tuple):
        if node:
            return Choice(key, tuple(node))
        faults.append(Fault(where, "missing", f"{where} lists no value: add some, or leave the key out"))
        return None
    if not isinstance(node, Mapping) or not {"low", "high"} <= set(node) <= set(KEYS):
        text = f"{where} must be {{low: 1.0, high: 8.0}}, with log: true if wanted, or a list, got {node!r}"
        faults.append(Fault(where, "type", text))
        return None
    low, high, log = node["low"], node["high"], bool(node.get("log", False))
    if not (isinstance(low, int | float) and isinstance(high, int | float) and low < high and (low > 0 or not log)):
        rule = "numbers with 0 < low < high" if log else "numbers with low < high"
        text = f"{where} must have {rule}, got low {low!r} and high {high!r}: change them"
        faults.append(Fault(where, "value", text))
        return None
    return Range(key, low, high, log)
