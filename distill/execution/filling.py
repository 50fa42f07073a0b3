"""`distill fill`: checks all missing runs, then trains them in rounds: one seed of every cell per round."""

import re
import shlex
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from distill.config.compose.composer import Composed
from distill.config.compose.presets import FILLED, Presets
from distill.config.faults import Fault, Refused, key_of
from distill.config.plan import RunPlan, store_conflict, teacher_epochs_of
from distill.config.preflight import preflight
from distill.execution.jobs import Outcome, follow_plans
from distill.execution.progress import TrainingProgress, say
from distill.execution.rounds import (
    STUDENT,
    Job,
    State,
    groups,
    in_order,
    measured_times,
    next_cohort,
    open_jobs,
    ready,
    remaining,
    state,
)
from distill.execution.stopping import Deadline, Interrupted, stop_when
from distill.runs import layout
from distill.runs.identity import run_id
from distill.tables.cells import Facts
from distill.tables.presets import comparable
from distill.tables.published import Cell, PublishedTable
from distill.tables.values import PLACES

LATEST_START, LATEST_SHARE = 30.0, 0.1  # nothing starts in the last seconds, or the last share, of a budget
MANY = 20  # cells; fewer are checked at once
DATA_PLACES = {f"dataset.{place}" for place in PLACES}
PREPARATION = "teachers and first stages"

Key = tuple[str, str]  # row, column


@dataclass(frozen=True)
class Request:
    """The cells, the seeds of students and teachers, overrides for every run, the time limit in seconds, and how many
    runs train side by side at most.
    """

    table: PublishedTable
    seeds: tuple[int, ...]
    teacher_seeds: tuple[int, ...]
    overrides: tuple[str, ...]
    budget: float | None
    size: int
    config_dir: Path | None


@dataclass(frozen=True)
class Filling:
    """The distinct runs in the order of training, the run ids of each cell, and why some cells are left out."""

    jobs: tuple[Job, ...]
    cells: Mapping[Key, tuple[str, ...]]
    left_out: Mapping[Key, str]


def fill(request: Request, words: Sequence[str], *, retry: bool, only_plan: bool, begun: float) -> list[Outcome]:
    """Train the missing cells until the time limit; returns how the runs ended that are still missing.

    Args:
        request: what to train.
        words: those of the command, to be printed for typing them again.
        retry: train runs again that failed before.
        only_plan: print what is missing, and stop.
        begun: `time.monotonic()` when the command began; the time limit counts from it.

    Raises:
        Refused: everything that is wrong; nothing has been trained.
        Interrupted: a signal stopped training; every run is saved.
    """
    deadline = Deadline(request.budget, TrainingProgress(), begun=begun)
    if len(request.table.cells) > MANY and sys.stderr.isatty():
        print(f"checking the runs of {len(request.table.cells)} cells ...", file=sys.stderr)
    filling = plan_cells(request, Presets(request.config_dir))
    for line in plan_lines(request, filling):
        say(line)
    left: list[Outcome] = []
    if not only_plan and open_jobs(filling.jobs):
        ended = _train(filling.jobs, deadline, request, retry=retry)
        left = _report(filling.jobs, ended, words)
    command = ["distill", "table", f"table={request.table.name}"]
    command += [override for override in request.overrides if override.startswith("runs_dir=")]
    command += ["--config-dir", str(request.config_dir)] if request.config_dir else []
    say(f"the table: {shlex.join(command)}")
    return left


