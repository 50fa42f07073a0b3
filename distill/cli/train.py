"""`distill train`: compose, check everything, then train what is not finished."""

import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from distill.cli import import_from_here, silence
from distill.cli.grammar import BUSY, CONFIG_DIR, FAILED, FINISHED, REFUSED, Option, nearest
from distill.cli.train_help import print_help
from distill.runs.files import explain

OPTIONS = (
    Option("--multirun"),
    Option("-m"),
    Option("--cfg", metavar="job", choices=("job",)),
    Option("-c", metavar="job", choices=("job",)),
    CONFIG_DIR,
    Option("--retry"),
)
FLAGS = (*(option.word for option in OPTIONS), "--help", "-h")


@dataclass
class Command:
    """A command line of `train`, its options taken out; what is left is Hydra's."""

    overrides: list[str] = field(default_factory=list)
    multirun: bool = False
    show_config: bool = False
    retry: bool = False
    config_dir: Path | None = None
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Outcome:
    """How one job ended; as a number its accuracy, for sweepers that optimise."""

    name: str
    path: str
    code: int
    text: str
    accuracy: float = float("nan")

    def __float__(self) -> float:
        return self.accuracy


def main(argv: list[str]) -> int:
    """Run the verb; returns the exit code."""
    if any(word in ("--help", "-h") for word in argv):
        print_help(read_command(argv).config_dir)
        return FINISHED
    command = read_command(argv)
    try:
        return train(command)
    except KeyboardInterrupt:  # outside of training, or a second time: nothing to save, or no time for it
        print("stopped: type the command again to go on", file=sys.stderr)
        return FAILED


def train(command: Command) -> int:
    """Check every job of the command, then run them; returns the exit code."""
    import_from_here()

    from distill.compose.preflight import Faults  # with torch, which --help must not wait for
    from distill.compose.sweep import prepare

    try:
        presets, sweep = prepare(
            command.overrides,
            multirun=command.multirun,
            config_dir=command.config_dir,
            faults=command.faults,
            may_download=not command.show_config,
        )
    except Faults as faults:
        for sentence in faults.sentences:
            print(sentence, file=sys.stderr)
        return REFUSED
    if command.show_config:
        for job in sweep.jobs:
            show(job)
        return FINISHED
    run = partial(run_job, config_dir=command.config_dir, retry=command.retry)
    if not sweep.multirun:
        return run_plans(sweep.jobs, retry=command.retry)[0].code
    try:
        returned = presets.hydra.multirun("train", run, sweep.overrides, with_log_configuration=False)
    except BrokenPipeError:
        raise
    except OSError as error:  # Hydra's own notes, in runs_dir/.hydra
        print(explain(Path(error.filename or sweep.jobs[0].runs_dir), error), file=sys.stderr)
        return FAILED
    return summarise([job.return_value for batch in returned for job in batch])


def read_command(argv: Sequence[str]) -> Command:
    """Split options from overrides; what is wrong becomes faults."""
    command, rest = Command(), list(argv)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if not word.startswith("-"):
            command.overrides.append(word)
        elif name in ("--config-dir", "--cfg", "-c"):
            value = value if equals else rest.pop(0) if rest else ""
            if name == "--config-dir":
                command.config_dir = Path(value)
                if not command.config_dir.is_dir():
                    command.faults.append(f"--config-dir {value!r} is not a folder: name the one with your presets")
            elif value != "job":
                command.faults.append(f"{name} {value!r} is not offered: write --cfg job")
            command.show_config = command.show_config or name != "--config-dir"
        elif word in ("--multirun", "-m"):
            command.multirun = True
        elif word == "--retry":
            command.retry = True
        elif word not in ("--help", "-h"):
            command.faults.append(f"unknown option {word}: {nearest(word, FLAGS)}")
    return command


def show(plan: Any) -> None:
    """Print a job's resolved configuration, its id and whether it is finished."""
    from distill.runs.store import read_run

    print(yaml.safe_dump(plain(plan.config), sort_keys=False), end="")
    record = read_run(plan.directory)
    print(f"# run id: {plan.run_id}")
    print(f"# status: {record.status if record else 'not started'} ({plan.directory})")


def plain(value: Any) -> Any:
    """Tuples as lists, for YAML."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def run_job(config: Any, *, config_dir: Path | None, retry: bool) -> Outcome:
    """One job of a sweep, in whatever process the launcher started it. Never raises: the outcome says what failed."""
    from hydra.core.hydra_config import HydraConfig

    from distill.compose.preflight import Faults

    hydra = HydraConfig.get()
    try:
        plan = plan_job(config, hydra, config_dir)
    except Faults as faults:  # it passed when the sweep began: a preset or a teacher has changed since
        print(faults, file=sys.stderr, flush=True)
        return Outcome(hydra.job.override_dirname, "", FAILED, f"{hydra.job.override_dirname}: {faults.sentences[0]}")
    return run_plans([plan], retry=retry)[0]


def plan_job(config: Any, hydra: Any, config_dir: Path | None) -> Any:
    """The plan of a job that Hydra's sweeper has composed."""
    from distill.compose.preflight import preflight
    from distill.compose.presets import Presets, from_hydra

    return preflight(from_hydra(config, hydra, list(hydra.overrides.task)), Presets(config_dir))


def run_plans(plans: Sequence[Any], *, retry: bool) -> list[Outcome]:
    """Execute runs side by side and say how each ended, on the screen and as an outcome."""
    from distill.cli.execute import Console, Interrupted, execute
    from distill.cli.progress import Progress

    done_before = {plan.run_id for plan in plans if (plan.directory / "result.json").is_file()}
    try:
        endings = execute(plans, Console(partial(print, flush=True), Progress()), retry=retry)
    except Interrupted as error:
        print(error, file=sys.stderr)
        raise SystemExit(FAILED) from None  # the user wants the whole command to stop
    except BrokenPipeError:  # nobody follows it any more (`| head`): typed again, the command goes on
        silence()
        raise SystemExit(FAILED) from None
    except Exception as error:
        traceback.print_exc()  # not foreseen: the trace is what a report needs
        endings = [error] * len(plans)
    return [_outcome(plan, ending, plan.run_id in done_before) for plan, ending in zip(plans, endings, strict=True)]


def _outcome(plan: Any, ending: Any, done_before: bool) -> Outcome:
    from distill.cli.execute import Busy
    from distill.cli.progress import duration

    name, path = plan.directory.name, str(plan.directory)
    if isinstance(ending, Exception):
        print(ending, file=sys.stderr, flush=True)
        return Outcome(name, path, BUSY if isinstance(ending, Busy) else FAILED, str(ending))
    last, best = ending["last"], ending["best"]
    text = (
        f"{name} {'was finished before' if done_before else 'finished'}: {ending['split']} "
        f"{last['accuracy']:.2f} % after epoch {last['epoch']} (best {best['accuracy']:.2f} %, epoch {best['epoch']}), "
        f"{duration(ending['seconds'])}; {path}"
    )
    print(text, flush=True)
    return Outcome(name, path, FINISHED, text, last["accuracy"])


def summarise(outcomes: Sequence[Outcome]) -> int:
    """List every job of a sweep that did not finish; returns the sweep's exit code."""
    left = [outcome for outcome in outcomes if outcome.code != FINISHED]
    finished = len(outcomes) - len(left)
    print(f"{finished} of {len(outcomes)} runs finished")
    for outcome in left:
        print(f"{'busy' if outcome.code == BUSY else 'failed'}: {outcome.text}")
    codes = {outcome.code for outcome in outcomes}
    return next((code for code in (FAILED, BUSY) if code in codes), FINISHED)
