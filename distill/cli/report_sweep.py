"""`distill report sweep=NAME`: the page of a sweep's finished runs."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from distill.cli.grammar import FINISHED, CommandLine, Option, nearest, parse, select
from distill.report.place import PAGE, check_place, write_files
from distill.report.sweeps.preset import DamagedSweep, SweepPreset, UnknownSweep, load_sweep, sweep_names
from distill.report.sweeps.tried import tried
from distill.tables.filters import FILTERS
from distill.tables.rows import distinct, read_run

KEYS = ("sweep", *FILTERS, "runs_dir")


def report_sweep(argv: Sequence[str], options: Sequence[Option], faults: Sequence[str]) -> int:
    """Write the page, or say that there is nothing for one; returns the exit code.

    Raises:
        UsageError: everything wrong with the command, `faults` first.
        StorageError: the folder cannot be written.
    """
    line = parse(argv, keys=KEYS, options=options, dotted=True)
    line.faults[:0] = faults
    preset = _preset(line)
    folder = line.out or Path("report", f"sweep-{line.pairs.get('sweep', '')}")
    if preset is not None:
        try:
            check_place(folder, f"sweep {preset.name}")
        except ValueError as error:
            line.faults.append(str(error))
    filters = {key: value for key, value in line.pairs.items() if key != "sweep"}
    selection = select(replace(line, pairs=filters))
    assert preset is not None
    if not selection.chosen:
        print(selection.nothing())
        return FINISHED
    found = tried(preset, distinct(map(read_run, selection.chosen)))
    if not found.panels:
        varied = " and ".join(preset.keys)
        lack = f"two finished runs of one method that differ in {varied}" if varied else "a finished run of its losses"
        print(f"{selection.runs_dir} lacks {lack}: `distill train sweep={preset.name}` makes them")
        return FINISHED

    from distill.report.sweeps.pages import sweep_files, sweep_record  # with matplotlib, after every refusal

    write_files(folder, sweep_files(found), record=sweep_record(found))
    print(f"wrote {folder / PAGE}")
    return FINISHED


def _preset(line: CommandLine) -> SweepPreset | None:
    name = line.pairs.get("sweep", "")
    try:
        return load_sweep(name, config_dir=line.config_dir)
    except UnknownSweep:
        if name:  # without a value the grammar has said so
            line.faults.append(f"sweep={name} does not exist: {nearest(name, sweep_names(config_dir=line.config_dir))}")
    except DamagedSweep as error:
        line.faults.append(str(error))
    return None