def _train(jobs: Sequence[Job], deadline: Deadline, request: Request, *, retry: bool) -> dict[str, Outcome]:
    """Train cohort after cohort until nothing is ready or the time is over; returns how each run ended, by its id."""
    ended: dict[str, Outcome] = {}
    # of all runs, finished or not: a command typed again decides about a teacher's table as it did at first
    teacher_epochs = teacher_epochs_of([job.plan for job in group] for group in groups(jobs, size=request.size))
    budget = request.budget
    reserve = 0.0 if budget is None else min(LATEST_START, LATEST_SHARE * budget)
    try:
        with stop_when(deadline):
            while deadline.left > reserve and (cohort := next_cohort(_waiting(jobs, ended), size=request.size)):
                plans = [job.plan for job in cohort]
                deadline.new_cohort()
                outcomes = follow_plans(plans, deadline, retry=retry, teacher_epochs=teacher_epochs)
                ended |= {plan.run_id: outcome for plan, outcome in zip(plans, outcomes, strict=True)}
    except Interrupted:
        if not deadline.reached:
            raise
    return ended


def _waiting(jobs: Sequence[Job], ended: Mapping[str, Outcome]) -> list[Job]:
    return ready(jobs, frozenset(run for run, outcome in ended.items() if outcome.status != "finished"))


def _report(jobs: Sequence[Job], ended: Mapping[str, Outcome], words: Sequence[str]) -> list[Outcome]:
    """Print what is finished, what failed and how to go on; returns the outcomes of runs that are still missing."""
    missing = open_jobs(jobs)
    say(f"{len(jobs) - len(missing)} of {len(jobs)} runs finished")
    still = {job.plan.run_id for job in missing}  # another process may have finished a run since
    left = [outcome for run, outcome in ended.items() if run in still]
    for outcome in left:
        say(f"{outcome.status}: {outcome.text}")
    if _waiting(jobs, ended):
        rest = f"{len(missing)} runs are left, {remaining(missing, measured_times(missing))}"
        say(f"the budget is used: {rest}; type the command again to go on: {shlex.join(['distill', 'fill', *words])}")
    return left


def plan_cells(request: Request, presets: Presets) -> Filling:
    """Compose and check every run of every cell.

    A cell that cannot be trained here is left out with its reason, unless no cell can be trained, or the fault lies
    in an override that the user gave for every run.

    Raises:
        Refused: everything that is wrong.
    """
    cells = _Cells(request, presets)
    plans, faults, absent = cells.planned(may_download=False)
    _refuse(faults, request, everything=not plans and not absent)
    if absent:  # nothing is wrong that can be found before the download
        plans, faults, _ = cells.planned(may_download=True)
        _refuse(faults, request, everything=not plans)
    left_out = {key: cell.untrainable for key, cell in request.table.cells.items() if cell.untrainable}
    left_out |= {key: found[0].text for key, found in faults.items()}
    if not plans:
        raise Refused(f"table={request.table.name} cannot be trained here: {reason}" for reason in left_out.values())
    cells_of_plans = [request.table.cells[key] for key in plans]
    if elsewhere := _outside_of_cells(request, cells_of_plans, presets) + _other_teachers(request, plans, presets):
        raise Refused(elsewhere)
    ids = {key: tuple(plan.run_id for plan in runs.values()) for key, runs in plans.items()}
    return Filling(tuple(in_order(list(plans.values()))), ids, left_out)


def _refuse(faults: Mapping[Key, Sequence[Fault]], request: Request, *, everything: bool) -> None:
    """Raise the faults of keys that the user set for every run, or all faults if no cell is without one."""
    keys = list(map(key_of, request.overrides))
    found = [fault for of_cell in faults.values() for fault in of_cell]
    of_user = [fault for fault in found if any(map(fault.touches, keys))]
    if of_user or (everything and found):
        raise Refused(found if everything else of_user)


def _outside_of_cells(request: Request, cells: Sequence[Cell], presets: Presets) -> list[Fault]:
    """A fault for each override with which a run would not fill its cell."""
    keys = {override: key_of(override) for override in request.overrides}
    given = [override for override, key in keys.items() if key.partition(".")[0] in FILLED and key not in DATA_PLACES]

    def facts(overrides: Sequence[str]) -> list[dict[str, Any]]:
        commands = [(*cell.overrides, *overrides) for cell in cells]
        return [asdict(Facts.of(config)) for config in presets.declared(commands)]

    required = facts([]) if given else []
    return [
        Fault(
            keys[override],
            "conflict",
            f"{override} differs from what the cells of table={request.table.name} require, so its runs would fill "
            "none of them: leave it out, or write a table of your own",
        )
        for override in given
        if facts([override]) != required
    ]


