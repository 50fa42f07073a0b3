"""From a command's overrides to the checked plans of all its jobs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from distill.compose.plan import RunPlan
from distill.compose.preflight import Faults, preflight
from distill.compose.presets import Presets


@dataclass(frozen=True)
class Sweep:
    """All jobs of one command, and the overrides with which Hydra's sweeper makes the same jobs again."""

    jobs: list[RunPlan]
    overrides: list[str]
    multirun: bool


def prepare(
    overrides: Sequence[str],
    *,
    multirun: bool,
    config_dir: Path | None,
    faults: Sequence[str],
    may_download: bool,
) -> tuple[Presets, Sweep]:
    """Compose and check every job before the first starts.

    Args:
        overrides: as typed.
        multirun: whether `-m` was given; a `sweep` preset implies it.
        config_dir: the user's own presets.
        faults: what is wrong already.
        may_download: whether an absent data set may be fetched.

    Raises:
        Faults: everything wrong with any job.
    """
    found = list(faults)
    if any("--config-dir" in fault for fault in faults):
        raise Faults(found)
    presets = Presets(config_dir)
    parsed, wrong = presets.parse(overrides)
    found += wrong
    multirun = multirun or any(o.key_or_group == "sweep" and o.value() is not None for o in parsed)
    for override in parsed:
        if override.is_sweep_override() and (not multirun or override.key_or_group == "sweep"):
            remedy = "choose one sweep preset" if override.key_or_group == "sweep" else "add -m to sweep over them"
            found.append(f"{override.input_line} names several values: {remedy}")
    if multirun:
        parsed = presets.with_sweep(parsed)
    jobs = presets.jobs(parsed)
    plans: list[RunPlan] = []
    per_job: list[list[str]] = []
    for job in jobs:
        try:
            plans.append(preflight(presets.compose(job), presets, may_download=may_download and not found))
        except Faults as error:
            per_job.append(error.sentences)
    found += _merged(jobs, per_job)
    if found:
        raise Faults(found)
    return presets, Sweep(plans, [presets.text(o) for o in parsed], multirun)


def _merged(jobs: Sequence[Sequence[str]], per_job: Sequence[Sequence[str]]) -> list[str]:
    """Each fault once, with the number of jobs it concerns where that is not all of them."""
    counts: dict[str, int] = {}
    for sentences in per_job:
        for sentence in sentences:
            counts[sentence] = counts.get(sentence, 0) + 1
    return [
        sentence if count == len(jobs) else f"{sentence} (in {count} of {len(jobs)} jobs)"
        for sentence, count in counts.items()
    ]
