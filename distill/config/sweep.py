"""From a command's overrides to the checked plans of all its jobs."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from distill.config.check import check_typed
from distill.config.compose.composer import Composed
from distill.config.compose.presets import FILLED, MOST_JOBS, Presets
from distill.config.faults import Fault, Refused, key_of
from distill.config.plan import RunPlan
from distill.config.preflight import preflight
from distill.config.schema import SweepNode
from distill.config.tuning import (
    HoldoutTuning,
    Search,
    checked_seeds,
    combinations_of,
    corners,
    holdout_size,
    read_space,
)

HOLDOUT = "dataset.holdout"
JobKey = frozenset[str]  # the overrides of a job, without those of Hydra's own node


@dataclass(frozen=True)
class Sweep:
    """All jobs of one command.

    jobs         their plans, in the order in which Hydra's own sweeper runs them
    planned      the same plans by their overrides, for a launcher to find the plan of the job that it is given
    overrides    with these Hydra's sweeper makes the same jobs again
    cohort_size  the number of runs side by side in this process: 1, or the size of the cohort launcher; None where
                 Hydra's sweeper and launcher have to start the jobs
    tuning       for a sweep that tunes: the jobs are trained without its held-out images, on which the best is chosen
    search       for a sweep that searches: its trials replace the values of the jobs
    """

    jobs: list[RunPlan]
    planned: Mapping[JobKey, RunPlan]
    overrides: list[str]
    multirun: bool
    cohort_size: int | None
    tuning: HoldoutTuning | None = None
    search: Search | None = None


def job_of(overrides: Sequence[str]) -> JobKey:
    """The key of a job in `Sweep.planned`."""
    return frozenset(override for override in overrides if not override.startswith("hydra"))


def prepare(
    overrides: Sequence[str],
    *,
    multirun: bool,
    config_dir: Path | None,
    faults: Sequence[Fault | str],
    may_download: bool,
) -> tuple[Presets, Sweep]:
    """Compose and check every job before the first starts.

    Args:
        overrides: as typed.
        multirun: whether `-m` was given; a `sweep` preset implies it.
        config_dir: the user's own presets.
        faults: what is wrong with the command's options.
        may_download: whether a data set that is not here may be downloaded.

    Raises:
        Refused: everything wrong with any job.
    """
    presets = Presets(config_dir)
    # a value set for a key of a sweep preset replaces the preset's, as the key alone does
    parsed, wrong = presets.parse([re.sub(r"^\+{0,2}sweep\.params\.(?=[^=])", "", text) for text in overrides])
    found = [*Refused(faults).faults, *wrong]
    wrong_groups = frozenset(fault.key for fault in wrong if fault.kind == "option")
    multirun = multirun or any(o.key_or_group == "sweep" and o.value() is not None for o in parsed)
    for override in parsed:
        of_sweep = override.key_or_group.partition(".")[0] == "sweep"
        if override.is_sweep_override() and (not multirun or of_sweep):
            remedy = "choose one" if of_sweep else "add -m to sweep over them"
            remedy += " sweep preset" if override.key_or_group == "sweep" else ""
            text = f"{override.input_line} names several values: {remedy}"
            found.append(Fault(override.key_or_group, "value", text))
    base = presets.compose([presets.text(o) for o in parsed if not o.is_sweep_override()])
    if multirun:
        parsed, wrong = presets.with_sweep(parsed, base)
        found += wrong
        count = math.prod(len(list(o.sweep_string_iterator())) for o in parsed if o.is_sweep_override())
        if count > MOST_JOBS:
            raise Refused([*found, f"the sweep has {count:,} runs: name fewer values, at most {MOST_JOBS:,} runs"])
    jobs = presets.jobs(parsed) if multirun else [[presets.text(o) for o in parsed if not o.is_sweep_override()]]
    composed = [presets.compose(job) for job in jobs] if multirun else [base]
    uncertain = FILLED if "experiment" in wrong_groups else wrong_groups
    plans: list[RunPlan] = []
    per_job = [_launcher_faults(job, base) for job in composed]
    absent: list[Fault] = []
    for job, own in zip(composed, per_job, strict=True):
        try:
            plans.append(preflight(job, presets, may_download=False, uncertain=uncertain))
        except Refused as refused:
            (absent if refused.faults and refused.needs_download else own).extend(refused.faults)
    unread = {fault.key for fault in found if fault.kind == "syntax"}
    found += (fault for fault in _merged(per_job) if not (fault.kind == "missing" and fault.key in unread))
    if found or (absent and not may_download):
        raise Refused(found or absent)
    if absent:
        plans = [preflight(job, presets) for job in composed]
    texts = [presets.text(o) for o in parsed]
    planned = dict(zip(map(job_of, jobs), plans, strict=True))
    sweep = Sweep(plans, planned, texts, multirun, _cohort_size(texts, base))
    return presets, _with_tuning(sweep, jobs, base, presets) if multirun else sweep


def _with_tuning(sweep: Sweep, jobs: list[list[str]], base: Composed, presets: Presets) -> Sweep:
    """The sweep as its preset defines it: run as it is, tuned over its grid, or searched."""
    node = check_typed(base.config.get("sweep") or {}, SweepNode, "sweep", [])  # without faults: each job contains it
    if node.get("select"):
        tuned = _tuned(node["select"], sweep, jobs, presets)
        return _searched(node["search"], tuned, jobs, base, presets) if node.get("search") else tuned
    if node.get("search"):
        text = "sweep.search needs held-out images to compare its trials: set sweep.select={holdout: 0.1, seeds: 4}"
        raise Refused([Fault("sweep.select", "missing", text)])
    return sweep


def _tuned(select: Mapping[str, Any], sweep: Sweep, jobs: list[list[str]], presets: Presets) -> Sweep:
    """The same jobs without the images on which the best are chosen; all have passed with these images already."""
    plans, texts = sweep.jobs, sweep.overrides
    typed = any(text.lstrip("+").startswith(f"{HOLDOUT}=") for text in texts)
    holdouts = {plan.dataset.holdout for plan in plans}
    seeds = checked_seeds(select["seeds"])
    images = min(len(plan.dataset.train_labels) for plan in plans)
    holdout = min(holdouts) if typed else holdout_size(select["holdout"], images)
    if typed and (len(holdouts) > 1 or not holdout):
        text = f"a sweep that tunes needs one {HOLDOUT} > 0: leave it out, or add sweep.select=null"
        raise Refused([Fault(HOLDOUT, "conflict", text)])
    planned = sweep.planned
    if not typed:
        texts = [*texts, f"++{HOLDOUT}={holdout}"]
        jobs_held_out = [[*job, f"++{HOLDOUT}={holdout}"] for job in jobs]
        plans = [preflight(presets.compose(job), presets) for job in jobs_held_out]
        planned = dict(zip(map(job_of, jobs_held_out), plans, strict=True))
    fixed, combinations = combinations_of(jobs, presets)
    fixed = tuple(text for text in fixed if not text.lstrip("+").startswith(f"{HOLDOUT}="))
    final = (*fixed, f"++{HOLDOUT}=0", "++sweep.select=null", "++sweep.search=null")
    tuning = HoldoutTuning(holdout, seeds, final, combinations)
    return replace(sweep, jobs=plans, planned=planned, overrides=texts, tuning=tuning)


def _searched(node: Mapping[str, Any], sweep: Sweep, jobs: list[list[str]], base: Composed, presets: Presets) -> Sweep:
    """A sweep whose values are searched; the ends of the space are composed and checked like any job."""
    assert sweep.tuning is not None
    faults: list[Fault] = []
    if node["trials"] < 1:
        text = f"sweep.search.trials must be >= 1, got {node['trials']}: set sweep.search.trials=20"
        faults.append(Fault("sweep.search.trials", "value", text))
    if any(each.values or len(each.jobs) > 1 for each in sweep.tuning.combinations):
        text = "a search proposes values itself and takes one seed: sweep over groups only, e.g. loss=kd,zscore_kd"
        faults.append(Fault("sweep.search", "conflict", text))
    if not _is_basic(base, "launcher"):
        text = "a search runs its trials one after the other: leave hydra/launcher out"
        faults.append(Fault("hydra/launcher", "conflict", text))
    if find_spec("optuna") is None:
        text = "sweep.search needs the package optuna: pip install 'distill[optuna]'"
        faults.append(Fault("sweep.search", "absent", text))
    try:
        # a key that the command sets keeps that value
        fixed = set(map(key_of, sweep.tuning.fixed))
        space = read_space({key: value for key, value in node["space"].items() if key not in fixed})
    except Refused as refused:
        raise Refused([*faults, *refused.faults]) from refused
    bases = tuple((*job, f"++{HOLDOUT}={sweep.tuning.holdout}") for job in jobs)
    for corner in (corner for job in bases for corner in corners(job, space)):
        try:
            preflight(presets.compose(corner), presets)
        except Refused as refused:
            faults += refused.faults
    if faults:
        raise Refused(faults)
    return replace(sweep, search=Search(node["trials"], node.get("seed", 0), space, bases))


def _cohort_size(texts: Sequence[str], base: Composed) -> int | None:
    """Runs side by side if this process may run the jobs itself; None if Hydra's settings require its own sweeper."""
    ours = ("hydra/launcher=", "hydra.launcher.size=")
    settings = [text for text in (text.lstrip("+~") for text in texts) if text.startswith("hydra")]
    if not _is_basic(base, "sweeper") or any(not text.startswith(ours) for text in settings):
        return None
    launcher = base.launching.get("launcher", {})
    cohort = str(launcher.get("_target_", "")).endswith(".CohortLauncher")
    return 1 if _is_basic(base, "launcher") else int(launcher["size"]) if cohort else None


