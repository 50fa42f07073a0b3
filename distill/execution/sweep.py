"""The checked runs of one `distill train` command carried out: a run, a sweep, or a search with what follows it."""

import sys
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from distill.config.faults import Refused
from distill.config.plan import teacher_epochs_of
from distill.config.presets import Presets
from distill.config.sweep import Sweep, prepare
from distill.config.tuning import Chosen, HoldoutTuning, best_of_each_method
from distill.execution.jobs import Outcome, outcomes_on_disk, run_cohorts, run_job, run_plans, summarise
from distill.runs.files import StorageError, explain
from distill.runs.layout import RESULT
from distill.runs.store import read_run
from distill.training import this_world


def run_sweep(presets: Presets, sweep: Sweep, *, config_dir: Path | None, retry: bool) -> list[Outcome]:
    """Train the runs of a command and, if its sweep tunes, what it chose; returns how each run ended.

    Raises:
        StorageError: Hydra's files or those of a search cannot be written.
        Busy: another process works on the same search.
        Interrupted: the user stopped the search.
    """
    if this_world().size > 1 and (sweep.search is not None or (sweep.multirun and sweep.cohort_size != 1)):
        raise Refused(["several processes train the runs of a sweep one after the other: leave hydra/launcher out"])
    if sweep.tuning is None:
        return _run(presets, sweep, config_dir=config_dir, retry=retry)
    outcomes: list[Outcome] = []
    if sweep.search is None:
        outcomes += _run(presets, sweep, config_dir=config_dir, retry=retry)
        tuning = sweep.tuning
        chosen: Iterable[Chosen] = this_world().first(lambda: _best(sweep, tuning))
    else:
        from distill.execution.search import optimise  # optuna is an optional extra

        chosen = optimise(sweep.search, sweep.tuning.cells, sweep.jobs, presets, retry=retry)
    return outcomes + list(_train_chosen(chosen, sweep.tuning, config_dir=config_dir, retry=retry))


def _run(presets: Presets, sweep: Sweep, *, config_dir: Path | None, retry: bool) -> list[Outcome]:
    if not sweep.multirun:
        return run_plans(sweep.jobs, retry=retry)
    finished = this_world().first(lambda: all((job.directory / RESULT).is_file() for job in sweep.jobs))
    if finished:  # typed again: there is nothing to launch
        return list(summarise(run_plans(sweep.jobs, retry=retry)))
    if sweep.cohort_size is not None:
        return list(summarise(run_cohorts(sweep.jobs, size=sweep.cohort_size, retry=retry)))
    teacher_epochs = teacher_epochs_of([job] for job in sweep.jobs)
    run = partial(run_job, planned=sweep.planned, config_dir=config_dir, retry=retry, teacher_epochs=teacher_epochs)
    try:
        returned = presets.hydra.multirun("train", run, sweep.overrides, with_log_configuration=False)
    except BrokenPipeError:
        raise
    except OSError as error:  # Hydra's own notes, in runs_dir/.hydra
        raise StorageError(explain(Path(error.filename or sweep.jobs[0].runs_dir), error)) from error
    except RuntimeError as error:  # joblib or submitit lost a process, for example one killed for its memory
        reason = next(iter(str(error).splitlines()), "")
        print(f"the launcher gave up: {type(error).__name__}: {reason}", file=sys.stderr)
        return list(summarise(outcomes_on_disk(sweep.jobs, "did not finish; type the command again to go on")))
    return list(summarise([job.return_value for batch in returned for job in batch]))


def _best(sweep: Sweep, tuning: HoldoutTuning) -> list[Chosen]:
    """The best cell of each method, by the accuracy of its finished runs on the held-out images."""
    finished = {position: read_run(job.directory) for position, job in enumerate(sweep.jobs)}
    accuracies = {
        position: float(record.result["last"]["accuracy"])
        for position, record in finished.items()
        if record is not None and record.status == "finished" and record.result is not None
    }
    return best_of_each_method(tuning.cells, accuracies)


def _train_chosen(
    chosen: Iterable[Chosen], tuning: HoldoutTuning, *, config_dir: Path | None, retry: bool
) -> Iterator[Outcome]:
    """Train the chosen cells on all images; yields a failure for each method of which no configuration finished."""
    left = {cell.method for cell in tuning.cells}
    for each in chosen:
        left.discard(each.cell.method)
        print(
            f"chosen: {each.cell.title}, {each.accuracy:.2f} % on {tuning.holdout:,} held-out images, "
            f"{each.rank}; now on all images, {tuning.seeds} seeds",
            flush=True,
        )
        overrides = tuning.overrides(each.cell)
        presets, final = prepare(overrides, multirun=True, config_dir=config_dir, faults=[], may_download=False)
        yield from _run(presets, final, config_dir=config_dir, retry=retry)
    for method in sorted(left):
        name = " ".join(method) or "this sweep"
        print(f"nothing to choose from for {name}: no configuration finished")
        yield Outcome(name, "", "failed", "no configuration finished")
