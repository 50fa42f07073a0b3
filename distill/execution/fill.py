"""The command carried out: everything is checked and told, then cohort after cohort is trained."""

import math
import shlex
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from distill.config.plan import RunPlan, epochs_asked
from distill.config.presets import Presets
from distill.execution.cohort_size import fitting_size
from distill.execution.deadline import Budget
from distill.execution.fill_costs import Costs
from distill.execution.fill_jobs import Filling, Job, plan_cells
from distill.execution.fill_order import groups, next_cohort, ready
from distill.execution.fill_report import Remaining, open_jobs, plan_lines
from distill.execution.fill_request import FillRequest
from distill.execution.jobs import Outcome, follow_plans
from distill.execution.progress import Progress, duration
from distill.execution.stopping import Interrupted, stop_when

say = partial(print, flush=True)
MANY = 20  # cells; a few are checked in no time


class BudgetTooShort(ValueError):
    """No epoch of any missing run fits into the budget; the text says which budget would do."""


def fill(asked: FillRequest, words: Sequence[str], *, retry: bool, only_plan: bool, begun: float) -> list[Outcome]:
    """Train the missing cells as far as the budget goes; returns how the runs ended that are still missing.

    Args:
        asked: what the command asks for.
        words: the command's own, to be typed again.
        retry: take up runs that failed before.
        only_plan: say what is missing, and stop.
        begun: `time.monotonic()` when the command began, from which the budget counts.

    Raises:
        Faults: everything that is wrong; nothing has been trained.
        BudgetTooShort: no epoch fits into the budget; nothing has been trained.
        Interrupted: the user stopped it; every run in training is saved.
    """
    budget = Budget(asked.budget, Progress(), begun=begun)
    if len(asked.table.cells) > MANY and sys.stderr.isatty():  # for a person who waits
        print(f"checking the runs of {len(asked.table.cells)} cells ...", file=sys.stderr)
    filling = plan_cells(asked, Presets(asked.config_dir))
    first = filling.jobs[0].plan
    costs = Costs(first.runs_dir, first)
    for line in plan_lines(asked, filling, costs):
        say(line)
    if only_plan or not open_jobs(filling.jobs):
        say(_hint(asked, first.runs_dir))
        return []
    return _Trainer(asked, filling, costs, budget, retry=retry).train(words)


class _Trainer:
    """Trains what is missing; remembers how runs ended, so that none is begun twice."""

    def __init__(self, asked: FillRequest, filling: Filling, costs: Costs, budget: Budget, *, retry: bool) -> None:
        self._asked, self._filling, self._costs, self._budget, self._retry = asked, filling, costs, budget, retry
        self._ended: dict[str, Outcome] = {}
        # the same whatever is finished: so a command typed again asks teachers in the form in which it began
        self._epochs_asked = epochs_asked([job.plan for job in group] for group in groups(filling.jobs))

    def train(self, words: Sequence[str]) -> list[Outcome]:
        """Cohort after cohort; returns how the runs ended that are still missing."""
        try:
            with stop_when(self._budget):
                while cohort := self._next():
                    self._run(cohort)
        except Interrupted:
            if not self._budget.struck:
                raise
        return self._end(words)

    def _waiting(self) -> list[Job]:
        closed = frozenset(run for run, outcome in self._ended.items() if outcome.status != "finished")
        return ready(self._filling.jobs, closed)

    def _next(self) -> list[Job]:
        cohort = next_cohort(self._waiting(), seconds=self._seconds, left=self._budget.left)
        if len(cohort) < 2:
            return cohort
        told: list[str] = []
        size = fitting_size([job.plan for job in cohort], note=told.append)
        if size < len(cohort):
            say("\n".join(told))
        return cohort[:size]

    def _seconds(self, plan: RunPlan) -> float:
        return self._costs.epoch(plan)[0] or 0.0

    def _run(self, cohort: Sequence[Job]) -> None:
        self._budget.rest()
        plans = [job.plan for job in cohort]
        outcomes = follow_plans(plans, self._budget, retry=self._retry, asked=self._epochs_asked)
        self._ended |= {plan.run_id: outcome for plan, outcome in zip(plans, outcomes, strict=True)}
        self._costs.refresh()

    def _end(self, words: Sequence[str]) -> list[Outcome]:
        jobs = self._filling.jobs
        missing = open_jobs(jobs)
        say(f"{len(jobs) - len(missing)} of {len(jobs)} runs finished")
        still = {job.plan.run_id for job in missing}  # what was busy elsewhere may be finished by now
        left = [outcome for run, outcome in self._ended.items() if run in still]
        for outcome in left:
            say(f"{outcome.status}: {outcome.text}")
        waiting = self._waiting()
        if waiting and not (self._ended or self._budget.struck):
            raise BudgetTooShort(self._too_short(waiting))
        if waiting:
            stopped = "" if self._asked.budget is None else "the budget is used: "
            rest = f"{len(missing)} runs are left, {Remaining(missing, self._costs)}"
            say(f"{stopped}{rest}; type the command again to go on: {shlex.join(['distill', 'fill', *words])}")
        say(_hint(self._asked, jobs[0].plan.runs_dir))
        return left

    def _too_short(self, waiting: Sequence[Job]) -> str:
        costs = {job.plan.directory.name: self._seconds(job.plan) for job in waiting}
        name = min(costs, key=lambda each: costs[each])
        need = 60 * math.ceil((costs[name] + 30) / 60) // 60
        return (
            f"the budget is less than an epoch of any missing run; the shortest, of {name}, takes about "
            f"{duration(costs[name])}: set budget={need}m or more"
        )


def _hint(asked: FillRequest, runs_dir: Path) -> str:
    words = ["distill", "table", f"table={asked.table.name}"]
    words += [override for override in asked.overrides if override.startswith("runs_dir=")]
    words += ["--config-dir", str(asked.config_dir)] if asked.config_dir else []
    return f"the table: {shlex.join(words)}"