def _is_basic(base: Composed, part: str) -> bool:
    target = str(base.launching.get(part, {}).get("_target_", ""))
    return target.split(".")[-1].startswith("Basic")


def _launcher_faults(job: Composed, base: Composed) -> list[Fault]:
    """What is wrong with launcher and sweeper, which Hydra reads once, from what all jobs share."""
    size = base.launching.get("launcher", {}).get("size")
    if isinstance(size, int) and size < 1:
        text = f"hydra.launcher.size must be >= 1, got {size}: set hydra.launcher.size=8, for example"
        return [Fault("hydra.launcher.size", "value", text)]
    if not (job.launching and base.launching) or job.launching == base.launching:
        return []
    text = (
        "a preset that is swept over sets hydra.launcher or hydra.sweeper, which Hydra would ignore: "
        "choose it on the command line, e.g. hydra/launcher=cohort"
    )
    return [Fault("hydra/launcher", "conflict", text)]


def _merged(per_job: Sequence[Sequence[Fault]]) -> list[Fault]:
    """Each fault once, with the number of jobs it concerns where that is not all of them."""
    counts: dict[Fault, int] = {}
    for faults in per_job:
        for fault in dict.fromkeys(faults):
            counts[fault] = counts.get(fault, 0) + 1
    return [
        fault if count == len(per_job) else replace(fault, text=f"{fault} (in {count} of {len(per_job)} jobs)")
        for fault, count in counts.items()
    ]
