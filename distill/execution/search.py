"""`sweep=optuna`: Optuna proposes values, the accuracy on held-out images rates them, poor trials end early."""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from distill.config.compose.presets import Presets
from distill.config.faults import Refused
from distill.config.plan import RunPlan
from distill.config.preflight import preflight
from distill.config.tuning import Choice, Chosen, Combination, Range, Search, override
from distill.execution.execute import Console, execute
from distill.execution.progress import TrainingProgress, say
from distill.execution.stopping import EndedEarly, RunFailed
from distill.runs.files import refuse_links, storage_errors
from distill.runs.layout import SEARCHES
from distill.runs.lock import Busy, RunLock
from distill.training import Evaluation, Member

WARM_UP = 0.2  # of a run's epochs: earlier accuracies predict the last one poorly
_INSTEAD = "instead_of"  # the number of the trial that is proposed again
UNPRUNED = 5  # trials that run to their end before any is ended early


class Reporting(TrainingProgress):
    """Progress that also reports every epoch of the student to its trial, and ends the run where the trial is poor."""

    def __init__(self, trial: optuna.Trial, run: str) -> None:
        super().__init__()
        self._trial, self._run = trial, run

    def epoch(self, member: Member, measured: Evaluation) -> None:
        super().epoch(member, measured)
        if member.name != self._run or not member.active:  # a teacher that is trained first belongs to no trial
            return
        self._trial.report(measured.accuracy, member.epoch - 1)
        if self._trial.should_prune():
            raise EndedEarly(member.name)


def optimise(
    search: Search, combinations: Sequence[Combination], plans: Sequence[RunPlan], presets: Presets, *, retry: bool
) -> Iterator[Chosen]:
    """The best values found for each method; a search typed again runs the trials that are missing.

    Args:
        search: the number of trials, the space, and the overrides of each method.
        combinations: the methods, in the order of `search.bases`.
        plans: their jobs without proposals.
        presets: composes the proposals.
        retry: train runs again that failed before.

    Raises:
        Busy: another process runs the same search.
        StorageError: the search cannot be stored.
        Interrupted: training was stopped; the current trial goes on when the command is typed again.
    """
    for combination, base, plan in zip(combinations, search.bases, plans, strict=True):
        name = _name(search, plan)
        with RunLock(plan.runs_dir / SEARCHES / name) as lock:
            if not lock.acquire():
                raise Busy(f"the search {name} is held by {lock.holder()}: wait for it, or stop it first")
            study = _study(search, plan, name, retry=retry)
            for _ in range(search.trials - _done(study)):
                _one_trial(study, search, list(base), presets, retry=retry)
        states = [trial.state.name for trial in study.trials]
        finished, pruned = states.count("COMPLETE"), states.count("PRUNED")
        say(f"{combination.title}: {finished} trials finished, {pruned} ended early")
        if finished:
            yield _chosen(study, search, combination)


def _chosen(study: optuna.Study, search: Search, combination: Combination) -> Chosen:
    """The best proposal, the first of equals; a proposal that was made twice counts once."""

    def values(trial: optuna.trial.FrozenTrial) -> tuple[str, ...]:
        return tuple(override(each.key, trial.params[each.key]) for each in search.space)

    best = study.best_trial
    finished = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    pruned = [trial for trial in study.trials if trial.state.name == "PRUNED"]
    tried = {values(trial) for trial in (*finished, *pruned)}
    ties = {values(trial) for trial in finished if trial.value == best.value}
    return Chosen(
        Combination(combination.method, values(best), combination.jobs), float(best.value or 0.0), len(tried), len(ties)
    )


def _one_trial(study: optuna.Study, search: Search, base: list[str], presets: Presets, *, retry: bool) -> None:
    trial = study.ask()
    proposed = [override(each.key, _suggested(trial, each)) for each in search.space]
    say(f"trial {trial.number}: {' '.join(text.lstrip('+') for text in proposed)}")
    try:
        plan = preflight(presets.compose([*base, *proposed]), presets)
        console = Console(say, Reporting(trial, plan.directory.name))
        (ending,) = execute([plan], console, retry=retry)
        if isinstance(ending, RunFailed):
            say(str(ending))
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        elif isinstance(ending, Exception):
            raise ending
        else:
            study.tell(trial, ending["last"]["accuracy"])
    except Refused as refused:  # the limits of the space passed the check, this point does not
        print(refused, flush=True)
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
    except EndedEarly:
        say(f"trial {trial.number} ended early: its accuracy is below the median of the trials before it")
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)


def _name(search: Search, plan: RunPlan) -> str:
    """The folder of a search: the run that its proposals change, and a digest of its space and its seed."""
    what = repr(search.space) + (f", seed {search.seed}" if search.seed else "")
    return f"{plan.directory.name}-{hashlib.sha256(what.encode()).hexdigest()[:6]}"


def _study(search: Search, plan: RunPlan, name: str, *, retry: bool) -> optuna.Study:
    """The study of a method, from its own journal.

    A trial that was killed is proposed again; with `retry`, so is one that failed.
    """
    optuna.logging.set_verbosity(logging.WARNING)
    journal = plan.runs_dir / SEARCHES / name / "journal"
    with storage_errors(journal):
        refuse_links(journal)
    storage = JournalStorage(JournalFileBackend(str(journal)))
    warm_up = round(WARM_UP * plan.recipe.epochs)
    known = set(optuna.study.get_all_study_names(storage))
    done = optuna.load_study(study_name=name, storage=storage).trials if name in known else []
    study = optuna.create_study(
        study_name=name,
        storage=storage,
        load_if_exists=True,
        direction="maximize",
        # the seed depends on the number of trials: a resumed search does not repeat its first proposals
        sampler=optuna.samplers.TPESampler(seed=search.seed + len(done)),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=UNPRUNED, n_warmup_steps=warm_up),
    )
    for trial in study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        study.enqueue_trial(trial.params, user_attrs={_INSTEAD: trial.number})
    replaced = {trial.user_attrs.get(_INSTEAD) for trial in study.trials}
    for trial in study.get_trials(states=(optuna.trial.TrialState.FAIL,)) if retry else ():
        if trial.number not in replaced:
            study.enqueue_trial(trial.params, user_attrs={_INSTEAD: trial.number})
    return study


def _done(study: optuna.Study) -> int:
    """The number of trials that finished, ended early or failed; not those that are proposed again."""
    states = [trial.state.name for trial in study.trials]
    again = sum("fixed_params" in trial.system_attrs for trial in study.trials)
    return sum(state in ("COMPLETE", "PRUNED", "FAIL") for state in states) - again


def _suggested(trial: optuna.Trial, dimension: Range | Choice) -> Any:
    if isinstance(dimension, Choice):
        return trial.suggest_categorical(dimension.key, dimension.ends)
    if dimension.whole:
        return trial.suggest_int(dimension.key, int(dimension.low), int(dimension.high), log=dimension.log)
    return trial.suggest_float(dimension.key, dimension.low, dimension.high, log=dimension.log)
