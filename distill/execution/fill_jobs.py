"""The runs of a table's cells, all composed and checked before the first starts."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from distill.config.plan import RunPlan, other_source, weights_gone
from distill.config.preflight import DataAbsent, Faults, preflight
from distill.config.presets import Composed, Presets
from distill.execution.fill_request import FillRequest
from distill.runs.identity import run_id
from distill.runs.layout import RESULT
from distill.tables.published import Cell

Key = tuple[str, str]  # row, column
TEACHER, FIRST_STAGE, STUDENT = range(3)  # what a round trains first


@dataclass(frozen=True, eq=False)
class Job:
    """A run to be trained: its round (one seed of every cell), its kind, and its place in the table.

    `needs` are the ids of the runs that have to be finished first.
    """

    plan: RunPlan
    round: int
    kind: int
    place: int
    needs: frozenset[str]

    @property
    def rank(self) -> tuple[int, int, int]:
        """The order of training, the most informative first."""
        return self.round, self.kind, self.place


@dataclass(frozen=True)
class Filling:
    """The distinct runs in the order of training, those of each cell by id, and why some cells are left out."""

    jobs: tuple[Job, ...]
    cells: Mapping[Key, tuple[str, ...]]
    left_out: Mapping[Key, str]


def plan_cells(asked: FillRequest, presets: Presets) -> Filling:
    """Compose and check every run of every cell.

    A cell that cannot be trained here is left out with its reason, unless none can or the reason is what the user
    said for all runs.

    Raises:
        Faults: everything that is wrong.
    """
    composing = _Composing(asked, presets)
    plans, faults, absent = composing.all_cells(may_download=False)
    _refuse(faults, asked, everything=not plans and not absent)
    if absent:  # nothing is wrong that can be known before
        plans, faults, _ = composing.all_cells(may_download=True)
        _refuse(faults, asked, everything=not plans)
    left_out = {key: cell.untrainable for key, cell in asked.table.cells.items() if cell.untrainable}
    left_out |= {key: sentences[0] for key, sentences in faults.items()}
    if not plans:
        raise Faults([f"table={asked.table.name} cannot be trained here: {reason}" for reason in left_out.values()])
    cells = {key: tuple(plan.run_id for plan in runs.values()) for key, runs in plans.items()}
    return Filling(tuple(_in_order(plans)), cells, left_out)


def _refuse(faults: Mapping[Key, Sequence[str]], asked: FillRequest, *, everything: bool) -> None:
    """Raise what is the user's: faults about something said for all runs, or all faults where no cell is without."""
    said = [override.partition("=")[0] for override in asked.overrides]
    sentences = [sentence for found in faults.values() for sentence in found]
    mine = [sentence for sentence in sentences if any(key in sentence for key in said)]
    if mine or (everything and sentences):
        raise Faults(sentences if everything else mine)


class _Composing:
    """Cells to plans by seed; what depends on the seed alone is checked once."""

    def __init__(self, asked: FillRequest, presets: Presets) -> None:
        self._asked, self._presets = asked, presets

    def all_cells(self, *, may_download: bool) -> tuple[dict[Key, dict[int, RunPlan]], dict[Key, list[str]], bool]:
        """The plans of every cell, the faults of those that have some, and whether data are still to be fetched."""
        plans: dict[Key, dict[int, RunPlan]] = {}
        faults: dict[Key, list[str]] = {}
        absent = False
        for key, cell in self._asked.table.cells.items():
            try:
                if not cell.untrainable:
                    plans[key] = self.runs_of(cell, may_download=may_download)
            except Faults as error:
                faults[key] = error.sentences
            except DataAbsent:
                absent = True
        return plans, faults, absent

    def runs_of(self, cell: Cell, *, may_download: bool) -> dict[int, RunPlan]:
        """The runs of a cell by round: all teachers at one seed, then at the next.

        Raises Faults, or DataAbsent where data would have to be fetched first.
        """
        found: dict[int, RunPlan] = {}
        rounds = len(self._asked.teacher_seeds)
        for number, teacher_seed in enumerate(self._asked.teacher_seeds):
            for position, plan in enumerate(self._seeds(cell, teacher_seed, may_download=may_download)):
                found[position * rounds + number] = plan
            if found[number].teacher is None:  # other teachers change nothing
                break
        return dict(sorted(found.items()))

    def _seeds(self, cell: Cell, teacher_seed: int, *, may_download: bool) -> Iterator[RunPlan]:
        plan: RunPlan | None = None
        for seed in self._asked.seeds:
            if plan is None or plan.first_stage is not None or self._seed_is_read:
                composed = self._compose(cell, teacher_seed, seed)
                plan = preflight(composed, self._presets, may_download=may_download)
            yield _reseeded(plan, seed)

    @cached_property
    def _seed_is_read(self) -> bool:
        """Whether a preset of the user's makes another value of the seed; ours do not."""
        folder = self._asked.config_dir
        paths = folder.rglob("*.yaml") if folder is not None else ()
        return any(re.search(r"\$\{[^}]*seed", path.read_text(encoding="utf-8", errors="replace")) for path in paths)

    def _compose(self, cell: Cell, teacher_seed: int, seed: int) -> Composed:
        seeds = (f"teacher.seed={teacher_seed}", f"seed={seed}")
        parsed, faults = self._presets.parse([*cell.overrides, *self._asked.overrides, *seeds])
        composed = self._presets.compose([self._presets.text(override) for override in parsed])
        return replace(composed, faults=[*faults, *composed.faults])


def _reseeded(plan: RunPlan, seed: int) -> RunPlan:
    """The plan of the same run with that seed. Raises Faults where what lies in the store keeps that one from it."""
    if plan.seed == seed:
        return plan
    identity: dict[str, Any] = {**plan.identity, "seed": seed}
    found = replace(plan, config={**plan.config, "seed": seed}, identity=identity, run_id=run_id(identity))
    if conflict := other_source(found) or weights_gone(found):
        raise Faults([conflict])
    return found


def _in_order(plans: Mapping[Key, Mapping[int, RunPlan]]) -> list[Job]:
    """Every distinct run once, where it is first needed; what others need before them."""
    jobs: dict[str, Job] = {}
    for place, runs in enumerate(plans.values()):
        for number, plan in runs.items():
            for job in _with_needs(plan, number, place):
                known = jobs.get(job.plan.run_id)
                if known is None or job.rank < known.rank:
                    jobs[job.plan.run_id] = job
    return sorted(jobs.values(), key=lambda job: job.rank)


def _with_needs(plan: RunPlan, number: int, place: int) -> Iterator[Job]:
    needs = []
    teacher, stage = (each if _is_of_use(each, plan) else None for each in (plan.teacher, plan.first_stage))
    if isinstance(teacher, RunPlan):
        yield Job(teacher, number, TEACHER, place, frozenset())
        needs.append(teacher.run_id)
    if isinstance(stage, RunPlan):
        yield Job(stage, number, FIRST_STAGE, place, frozenset(needs))
        needs.append(stage.run_id)
    yield Job(plan, number, STUDENT, place, frozenset(needs))


def _is_of_use(first: object, plan: RunPlan) -> bool:
    """Whether a run is here, or has to be: a finished student that was brought from elsewhere needs no new teacher."""
    if not isinstance(first, RunPlan):
        return False
    return (first.directory / RESULT).is_file() or not (plan.directory / RESULT).is_file()
