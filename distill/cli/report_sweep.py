"""`distill report sweep=NAME`: the page of a sweep's finished runs."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from distill.cli.grammar import FINISHED, CommandLine, Option, nearest, parse, select
from distill.report.page import PAGE, check_folder, write_report
from distill.report.sweep_runs import SweepPreset, find_sweep_runs, load_sweep, sweep_names
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
            check_folder(folder, f"sweep {preset.name}")
        except ValueError as error:
            line.faults.append(str(error))
    filters = {key: value for key, value in line.pairs.items() if key != "sweep"}
    selection = select(replace(line, pairs=filters))
    assert preset is not None
    if not selection.chosen:
        print(selection.nothing())
        return FINISHED
    found = find_sweep_runs(preset, distinct(map(read_run, selection.chosen)))
    if not found.panels:
        varied = " and ".join(preset.keys)
        lack = f"two finished runs of one method that differ in {varied}" if varied else "a finished run of its losses"
        print(f"{selection.runs_dir} lacks {lack}: `distill train sweep={preset.name}` makes them")
        return FINISHED

    from distill.report.sweep_page import sweep_files, sweep_record  # imports matplotlib

    write_report(folder, sweep_files(found), record=sweep_record(found))
    print(f"wrote {folder / PAGE}")
    return FINISHED


def _preset(line: CommandLine) -> SweepPreset | None:
    name, names = line.pairs.get("sweep", ""), sweep_names(config_dir=line.config_dir)
    if name not in names:
        if name:  # `sweep=` without a value is a fault already
            line.faults.append(f"sweep={name} does not exist: {nearest(name, names)}")
        return None
    try:
        return load_sweep(name, config_dir=line.config_dir)
    except ValueError as error:
        line.faults.append(str(error))
        return None
