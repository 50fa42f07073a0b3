"""The form in which a teacher is asked: live, or by the table of its logits."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from distill.config.plan import RunPlan, data_identity
from distill.objectives import Objective
from distill.runs.files import StorageError, read_json
from distill.runs.identity import run_id
from distill.runs.layout import RESULT
from distill.runs.store import weightless
from distill.training import resolve_precision


def not_from_a_table(objective: Objective) -> str | None:
    """Why a table of the teacher's logits cannot serve an objective; None where it can."""
    if not objective.needs_teacher:
        return "it reads no teacher, whom its first stage alone needs"
    if objective.two_views:
        return "it shows the teacher a second view, which is not numbered"
    return None if objective.logits_only else "it reads more of the teacher than its logits"


def source_faults(teacher: Mapping[str, Any], objectives: Iterable[Objective | None], *, option: str) -> list[str]:
    """A sentence where `teacher.source=table` is asked for by a method that it cannot serve."""
    reasons = [not_from_a_table(each) for each in objectives if each is not None and each.needs_teacher]
    if teacher.get("source") != "table" or not any(reasons):
        return []
    reason = next(filter(None, reasons))
    return [f"teacher.source=table cannot serve loss={option}: {reason}; set teacher.source=live or auto"]


def other_source(plan: RunPlan) -> str | None:
    """A sentence where a finished run asked its teacher in another form than the one now pinned."""
    pinned = (plan.config.get("teacher") or {}).get("source")
    if pinned not in ("live", "table") or plan.teacher is None:
        return None
    try:
        facts = (read_json(plan.directory / RESULT) or {}).get("teacher")
    except StorageError:
        return None  # told when the run is looked at
    used = facts.get("source") if isinstance(facts, Mapping) else None
    if used in (None, pinned):
        return None
    return (
        f"teacher.source={pinned}, but the finished run {plan.directory} has source {used}: "
        "leave the source out to take that run, or repeat it under another runs_dir"
    )


def weights_gone(plan: RunPlan) -> str | None:
    """A sentence where a run that is still to be trained starts from one that is here as a record without weights."""
    if (plan.directory / RESULT).is_file():
        return None
    for what, each in (("teacher", plan.teacher), ("first stage", plan.first_stage)):
        if isinstance(each, RunPlan) and (sentence := weightless(each.directory)):
            return f"{what} {each.names['student']}: {sentence}"
    return None


def teacher_use(plan: RunPlan) -> str:
    """What plans have in common that would read one table: teacher, its precision, the data and the device."""
    return run_id(
        {
            "teacher": plan.identity["teacher"],
            "precision": teacher_precision(plan),
            "data": data_identity(plan.dataset),
            "device": plan.device.type,
        }
    )


def teacher_precision(plan: RunPlan) -> str:
    """The precision in which the plan's teacher is run, resolved."""
    if isinstance(plan.teacher, RunPlan):
        return plan.teacher.precision
    return resolve_precision(plan.config["teacher"]["precision"] or plan.precision, plan.device)


def epochs_asked(groups: Iterable[Sequence[RunPlan]]) -> dict[str, int]:
    """For each `teacher_use` the epochs of teacher forwards that runs ask for if it is run live.

    Each group trains side by side: its runs with equal streams share a forward. Finished runs count too, so that a
    command typed again decides as it did at first.
    """
    asked: dict[str, int] = {}
    for group in groups:
        streams = {}
        for plan in group:
            for each in (plan, plan.first_stage):
                if each is not None and each.teacher is not None and not_from_a_table(each.objective()) is None:
                    streams[teacher_use(each), each.seed, each.recipe.batch_size] = each.recipe.epochs
        for (use, _, _), epochs in streams.items():
            asked[use] = asked.get(use, 0) + epochs
    return asked
