"""The pieces of work that are measured, by the names of `rows=`."""

from contextlib import ExitStack

from distill.bench.figure import Figure, Note, Row
from distill.bench.lab import Lab
from distill.bench.rounds import measure
from distill.bench.rows.data import data_path
from distill.bench.rows.epochs import epoch, evaluation, work
from distill.bench.rows.group import Build, figures_of
from distill.bench.rows.kernels import kernel_facts
from distill.bench.rows.memory import peaks
from distill.bench.rows.run import building, whole_runs
from distill.bench.rows.steps import cohorts, compiled_distillation, distillation, student
from distill.bench.rows.teacher import teacher
from distill.training import why_not_compiled


def timed(build: Build) -> Row:
    """A row whose variants are measured side by side."""

    def row(lab: Lab, note: Note) -> list[Figure]:
        with ExitStack() as stack:
            group = build(lab, stack)
            variants = [group.peer, *(each.variant for each in group.ours)]
            costs = measure(variants, rounds=lab.sizes.rounds, warm_up=lab.sizes.warm_up, clock=lab.clock)
        return figures_of(group, costs)

    return row


def compiled_steps(lab: Lab, note: Note) -> list[Figure]:
    """Compiled steps, where there is a compiler."""
    reason = why_not_compiled(lab.device)
    if reason is not None:
        note(f"row compile is left out: {reason}")
        return []
    return timed(compiled_distillation)(lab, note)


ROWS: dict[str, Row] = {
    "data": timed(data_path),
    "teacher": timed(teacher),
    "student": timed(student),
    "step": timed(distillation),
    "compile": compiled_steps,
    "cohort": timed(cohorts),
    "evaluation": timed(evaluation),
    "epoch": timed(epoch),
    "memory": peaks,
    "work": timed(work),
    "run": whole_runs,
    "table": building,
    "kernels": kernel_facts,
}
