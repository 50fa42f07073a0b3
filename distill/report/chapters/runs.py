"""What was compared: the runs, what sets them apart, and where their numbers come from."""

from collections.abc import Mapping
from typing import Any

from distill.report.blocks import Block, Chapter, Table, Text, columns, number
from distill.report.numbers.differences import differences
from distill.report.numbers.softened import accuracy
from distill.report.subjects import Compared, Subject

_ONE_EACH = (
    "Every row is one run: one seed, no deviation. Whether a difference is more than noise is a question for several "
    "seeds: distill table answers it. The last epoch is the number; the best epoch is chosen by looking at the images "
    "that measure it."
)


def summary(compared: Compared) -> Chapter:
    """The runs in one sortable table, and everything that the report cannot show."""
    split = compared.run.found.result["split"]
    headers, numeric = columns(
        {
            "run": False,
            "role": False,
            "id": False,
            "network": False,
            "parameters": True,
            "seed": True,
            "epochs": True,
            "last epoch (%)": True,
            f"selected on {split} (%)": True,
            "measured again (%)": True,
            "training (s)": True,
        }
    )
    rows = tuple(_row(each, compared) for each in compared.everyone)
    blocks: list[Block] = [
        Table(
            f"Accuracy on the {split} images. The head of a column sorts by it.", headers, rows, numeric, sortable=True
        ),
        Text(_ONE_EACH),
        *(Text(f"{gap}.", missing=True) for gap in compared.missing),
    ]
    return Chapter("runs", "Runs", tuple(blocks))


def _row(subject: Subject, compared: Compared) -> tuple[str, ...]:
    record, result = subject.found.record, subject.found.result
    answers = subject.found.answers
    again = accuracy(answers.logits, compared.images.labels) if answers and compared.images else None
    parameters = result.get("parameters")
    return (
        subject.label,
        subject.role,
        record.run_id,
        str(record.names.get("student", "?")),
        f"{parameters:,}" if isinstance(parameters, int) else "-",
        str(record.identity.get("seed", "-")),
        str(result.get("epochs") or "-"),
        number(result["last"]["accuracy"]),
        number((result.get("best") or {}).get("accuracy")),
        number(again),
        number(result.get("seconds") or None, 0),
    )


def configuration(compared: Compared) -> Chapter:
    """Every value in which the students' configurations differ."""
    configs = {each.label: each.found.record.config for each in compared.students}
    if len(configs) < 2:
        words = "One student: there is nothing to compare it with. Add against=ID, or several with commas."
        return Chapter("configuration", "Differences of configuration", (Text(words),))
    found = differences(configs)
    if not found:
        words = "The configurations are equal. Two trainings of one configuration can differ on a GPU."
        return Chapter("configuration", "Differences of configuration", (Text(words),))
    headers, numeric = columns({"key": False, **dict.fromkeys(configs, False)})
    rows = tuple((path, *(values[name] for name in configs)) for path, values in found.items())
    table = Table(
        "Keys of config.yaml whose values differ between the students; - where there is none.", headers, rows, numeric
    )
    return Chapter("configuration", "Differences of configuration", (table,))


def provenance(compared: Compared) -> Chapter:
    """Code, versions, device and weights of every run."""
    told = {each.label: _provenance(each) for each in compared.everyone}
    keys = list(dict.fromkeys(key for each in told.values() for key in each))
    headers, numeric = columns({"": False, **dict.fromkeys(told, False)})
    rows = tuple((key, *(each.get(key, "-") for each in told.values())) for key in keys)
    table = Table("What each run recorded about itself.", ("what", *headers[1:]), rows, numeric)
    return Chapter("provenance", "Provenance", (table,))


def _provenance(subject: Subject) -> dict[str, str]:
    found, result = subject.found.provenance, subject.found.result
    commit = found.get("commit")
    dirty = " with changes" if found.get("dirty") else ""
    versions = found.get("versions")
    told = {
        "run id": subject.found.record.run_id,
        "weights (sha256)": str(result.get("weights_sha256", "-"))[:16],
        "finished": str(result.get("finished", "-")),
        "commit": f"{str(commit)[:12]}{dirty}" if commit else "-",
        "device": str(found.get("device", "-")),
        "threads": str(found.get("threads", "-")),
        "precision": str(result.get("precision") or found.get("precision", "-")),
        "teacher": _teacher(result.get("teacher")),
    }
    if isinstance(result.get("imported"), Mapping):
        told["imported"] = "yes: trained elsewhere"
    return told | {str(k): str(v) for k, v in (versions.items() if isinstance(versions, Mapping) else ()) if v}


def _teacher(facts: Any) -> str:
    if not isinstance(facts, Mapping):
        return "none"
    return f"{facts.get('run_id')}, {number(facts.get('accuracy'))} %, asked {facts.get('source')}"
