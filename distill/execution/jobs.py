"""The runs of one `distill train` command: a run, a sweep or a search; jobs one by one, in cohorts or by a launcher."""

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NoReturn

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig

from distill.config.compose.composer import LAUNCH
from distill.config.compose.presets import Presets
from distill.config.faults import Refused
from distill.config.plan import RunPlan, teacher_epochs_of
from distill.config.preflight import preflight
from distill.config.sweep import JobKey, Sweep, job_of, prepare
from distill.config.tuning import Chosen, HoldoutTuning, best_of_each_method
from distill.execution.execute import Console, Result, cohorts, execute
from distill.execution.progress import TrainingProgress, discard_output, duration, say
from distill.execution.stopping import Interrupted, RunFailed, end_with
from distill.runs.files import StorageError, explain, keep_trace
from distill.runs.lock import Busy
from distill.runs.store import read_run
from distill.training import ProcessLost, Watch, this_world

Status = Literal["finished", "failed", "busy"]  # busy: another process is training it
ONE_PROCESS = {"basic", "cohort"}  # launchers whose jobs run in this process


@dataclass(frozen=True)
class Outcome:
    """How one job ended; as a float its accuracy, for sweepers that optimise."""

    name: str
    path: str
    status: Status
    text: str
    accuracy: float = float("nan")

    def __float__(self) -> float:
        return self.accuracy


def run_sweep(presets: Presets, sweep: Sweep, *, config_dir: Path | None, retry: bool) -> list[Outcome]:
    """Train the runs of a command and, if its sweep tunes, what it chose; returns how each run ended.

    Raises:
        StorageError: Hydra's files or those of a search cannot be written.
        Busy: another process works on the same search.
        Interrupted: the user stopped the search.
    """
    if this_world().size > 1 and (sweep.search is not None or (sweep.multirun and sweep.cohort_size != 1)):
        raise Refused(["several processes train the runs of a sweep one after the other: leave hydra/launcher out"])
    note = _once()
    if sweep.tuning is None:
        return _run(presets, sweep, config_dir=config_dir, retry=retry, note=note)
    outcomes: list[Outcome] = []
    if sweep.search is None:
        outcomes += _run(presets, sweep, config_dir=config_dir, retry=retry, note=note)
        tuning = sweep.tuning
        chosen: Iterable[Chosen] = this_world().first(lambda: _best(sweep, tuning))
    else:
        from distill.execution.search import optimise  # optuna is an optional extra

        chosen = optimise(sweep.search, sweep.tuning.combinations, sweep.jobs, presets, retry=retry)
    return outcomes + list(_train_chosen(chosen, sweep.tuning, config_dir=config_dir, retry=retry, note=note))


def _run(
    presets: Presets, sweep: Sweep, *, config_dir: Path | None, retry: bool, note: Callable[[str], None]
) -> list[Outcome]:
    if not sweep.multirun:
        return run_plans(sweep.jobs, retry=retry)
    finished = this_world().first(lambda: all(job.is_finished for job in sweep.jobs))
    if finished:  # typed again: there is nothing to launch
        return list(summarise(run_plans(sweep.jobs, retry=retry)))
    if sweep.cohort_size is not None:
        return list(summarise(run_cohorts(sweep.jobs, size=sweep.cohort_size, retry=retry, note=note)))
    teacher_epochs = teacher_epochs_of([job] for job in sweep.jobs)
    run = partial(
        run_job,
        planned=sweep.planned,
        config_dir=config_dir,
        retry=retry,
        command=os.getpid(),
        teacher_epochs=teacher_epochs,
    )
    try:
        returned = presets.composer.hydra.multirun(LAUNCH, run, sweep.overrides, with_log_configuration=False)
    except BrokenPipeError:
        raise
    except OSError as error:  # Hydra's own notes, in runs_dir/.hydra
        raise StorageError(explain(Path(error.filename or sweep.jobs[0].runs_dir), error)) from error
    except RuntimeError as error:  # joblib or submitit lost a process, for example one killed for its memory
        reason = next(iter(str(error).splitlines()), "")
        say(f"the launcher failed: {type(error).__name__}: {reason}", stream=sys.stderr)
        return list(summarise(outcomes_on_disk(sweep.jobs, "did not finish; type the command again to go on")))
    return list(summarise([job.return_value for batch in returned for job in batch]))


def _best(sweep: Sweep, tuning: HoldoutTuning) -> list[Chosen]:
    """The best combination of each method, by the accuracy of its finished runs on the held-out images."""
    finished = {position: read_run(job.directory) for position, job in enumerate(sweep.jobs)}
    accuracies = {
        position: float(record.result["last"]["accuracy"])
        for position, record in finished.items()
        if record is not None and record.status == "finished" and record.result is not None
    }
    return best_of_each_method(tuning.combinations, accuracies)


