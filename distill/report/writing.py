"""From compared runs to the files of a report."""

from typing import Any

from distill.report.assembled import assembled
from distill.report.chapters import chapters
from distill.report.subjects import Compared, Subject
from distill.tables.values import dataset_name


def report_files(compared: Compared) -> dict[str, str]:
    """The page and its figures, by their names below the report's folder."""
    run = compared.run.found.record
    names = run.names
    dataset = dataset_name(str(names.get("dataset", "?")))
    against = ", ".join(each.label for each in compared.against)
    about = f"Run {run.run_id}" + (f", held against {against}" if against else "") + "."
    return assembled(f"{names.get('student', '?')} by {names.get('loss', '?')} on {dataset}", about, chapters(compared))


def record(compared: Compared) -> dict[str, Any]:
    """What report.json says of the report: its subject, its runs and what is missing."""
    return {
        "subject": f"run {compared.run.found.record.run_id}",
        "runs": [_subject(each) for each in compared.everyone],
        "missing": list(compared.missing),
    }


def _subject(subject: Subject) -> dict[str, Any]:
    found = subject.found
    return {
        "id": found.record.run_id,
        "label": subject.label,
        "role": subject.role,
        "names": {**found.record.names, "dataset": dataset_name(str(found.record.names.get("dataset", "?")))},
        "seed": found.record.identity.get("seed"),
        "last": dict(found.result["last"]),
        "weights_sha256": found.result.get("weights_sha256"),
    }