def _other_teachers(request: Request, plans: Mapping[Key, Mapping[int, RunPlan]], presets: Presets) -> list[Fault]:
    """A fault for a `teacher.run` with which no run would fill its cell: of another network, or in another store."""
    given = next((each.lstrip("+") for each in request.overrides if each.lstrip("+").startswith("teacher.run=")), None)
    required = presets.declared([request.table.cells[key].overrides for key in plans]) if given else []
    for key, config in zip(plans, required, strict=False):
        plan = next(iter(plans[key].values()))
        if plan.teacher is None or not plan.config["teacher"].get("run"):
            continue
        wanted = request.table.column(request.table.cells[key].column).teacher
        if comparable(plan.teacher.node, prefix="teacher.network") != Facts.of(config).teacher:
            text = f"{given} is the run of a {plan.teacher.name}, and table={request.table.name} shows students of "
            text += f"{wanted} here, so the runs would fill no cell: name a run of {wanted}, or leave teacher.run out"
            return [Fault("teacher.run", "conflict", text)]
        folder = plan.teacher.facts().folder
        if folder.parent.resolve() != plan.runs_dir.resolve():
            text = f"{given} lies outside of {plan.runs_dir}, where table={request.table.name} looks for its network: "
            text += f"bring it there with `distill import {folder / layout.STUDENT} runs_dir={plan.runs_dir}`"
            return [Fault("teacher.run", "conflict", text)]
    return []


class _Cells:
    """The plans of cells by seed; what does not depend on the seed is checked once."""

    def __init__(self, request: Request, presets: Presets) -> None:
        self._request, self._presets = request, presets

    def planned(self, *, may_download: bool) -> tuple[dict[Key, dict[int, RunPlan]], dict[Key, Sequence[Fault]], bool]:
        """The plans of every sound cell, the faults of the others, and whether data have to be downloaded first."""
        plans: dict[Key, dict[int, RunPlan]] = {}
        faults: dict[Key, Sequence[Fault]] = {}
        absent = False
        for key, cell in self._request.table.cells.items():
            try:
                if not cell.untrainable:
                    plans[key] = self._runs_of(cell, may_download=may_download)
            except Refused as refused:
                if refused.needs_download:
                    absent = True
                else:
                    faults[key] = refused.faults
        return plans, faults, absent

    def _runs_of(self, cell: Cell, *, may_download: bool) -> dict[int, RunPlan]:
        """The runs of a cell by round: all teachers at one seed, then at the next."""
        found: dict[int, RunPlan] = {}
        rounds = len(self._request.teacher_seeds)
        for number, teacher_seed in enumerate(self._request.teacher_seeds):
            for position, plan in enumerate(self._seeds(cell, teacher_seed, may_download=may_download)):
                found[position * rounds + number] = plan
            if found[number].teacher is None:  # a run without a teacher is the same for every teacher seed
                break
        return dict(sorted(found.items()))

    def _seeds(self, cell: Cell, teacher_seed: int, *, may_download: bool) -> Iterator[RunPlan]:
        plan: RunPlan | None = None
        for seed in self._request.seeds:
            if plan is None or plan.first_stage is not None or self._presets_read_seed:
                composed = self._compose(cell, teacher_seed, seed)
                plan = preflight(composed, self._presets, may_download=may_download)
            yield _with_seed(plan, seed)

    @cached_property
    def _presets_read_seed(self) -> bool:
        """Whether a preset of the user's derives another value from the seed; the shipped ones do not."""
        folder = self._request.config_dir
        paths = folder.rglob("*.yaml") if folder is not None else ()
        return any(re.search(r"\$\{[^}]*seed", path.read_text(encoding="utf-8", errors="replace")) for path in paths)

    def _compose(self, cell: Cell, teacher_seed: int, seed: int) -> Composed:
        seeds = (f"teacher.seed={teacher_seed}", f"seed={seed}")
        parsed, faults = self._presets.parse([*cell.overrides, *self._request.overrides, *seeds])
        composed = self._presets.compose([self._presets.text(override) for override in parsed])
        return replace(composed, faults=[*faults, *composed.faults])


