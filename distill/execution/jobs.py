"""The jobs of a command, one by one or side by side, and what is said of them at the end."""

import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from distill.config.plan import RunPlan
from distill.config.preflight import Faults, preflight
from distill.config.presets import Presets, from_hydra
from distill.execution.execute import Console, Result, execute
from distill.execution.job_device import spread
from distill.execution.progress import Progress, discard_output, duration
from distill.execution.stopping import Interrupted
from distill.runs.layout import RESULT
from distill.runs.lock import Busy
from distill.training import Watch

Status = Literal["finished", "failed", "busy"]  # busy: another process is training it


@dataclass(frozen=True)
class Outcome:
    """How one job ended; as a number its accuracy, for sweepers that optimise."""

    name: str
    path: str
    status: Status
    text: str
    accuracy: float = float("nan")

    def __float__(self) -> float:
        return self.accuracy


def run_job(
    config: DictConfig, *, config_dir: Path | None, retry: bool, asked: Mapping[str, int] | None = None
) -> Outcome:
    """One job of a sweep, in whatever process the launcher started it. Never raises: the outcome says what failed."""
    spread(config, HydraConfig.get())
    planned = plan_job(config, HydraConfig.get(), config_dir)
    return planned if isinstance(planned, Outcome) else run_plans([planned], retry=retry, asked=asked)[0]


def plan_job(config: DictConfig, hydra: Any, config_dir: Path | None) -> RunPlan | Outcome:
    """The plan of a job that Hydra's sweeper has composed; or how it failed, where what passed at first has changed."""
    overrides = list(hydra.overrides.task)
    try:
        return preflight(from_hydra(config, hydra, overrides), Presets(config_dir))
    except Faults as faults:
        print(faults, file=sys.stderr, flush=True)
        name = " ".join(overrides)
        return Outcome(name, "", "failed", f"{name}: {faults.sentences[0]}")


def run_plans(plans: Sequence[RunPlan], *, retry: bool, asked: Mapping[str, int] | None = None) -> list[Outcome]:
    """Execute runs side by side and say how each ended, on the screen and as an outcome.

    `asked` is what the whole command asks of its teachers.
    """
    try:
        return follow_plans(plans, Progress(), retry=retry, asked=asked)
    except Interrupted as error:
        print(error, file=sys.stderr)
        raise SystemExit(1) from None  # the user wants the whole command to stop


def follow_plans(
    plans: Sequence[RunPlan], watch: Watch, *, retry: bool, asked: Mapping[str, int] | None = None
) -> list[Outcome]:
    """As `run_plans`, but told to `watch`, and a stop is left to the caller. Raises Interrupted."""
    done_before = {plan.run_id for plan in plans if (plan.directory / RESULT).is_file()}
    try:
        endings = execute(plans, Console(partial(print, flush=True), watch), retry=retry, asked=asked)
    except Interrupted:
        raise
    except BrokenPipeError:  # nobody follows it any more (`| head`): typed again, the command goes on
        discard_output()
        raise SystemExit(1) from None
    except Exception as error:
        traceback.print_exc()  # not foreseen: the trace is what a report needs
        endings = [error] * len(plans)
    return [_outcome(plan, ending, plan.run_id in done_before) for plan, ending in zip(plans, endings, strict=True)]


def _outcome(plan: RunPlan, ending: Result | Exception, done_before: bool) -> Outcome:
    name, path = plan.directory.name, str(plan.directory)
    if isinstance(ending, Exception):
        print(ending, file=sys.stderr, flush=True)
        return Outcome(name, path, "busy" if isinstance(ending, Busy) else "failed", str(ending))
    last, best = ending["last"], ending["best"]
    text = (
        f"{name} {'was finished before' if done_before else 'finished'}: {ending['split']} "
        f"{last['accuracy']:.2f} % after epoch {last['epoch']} (best {best['accuracy']:.2f} %, epoch {best['epoch']}), "
        f"{duration(ending['seconds'])}; {path}"
    )
    print(text, flush=True)
    return Outcome(name, path, "finished", text, last["accuracy"])


def as_they_stand(plans: Sequence[RunPlan], why: str) -> list[Outcome]:
    """How the jobs of a sweep stand whose launcher gave up, and what is said of those that have not finished."""
    outcomes = []
    for plan in {plan.run_id: plan for plan in plans}.values():
        status: Status = "finished" if (plan.directory / RESULT).is_file() else "failed"
        outcomes.append(Outcome(plan.directory.name, str(plan.directory), status, f"{plan.directory}: {why}"))
    return outcomes


def summarise(outcomes: Sequence[Outcome]) -> Sequence[Outcome]:
    """Print every job of a sweep that did not finish; returns `outcomes`."""
    left = [outcome for outcome in outcomes if outcome.status != "finished"]
    print(f"{len(outcomes) - len(left)} of {len(outcomes)} runs finished")
    for outcome in left:
        print(f"{outcome.status}: {outcome.text}")
    return outcomes