def _train_chosen(
    chosen: Iterable[Chosen],
    tuning: HoldoutTuning,
    *,
    config_dir: Path | None,
    retry: bool,
    note: Callable[[str], None],
) -> Iterator[Outcome]:
    """Train the chosen combinations on all images; yields a failure for each method without a finished one."""
    left = {each.method for each in tuning.combinations}
    for each in chosen:
        left.discard(each.combination.method)
        say(
            f"chosen: {each.combination.title}, {each.accuracy:.2f} % on {tuning.holdout:,} held-out images\n"
            f"  {each.rank}; now on all images, {tuning.seeds} seeds of students"
        )
        overrides = tuning.overrides(each.combination)
        presets, final = prepare(overrides, multirun=True, config_dir=config_dir, faults=[], may_download=False)
        yield from _run(presets, final, config_dir=config_dir, retry=retry, note=note)
    for method in sorted(left):
        name = " ".join(method) or "this sweep"
        say(f"nothing to choose from for {name}: no configuration finished")
        yield Outcome(name, "", "failed", "no configuration finished")


def run_job(
    config: DictConfig,
    *,
    planned: Mapping[JobKey, RunPlan],
    config_dir: Path | None,
    retry: bool,
    command: int,
    teacher_epochs: Mapping[str, int] | None = None,
) -> Outcome:
    """One job of a sweep, in the process in which its launcher starts it; a failure is in the outcome, not raised.

    Args:
        config: the job as Hydra's launcher composed it.
        planned: the checked plans of the sweep.
        config_dir: the user's own presets.
        retry: take up runs that failed before.
        command: the id of the process of the command, with which this one ends.
        teacher_epochs: for each teacher the epochs that the whole command needs of it.
    """
    end_with(command)
    hydra = HydraConfig.get()
    plan = plan_job(config, hydra, planned, config_dir)
    if isinstance(plan, Outcome):
        return plan
    jobs = list({each.run_id: each for each in planned.values()}.values())
    watch = TrainingProgress(titles=titles(jobs))
    return run_plans([on_own_device(plan, hydra)], retry=retry, teacher_epochs=teacher_epochs, watch=watch)[0]


def plan_job(
    config: DictConfig, hydra: Any, planned: Mapping[JobKey, RunPlan], config_dir: Path | None
) -> RunPlan | Outcome:
    """The plan of a job. One that is not in `planned`, from a sweeper that proposes values, is checked only now."""
    overrides = list(hydra.overrides.task)
    try:
        if job_of(overrides) in planned:
            return planned[job_of(overrides)]
        presets = Presets(config_dir)
        return preflight(presets.composer.from_hydra(config, hydra, overrides), presets)
    except Refused as refused:
        print(refused, file=sys.stderr, flush=True)
        name = " ".join(overrides)
        return Outcome(name, "", "failed", f"{name}: {refused.sentences[0]}")


def on_own_device(plan: RunPlan, hydra: Any) -> RunPlan:
    """The plan of a job in a process of its own with the GPU of its number, if `engine.device` is `auto`.

    By number and not by CUDA_VISIBLE_DEVICES: joblib reuses its processes, and a process that has opened its GPUs
    does not read the variable again. Where a scheduler gives each job its GPUs, the job sees these alone.
    """
    if this_world().size > 1 and plan.config["engine"]["device"] == "auto":
        return plan.moved("cuda") if torch.cuda.is_available() else plan  # of its local rank
    one_process = hydra.runtime.choices.get("hydra/launcher", "basic") in ONE_PROCESS
    # device_count() also counts a GPU whose driver is too old
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if one_process or plan.config["engine"]["device"] != "auto" or gpus < 1:
        return plan
    return plan.moved(f"cuda:{hydra.job.num % gpus}")


def launch(
    configs: Sequence[DictConfig],
    *,
    size: int,
    planned: Mapping[JobKey, RunPlan],
    config_dir: Path | None,
    retry: bool,
) -> list[JobReturn]:
    """Train the jobs that a sweeper has composed in cohorts; one return for each job, in their order."""
    jobs = [plan_job(config, config.hydra, planned, config_dir) for config in configs]
    plans = [job for job in jobs if isinstance(job, RunPlan)]
    outcomes = iter(run_cohorts(plans, size=size, retry=retry))
    returns = []
    for job in jobs:
        done = JobReturn(status=JobStatus.COMPLETED)
        done.return_value = job if isinstance(job, Outcome) else next(outcomes)
        returns.append(done)
    return returns


def run_cohorts(
    plans: Sequence[RunPlan], *, size: int, retry: bool, note: Callable[[str], None] | None = None
) -> list[Outcome]:
    """Train checked plans in cohorts of at most `size`; returns their outcomes in the order of `plans`."""
    groups = cohorts(plans, size=size)
    teacher_epochs = teacher_epochs_of(groups)
    distinct = [plan for group in groups for plan in group]
    watch = TrainingProgress(titles=titles(distinct), epochs=sum(plan.epochs_left for plan in distinct))
    note = note or _once()
    outcomes: dict[str, Outcome] = {}
    for group in groups:
        ended = run_plans(group, retry=retry, teacher_epochs=teacher_epochs, watch=watch, note=note)
        outcomes |= {plan.run_id: outcome for plan, outcome in zip(group, ended, strict=True)}
    return [outcomes[plan.run_id] for plan in plans]


