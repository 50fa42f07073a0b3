"""From a command's overrides to the checked plans of all its jobs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from distill.config.plan import RunPlan
from distill.config.preflight import DataAbsent, Faults, preflight
from distill.config.presets import FILLED, Composed, Presets
from distill.config.tuning import Search, Selection, cells_of, checked_seeds, corners, held_out, read_space

HOLDOUT = "dataset.holdout"


@dataclass(frozen=True)
class Sweep:
    """All jobs of one command, and the overrides with which Hydra's sweeper makes the same jobs again.

    `cohort_size` is the number of runs side by side in this process: 1, or the size of the cohort launcher; None where
    Hydra's sweeper and launcher have to start the jobs.
    With a `selection` they are trained without its held-out images, and it says what follows; with a `search` they
    are what its trials change, and are not trained as they are.
    """

    jobs: list[RunPlan]
    overrides: list[str]
    multirun: bool
    cohort_size: int | None
    selection: Selection | None = None
    search: Search | None = None


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
    presets = Presets(config_dir)
    wrong_groups: set[str] = set()
    parsed, wrong = presets.parse(overrides, wrong_groups)
    found += wrong
    multirun = multirun or any(o.key_or_group == "sweep" and o.value() is not None for o in parsed)
    for override in parsed:
        if override.is_sweep_override() and (not multirun or override.key_or_group == "sweep"):
            remedy = "choose one sweep preset" if override.key_or_group == "sweep" else "add -m to sweep over them"
            found.append(f"{override.input_line} names several values: {remedy}")
    base = presets.compose([presets.text(o) for o in parsed if not o.is_sweep_override()])
    if multirun:
        parsed = presets.with_sweep(parsed, base)
    jobs = presets.jobs(parsed)
    composed = [presets.compose(job) for job in jobs] if multirun else [base]
    uncertain = FILLED if "experiment" in wrong_groups else frozenset(wrong_groups)
    plans: list[RunPlan] = []
    per_job = [_launcher_faults(job, base) for job in composed]
    absent = False
    for job, sentences in zip(composed, per_job, strict=True):
        try:
            plans.append(preflight(job, presets, may_download=False, uncertain=uncertain))
        except Faults as error:
            sentences += error.sentences
        except DataAbsent:
            absent = True
    found += _merged(per_job)
    if absent and not (found or may_download):
        found.append("the data set is not here yet, and now nothing is downloaded: run the command without --cfg")
    if found:
        raise Faults(found)
    if absent:
        plans = [preflight(job, presets) for job in composed]
    texts = [presets.text(o) for o in parsed]
    sweep = Sweep(plans, texts, multirun, _cohort_size(texts, base))
    return presets, _as_asked(sweep, jobs, base, presets) if multirun else sweep


def _as_asked(sweep: Sweep, jobs: list[list[str]], base: Composed, presets: Presets) -> Sweep:
    """The sweep as its preset wants it: run as it is, tuned over its grid, or searched."""
    node = base.config.get("sweep") or {}
    if node.get("select"):
        tuned = _tuned(node["select"], sweep, jobs, presets)
        return _searched(node["search"], tuned, jobs, base, presets) if node.get("search") else tuned
    if node.get("search"):
        raise Faults(["sweep.search has nothing to judge its trials by: set sweep.select={holdout: 0.1, seeds: 4}"])
    return sweep


def _tuned(select: Mapping[str, Any], sweep: Sweep, jobs: list[list[str]], presets: Presets) -> Sweep:
    """The same jobs without the images on which the best are chosen; all have passed with them already."""
    plans, texts = sweep.jobs, sweep.overrides
    typed = any(text.lstrip("+").startswith(f"{HOLDOUT}=") for text in texts)
    holdouts = {plan.dataset.holdout for plan in plans}
    try:
        images = min(len(plan.dataset.train_labels) for plan in plans)
        seeds = checked_seeds(int(select["seeds"]))
        holdout = min(holdouts) if typed else held_out(float(select["holdout"]), images)
    except ValueError as error:
        raise Faults([str(error)]) from error
    if typed and (len(holdouts) > 1 or not holdout):
        raise Faults(
            [f"a sweep that tunes needs one {HOLDOUT} > 0: leave it out, or add sweep.select=null to tune on nothing"]
        )
    if not typed:
        texts = [*texts, f"++{HOLDOUT}={holdout}"]
        plans = [preflight(presets.compose([*job, f"++{HOLDOUT}={holdout}"]), presets) for job in jobs]
    fixed, cells = cells_of(jobs, presets)
    fixed = tuple(text for text in fixed if not text.lstrip("+").startswith(f"{HOLDOUT}="))
    final = (*fixed, f"++{HOLDOUT}=0", "++sweep.select=null", "++sweep.search=null")
    return replace(sweep, jobs=plans, overrides=texts, selection=Selection(holdout, seeds, final, cells))


def _searched(node: Mapping[str, Any], sweep: Sweep, jobs: list[list[str]], base: Composed, presets: Presets) -> Sweep:
    """A sweep whose cells are searched; the ends of the space are composed and checked like any job."""
    assert sweep.selection is not None
    faults = []
    if node["trials"] < 1:
        faults.append(f"sweep.search.trials must be >= 1, got {node['trials']}: set sweep.search.trials=20")
    if any(cell.values or len(cell.jobs) > 1 for cell in sweep.selection.cells):
        faults.append(
            "a search proposes values itself and takes one seed: sweep over groups only, e.g. loss=kd,zscore_kd"
        )
    if not _is_basic(base, "launcher"):
        faults.append("a search runs its trials one after the other: leave hydra/launcher out")
    if find_spec("optuna") is None:
        faults.append("sweep.search needs the package optuna: pip install 'distill[optuna]'")
    try:
        space = read_space(node["space"])
    except ValueError as error:
        raise Faults([*faults, *str(error).splitlines()]) from error
    bases = tuple((*job, f"++{HOLDOUT}={sweep.selection.holdout}") for job in jobs)
    for corner in (corner for job in bases for corner in corners(job, space)):
        try:
            preflight(presets.compose(corner), presets)
        except Faults as error:
            faults += error.sentences
    if faults:
        raise Faults(faults)
    return replace(sweep, search=Search(node["trials"], node["seed"], space, bases))


def _cohort_size(texts: Sequence[str], base: Composed) -> int | None:
    """Runs side by side where this process may run the jobs itself; None where Hydra's settings ask for more."""
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


def _launcher_faults(job: Composed, base: Composed) -> list[str]:
    """What is wrong with launcher and sweeper, which Hydra reads once, before the jobs are told apart."""
    size = base.launching.get("launcher", {}).get("size")
    if isinstance(size, int) and size < 1:
        return [f"hydra.launcher.size must be >= 1, got {size}: set hydra.launcher.size=8, say"]
    if not (job.launching and base.launching) or job.launching == base.launching:
        return []
    return [
        "a preset that is swept over sets hydra.launcher or hydra.sweeper, which Hydra would ignore: "
        "choose it on the command line, e.g. hydra/launcher=cohort"
    ]


def _merged(per_job: Sequence[Sequence[str]]) -> list[str]:
    """Each fault once, with the number of jobs it concerns where that is not all of them."""
    counts: dict[str, int] = {}
    for sentences in per_job:
        for sentence in sentences:
            counts[sentence] = counts.get(sentence, 0) + 1
    return [
        sentence if count == len(per_job) else f"{sentence} (in {count} of {len(per_job)} jobs)"
        for sentence, count in counts.items()
    ]
