"""What `distill fill` says: the plan before anything is trained, and what is left at the end."""

from collections import Counter
from collections.abc import Iterable, Sequence

from distill.execution.fill_costs import UNKNOWN, Costs
from distill.execution.fill_jobs import STUDENT, Filling, Job
from distill.execution.fill_order import State, state
from distill.execution.fill_request import FillRequest
from distill.execution.progress import duration
from distill.runs.layout import METRICS
from distill.runs.lines import read_lines

PREPARATION = "teachers and first stages"


class Remaining:
    """How long runs still take, one after the other, and what that estimate rests on."""

    def __init__(self, jobs: Iterable[Job], costs: Costs) -> None:
        self.seconds = 0.0
        self.unknown = 0
        self.bases: Counter[str] = Counter()
        for job in jobs:
            epochs = job.plan.recipe.epochs - len(read_lines(job.plan.directory / METRICS))
            seconds, basis = costs.epoch(job.plan)
            self.bases[basis] += 1
            self.unknown += seconds is None
            self.seconds += max(0, epochs) * (seconds or 0.0)

    def __str__(self) -> str:
        known = f"about {duration(self.seconds)}" if self.seconds or not self.unknown else ""
        unknown = f"{self.unknown} of unknown time" if known else "time unknown"
        return ", ".join([*([known] if known else []), *([unknown] if self.unknown else [])])

    @property
    def rests_on(self) -> str:
        """The kinds of estimates, the commonest first."""
        return "; ".join(basis for basis, _ in self.bases.most_common())


def plan_lines(asked: FillRequest, filling: Filling, costs: Costs) -> list[str]:
    """What is there, what is missing and how long that takes, row by row."""
    table = asked.table
    size = f"{len(table.rows)} rows x {len(table.columns)} columns"
    seeds = f"seeds {_listed(asked.seeds)}, teacher.seed {_listed(asked.teacher_seeds)}"
    lines = [f"table {table.name}: {size}, {seeds}"]
    jobs = {job.plan.run_id: job for job in filling.jobs}
    parts = {PREPARATION: [job for job in filling.jobs if job.kind != STUDENT]}
    for row in table.rows:
        ids = {run: None for (key, _), runs in filling.cells.items() if key == row.key for run in runs}
        parts[row.key] = [jobs[run] for run in ids]
    width = max(map(len, parts))
    lines += [f"  {name:<{width}}  {_standing(part, costs)}" for name, part in parts.items() if part]
    for (row_key, column), reason in _left_out(filling).items():
        lines.append(f"left out: {row_key}, {column}: {reason}")
    missing = open_jobs(filling.jobs)
    if not missing:
        nothing = "nothing else" if filling.left_out else "nothing"
        return [*lines, f"{nothing} is missing: {len(filling.jobs)} runs are finished"]
    remaining = Remaining(missing, costs)
    rests = "" if remaining.rests_on == UNKNOWN else f" ({remaining.rests_on})"
    return [*lines, f"{len(missing)} runs to train, {remaining} one after the other{rests}"]


def open_jobs(jobs: Sequence[Job]) -> list[Job]:
    """Those that are not finished."""
    return [job for job in jobs if state(job.plan) is not State.FINISHED]


def _standing(jobs: Sequence[Job], costs: Costs) -> str:
    counts = Counter(state(job.plan) for job in jobs)
    words = [f"{counts[State.FINISHED]} of {len(jobs)} finished"]
    words += [f"{counts[each]} {each.value}" for each in (State.HALF, State.FAILED, State.DAMAGED) if counts[each]]
    missing = open_jobs(jobs)
    return ", ".join([*words, *([str(Remaining(missing, costs))] if missing else [])])


def _left_out(filling: Filling) -> dict[tuple[str, str], str]:
    """Cells left out, told by row where all of its cells are left out for one reason."""
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
