"""The work of `distill report`: find the runs that the page is about, check them, and write the page."""

import math
from pathlib import Path

from distill.cli.arguments import DEVICE, OWN_NETWORK, PLACES, CommandLine
from distill.cli.lookup import data_places, measure, read_table, select
from distill.config.faults import Refused, nearest
from distill.report.page import check_folder, write_report
from distill.report.runs import read_provenance, teacher_of, unlike_images
from distill.report.sweep_runs import SweepPreset, load_sweep, sweep_names, sweep_panels
from distill.runs.escapes import escaped
from distill.runs.files import StorageError
from distill.runs.records import read_metrics
from distill.runs.store import RunRecord, finished_run, scan
from distill.tables.rows import distinct, read_finished


def report_runs(line: CommandLine) -> Path:
    """Write the page of a run and those it is compared with; return its folder."""
    targets = _targets(line)
    runs = _runs(line)
    folder = line.out or Path("report", runs[0].path.resolve().name if runs else "")
    if runs:
        _check_folder(line, folder, f"run {runs[0].run_id}")
    line.check()
    teacher, gap = teacher_of(runs[0], line.runs_dir)
    places = {record.run_id: data_places(line, record) for record in [*runs, *([teacher] if teacher else [])]}
    own = line.pairs.get(OWN_NETWORK.name)

    from distill.config.rebuild import Untrusted
    from distill.report.measuring import report_on

    try:
        missing = report_on(
            runs,
            teacher,
            folder,
            places=places,
            insist=any(place.name in line.pairs for place in PLACES),
            own=own,
            device=line.pairs.get(DEVICE.name, "auto"),
            missing=(gap,) if gap else (),
            targets=targets,
        )
    except Refused:
        raise
    except Untrusted as error:
        raise Refused([str(error)]) from error
    except ValueError as error:
        raise Refused(str(error).splitlines()) from error
    for sentence in missing:
        print(escaped(f"left out: {sentence}"))
    return folder


def report_table(line: CommandLine) -> Path:
    """Write the page of a published table with our runs; return its folder."""
    request = read_table(line)
    folder = line.out or Path("report", line.pairs["table"])
    if request is not None:
        _check_folder(line, folder, f"table {request.table.name}")
    line.check()
    assert request is not None
    try:
        records = scan(line.runs_dir) if line.runs_dir.is_dir() else []
    except StorageError as error:
        raise Refused([str(error)]) from error
    measured = measure(request, records, line)
    used = {run_id for rows in measured.rows.values() for row in rows for run_id in row.run_ids}

    from distill.report.table_page import table_files, table_record

    kept = [record for record in records if record.run_id in used]
    histories = {record.run_id: read_metrics(record.path, record.result) for record in kept}
    provenance = {record.run_id: read_provenance(record) for record in kept}
    write_report(folder, table_files(measured, histories, provenance), record=table_record(measured))
    return folder


def report_sweep(line: CommandLine) -> Path | None:
    """Write the page of a sweep's finished runs; return its folder, None where there is nothing to draw."""
    preset = _sweep_preset(line)
    folder = line.out or Path("report", f"sweep-{line.pairs['sweep']}")
    if preset is not None:
        _check_folder(line, folder, f"sweep {preset.name}")
    selection = select(line)
    assert preset is not None
    if not selection.chosen:
        print(escaped(selection.nothing()))
        return None
    panels = sweep_panels(preset, distinct(map(read_finished, selection.chosen)))
    if not panels:
        needed = f"finished runs at two values of {' and '.join(preset.keys)}" if preset.keys else "a finished run"
        print(f"sweep={preset.name} needs {needed} of one method: `distill train sweep={preset.name}` trains them")
        return None

    from distill.report.sweep_page import sweep_files, sweep_record

    write_report(folder, sweep_files(preset, panels), record=sweep_record(preset, panels))
    return folder


def _check_folder(line: CommandLine, folder: Path, subject: str) -> None:
    try:
        check_folder(folder, subject)
    except ValueError as error:
        line.fault(str(error), of="--out")


def _sweep_preset(line: CommandLine) -> SweepPreset | None:
    name, names = line.pairs["sweep"], sweep_names(config_dir=line.config_dir)
    if name not in names:
        line.fault(f"sweep={name} does not exist{nearest(name, names)}", of="sweep")
        return None
    try:
        return load_sweep(name, config_dir=line.config_dir)
    except ValueError as error:
        line.fault(str(error), of="sweep")
        return None


def _runs(line: CommandLine) -> list[RunRecord]:
    """The run and those it is compared with; mistakes are added to the line. StorageError where one is damaged."""
    words = [("run", line.pairs["run"])]
    words += [("against", text) for text in line.pairs.get("against", "").split(",") if text]
    found: list[RunRecord] = []
    for key, text in words:
        try:
            record = finished_run(line.runs_dir, text, weights=False)
        except ValueError as error:
            line.fault(str(error), of=key)
            continue
        if record.run_id in {each.run_id for each in found}:
            line.fault(f"{key}={text} is named twice, as the run {record.run_id}: name each run once", of=key)
        elif found and unlike_images(found[0], record):
            line.fault(
                f"{key}={text} was evaluated on other images than run={line.pairs['run']}: "
                "compare runs on one data set",
                of=key,
            )
        found.append(record)
    return found


def _targets(line: CommandLine) -> tuple[float, ...]:
    """The accuracies of `accuracy=`; a fault for each that is not a percentage."""
    found = []
    for text in line.pairs["accuracy"].split(",") if "accuracy" in line.pairs else []:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 0 < value <= 100:
            line.fault(f"accuracy must be percent above 0 and at most 100, got {text!r}: write accuracy=40,45")
        found.append(value)
    return tuple(found)