def _with_seed(plan: RunPlan, seed: int) -> RunPlan:
    """The plan of the same run with that seed. Raises Refused where the store holds a conflicting run of it."""
    if plan.seed == seed:
        return plan
    identity: dict[str, Any] = {**plan.identity, "seed": seed}
    found = replace(plan, config={**plan.config, "seed": seed}, identity=identity, run_id=run_id(identity))
    if conflict := store_conflict(found):
        raise Refused([conflict])
    return found


def plan_lines(request: Request, filling: Filling) -> list[str]:
    """What is finished and what is missing, row by row, with the images to process and, where measured, the time."""
    table, jobs = request.table, filling.jobs
    size = f"{len(table.rows)} rows x {len(table.columns)} columns"
    seeds = f"seeds {_listed(request.seeds)}, teacher.seed {_listed(request.teacher_seeds)}"
    lines = [f"table {table.name}: {size}, {seeds}"]
    by_id = {job.plan.run_id: job for job in jobs}
    parts = {PREPARATION: [job for job in jobs if job.kind != STUDENT]}
    for row in table.rows:
        ids = {run: None for (key, _), runs in filling.cells.items() if key == row.key for run in runs}
        parts[row.key] = [by_id[run] for run in ids]
    width = max(map(len, parts))
    times = measured_times(jobs)
    lines += [f"  {name:<{width}}  {_standing(part, times)}" for name, part in parts.items() if part]
    for (row_key, column), reason in _left_out(filling).items():
        lines.append(f"left out: {row_key}, {column}: {reason}")
    missing = open_jobs(jobs)
    if not missing:
        nothing = "nothing else" if filling.left_out else "nothing"
        return [*lines, f"{nothing} is missing: {len(jobs)} runs are finished"]
    return [*lines, f"{len(missing)} runs to train: {remaining(missing, times)}"]


def _standing(jobs: Sequence[Job], times: Mapping[str, float]) -> str:
    counts = Counter(state(job.plan) for job in jobs)
    words = [f"{counts[State.FINISHED]} of {len(jobs)} finished"]
    words += [f"{counts[each]} {each.value}" for each in (State.HALF, State.FAILED, State.DAMAGED) if counts[each]]
    missing = open_jobs(jobs)
    return ", ".join([*words, *([remaining(missing, times)] if missing else [])])


def _left_out(filling: Filling) -> dict[tuple[str, str], str]:
    """The reasons of cells left out, once for a row where all its cells have the same reason."""
    reasons: dict[str, dict[str, str]] = {}
    for (row, column), reason in filling.left_out.items():
        reasons.setdefault(row, {})[column] = reason
    trained = {row for row, _ in filling.cells}
    found: dict[tuple[str, str], str] = {}
    for row, columns in reasons.items():
        if len(set(columns.values())) == 1 and row not in trained:
            found[row, "all columns"] = next(iter(columns.values()))
        else:
            found |= {(row, column): reason for column, reason in columns.items()}
    return found


def _listed(numbers: Sequence[int]) -> str:
    """`1 to 4`, or `1, 2, 5`."""
    if len(numbers) > 2 and list(numbers) == list(range(numbers[0], numbers[-1] + 1)):
        return f"{numbers[0]} to {numbers[-1]}"
    return ", ".join(map(str, numbers))