def titles(plans: Sequence[RunPlan]) -> dict[str, str]:
    """By the name of its folder, a run's place among these, its id and what differs: `3/12 9f1acb kd temperature=4`."""
    facts = [{**plan.names, "seed": f"seed={plan.seed}"} for plan in plans]
    differing = [key for key in facts[0] if len({each.get(key) for each in facts}) > 1] if facts else []
    return {
        plan.directory.name: " ".join([f"{place}/{len(plans)}", plan.run_id[:6], *(each[key] for key in differing)])
        for place, (plan, each) in enumerate(zip(plans, facts, strict=True), start=1)
    }


def _once() -> Callable[[str], None]:
    """A function that prints each sentence once: for example where the teacher of a whole sweep comes from."""
    printed: set[str] = set()

    def note(sentence: str) -> None:
        if sentence not in printed:
            printed.add(sentence)
            say(sentence)

    return note


def run_plans(
    plans: Sequence[RunPlan],
    *,
    retry: bool,
    teacher_epochs: Mapping[str, int] | None = None,
    watch: Watch | None = None,
    note: Callable[[str], None] = say,
) -> list[Outcome]:
    """Train runs side by side and print how each ended; `teacher_epochs` as for `execute`, `note` prints a sentence.

    Raises:
        SystemExit: the user stopped the command.
    """
    try:
        watch = TrainingProgress() if watch is None else watch
        return follow_plans(plans, watch, retry=retry, teacher_epochs=teacher_epochs, note=note)
    except Interrupted as error:
        print(error, file=sys.stderr)
        raise SystemExit(1) from None  # also inside a launcher: the whole command stops


def follow_plans(
    plans: Sequence[RunPlan],
    watch: Watch,
    *,
    retry: bool,
    teacher_epochs: Mapping[str, int] | None = None,
    note: Callable[[str], None] = say,
) -> list[Outcome]:
    """As `run_plans`, with a `watch` of the caller's; an interruption does not end the process. Raises Interrupted."""
    finished_before = {plan.run_id for plan in plans if plan.is_finished}
    console = Console(note, watch)
    try:
        endings = execute(plans, console, retry=retry, teacher_epochs=teacher_epochs)
    except Interrupted:
        raise
    except BrokenPipeError:  # the reader of stdout (`| head`) has gone; typed again, the command goes on
        discard_output()
        raise SystemExit(1) from None
    except ProcessLost as error:
        _leave(str(error))
    except Exception as error:  # unforeseen: the trace is what a bug report needs
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        sentence = f"internal error: {reason}; the trace is in {keep_trace(plans[0].runs_dir)}"
        if this_world().size > 1:
            _leave(sentence)
        endings = [_stored(plan) or RunFailed(sentence) for plan in plans]
    for sentence in dict.fromkeys(str(end) for end in endings if isinstance(end, Exception)):
        print(sentence, file=sys.stderr, flush=True)
    return [_outcome(plan, end, plan.run_id in finished_before) for plan, end in zip(plans, endings, strict=True)]


def _stored(plan: RunPlan) -> Result | None:
    """The result of a run that is finished; None for others."""
    return plan.finished().result if plan.is_finished else None


def _leave(message: str) -> NoReturn:
    """End this process at once: the others of its world may wait for it, and are not to wait for long."""
    say(message, stream=sys.__stderr__)
    os._exit(1)


def _outcome(plan: RunPlan, ending: Result | Exception, finished_before: bool) -> Outcome:
    name, path = plan.directory.name, str(plan.directory)
    if isinstance(ending, Exception):
        return Outcome(name, path, "busy" if isinstance(ending, Busy) else "failed", str(ending))
    last, best = ending["last"], ending["best"]
    measured = f"{ending['split']} {last['accuracy']:.2f} %, best {best['accuracy']:.2f} % (epoch {best['epoch']})"
    took = "" if finished_before else f", {duration(ending['seconds'])}"
    text = f"{name} {'was finished before' if finished_before else 'finished'}: {measured}{took}"
    say(text)
    return Outcome(name, path, "finished", text, last["accuracy"])


def outcomes_on_disk(plans: Sequence[RunPlan], reason: str) -> list[Outcome]:
    """How the runs of a sweep ended whose launcher broke down; `reason` is reported for those without a result."""
    outcomes = []
    for plan in {plan.run_id: plan for plan in plans}.values():
        status: Status = "finished" if plan.is_finished else "failed"
        outcomes.append(Outcome(plan.directory.name, str(plan.directory), status, f"{plan.directory}: {reason}"))
    return outcomes


def summarise(outcomes: Sequence[Outcome]) -> Sequence[Outcome]:
    """Print the jobs of a sweep that did not finish, those with the same reason together; returns `outcomes`."""
    left = Counter((outcome.status, outcome.text) for outcome in outcomes if outcome.status != "finished")
    print(f"{len(outcomes) - left.total()} of {len(outcomes)} runs finished")
    for (status, text), count in left.items():
        say(f"{status}, {count} runs: {text}" if count > 1 else f"{status}: {text}")
    return outcomes
