"""`distill train`: compose, check everything, then train what is not finished."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from distill.cli import import_from_here
from distill.cli.grammar import BUSY, CONFIG_DIR, FAILED, FINISHED, REFUSED, Option, exit_code, nearest
from distill.cli.train_help import print_help
from distill.runs.files import StorageError, explain
from distill.runs.layout import RESULT
from distill.runs.store import read_run

if TYPE_CHECKING:
    from distill.config.plan import RunPlan
    from distill.config.presets import Presets
    from distill.config.sweep import Sweep
    from distill.config.tuning import Chosen, Search, Selection

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

    from distill.config.preflight import Faults  # with torch, which --help must not wait for
    from distill.config.sweep import prepare

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
    if sweep.selection is None:
        return _run(presets, sweep, command)
    if sweep.search is None:
        code = _run(presets, sweep, command)
        return max([code, *_train_chosen(_best(sweep, sweep.selection), sweep.selection, command)])
    return _search(presets, sweep, sweep.search, sweep.selection, command)


def _run(presets: "Presets", sweep: "Sweep", command: Command) -> int:
    """Run the checked jobs of a command; returns its exit code."""
    from distill.config.plan import epochs_asked
    from distill.execution.jobs import outcomes_on_disk, run_cohorts, run_job, run_plans, summarise

    if not sweep.multirun:
        return exit_code(run_plans(sweep.jobs, retry=command.retry))
    if all((job.directory / RESULT).is_file() for job in sweep.jobs):  # typed again: nothing to launch
        return exit_code(summarise(run_plans(sweep.jobs, retry=command.retry)))
    if sweep.cohort_size is not None:
        return exit_code(summarise(run_cohorts(sweep.jobs, size=sweep.cohort_size, retry=command.retry)))
    teacher_epochs = epochs_asked([job] for job in sweep.jobs)
    run = partial(run_job, config_dir=command.config_dir, retry=command.retry, teacher_epochs=teacher_epochs)
    try:
        returned = presets.hydra.multirun("train", run, sweep.overrides, with_log_configuration=False)
    except BrokenPipeError:
        raise
    except OSError as error:  # Hydra's own notes, in runs_dir/.hydra
        print(explain(Path(error.filename or sweep.jobs[0].runs_dir), error), file=sys.stderr)
        return FAILED
    except RuntimeError as error:  # of joblib or submitit: one of their processes is gone, killed for its memory, say
        reason = next(iter(str(error).splitlines()), "")
        print(f"the launcher gave up: {type(error).__name__}: {reason}", file=sys.stderr)
        return exit_code(summarise(outcomes_on_disk(sweep.jobs, "did not finish; type the command again to go on")))
    return exit_code(summarise([job.return_value for batch in returned for job in batch]))


def _search(presets: "Presets", sweep: "Sweep", search: "Search", selection: "Selection", command: Command) -> int:
    """Let Optuna tune each method, and train what it found on all images; returns the exit code."""
    from distill.execution.search import optimise
    from distill.execution.stopping import Interrupted
    from distill.runs.lock import Busy

    found = optimise(search, selection.cells, sweep.jobs, presets, retry=command.retry)
    try:
        return max([FINISHED, *_train_chosen(found, selection, command)])
    except (Busy, Interrupted, StorageError) as error:
        print(error, file=sys.stderr)
        return BUSY if isinstance(error, Busy) else FAILED


def _best(sweep: "Sweep", selection: "Selection") -> "list[Chosen]":
    """The best cell of each method, by what its finished runs say of the held-out images."""
    from distill.config.tuning import best_of_each_method

    finished = {position: read_run(job.directory) for position, job in enumerate(sweep.jobs)}
    accuracies = {
        position: float(record.result["last"]["accuracy"])
        for position, record in finished.items()
        if record is not None and record.status == "finished" and record.result is not None
    }
    return best_of_each_method(selection.cells, accuracies)


def _train_chosen(found: "Iterable[Chosen]", selection: "Selection", command: Command) -> Iterator[int]:
    """Train the chosen cells on all images; yields exit codes, a failure for every method of which none was found."""
    from distill.config.sweep import prepare

    left = {cell.method for cell in selection.cells}
    for each in found:
        left.discard(each.cell.method)
        print(
            f"chosen: {each.cell.title}, {each.accuracy:.2f} % on {selection.holdout:,} held-out images, "
            f"{each.rank}; now on all images, {selection.seeds} seeds",
            flush=True,
        )
        presets, final = prepare(
            selection.overrides(each.cell), multirun=True, config_dir=command.config_dir, faults=[], may_download=False
        )
        yield _run(presets, final, command)
    for method in sorted(left):
        print(f"nothing to choose from for {' '.join(method) or 'this sweep'}: no configuration finished")
        yield FAILED


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


def show(plan: "RunPlan") -> None:
    """Print a job's resolved configuration, its id and whether it is finished."""
    print(yaml.safe_dump(plain(plan.config), sort_keys=False), end="")
    record = read_run(plan.directory)
    print(f"# run id: {plan.run_id}")
    print(f"# status: {record.status if record else 'not started'} ({plan.directory})")


def plain(value: Any) -> Any:
    """Tuples as lists, for YAML."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value
