"""The runs of the report: their accuracies, how their configurations differ, and where their numbers come from."""

from collections.abc import Mapping
from typing import Any

from distill.report.page import Block, PageTable, Text, number_columns, text_columns
from distill.report.runs import Report, ReportedRun
from distill.report.softmax import accuracy
from distill.tables.values import PLACES, flatten, number, to_text

_ONE_SEED = (
    "Every row is one run: one seed, no standard deviation. Several seeds are needed to decide whether a difference is "
    "more than noise: see distill table. The number to report is that of the last epoch; the best epoch is chosen with "
    "the same images that measure it."
)
# settings that change no number: how it was computed, where the data were
_HIDDEN_KEYS = ("engine.", *(f"dataset.{place}" for place in PLACES))
FINISHED = ("run", "pretrained", "weights")  # keys of `teacher` that name weights which exist


def differences(configs: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """The value of each configuration (`-` for none) by dotted path, for the paths in which they differ."""
    flat = {
        name: {path: to_text(value) for path, value in flatten(_used(config)).items()}
        for name, config in configs.items()
    }
    paths = sorted({path for each in flat.values() for path in each if not path.startswith(_HIDDEN_KEYS)})
    rows = {path: {name: each.get(path, "-") for name, each in flat.items()} for path in paths}
    return {path: values for path, values in rows.items() if len(set(values.values())) > 1}


def _used(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The configuration without how its teacher would be trained, where that teacher was trained elsewhere."""
    teacher = config.get("teacher") or {}
    if not any(teacher.get(key) for key in FINISHED):
        return config
    return {
        **config,
        "teacher": {key: value for key, value in teacher.items() if key not in ("recipe", "loss", "seed")},
    }


def summary(report: Report) -> list[Block]:
    """The runs in one sortable table, and everything the report cannot show."""
    split = report.run.result["split"]
    accuracies = ("last epoch (%)", f"selected on {split} (%)", "measured again (%)")
    columns = text_columns("run", "role", "id", "network")
    columns += number_columns("parameters", "seed", "epochs", *accuracies, "training (s)")
    rows = [_row(each, report) for each in report.everyone]
    caption = f"Accuracy on the {split} images. Click a column header to sort by it."
    return [
        PageTable(caption, columns, rows, sortable=True),
        Text(_ONE_SEED),
        *(Text(f"{gap}.", missing=True) for gap in report.missing),
    ]


def _row(run: ReportedRun, report: Report) -> tuple[str, ...]:
    record, result = run.record, run.result
    again = accuracy(run.outputs.logits, report.images.labels) if run.outputs and report.images else None
    parameters = result.get("parameters")
    return (
        run.label,
        run.role,
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


def configuration(report: Report) -> list[Block]:
    """Every value in which the students' configurations differ."""
    configs = {each.label: each.record.config for each in report.students}
    if len(configs) < 2:
        return [Text("There is one student, so nothing to compare it with. Add against=ID, or several with commas.")]
    found = differences(configs)
    if not found:
        return [Text("The configurations are equal. Two trainings of one configuration can differ on a GPU.")]
    rows = [(path, *(values[name] for name in configs)) for path, values in found.items()]
    caption = "Keys of config.yaml whose values differ between the students; - where there is none."
    return [PageTable(caption, text_columns("key", *configs), rows)]


def provenance(report: Report) -> list[Block]:
    """Code, versions, device and weights of every run."""
    facts = {each.label: _provenance(each) for each in report.everyone}
    keys = dict.fromkeys(key for each in facts.values() for key in each)
    rows = [(key, *(each.get(key, "-") for each in facts.values())) for key in keys]
    return [PageTable("What each run recorded about itself.", text_columns("what", *facts), rows)]


def _provenance(run: ReportedRun) -> dict[str, str]:
    found, result = run.provenance, run.result
    commit, versions, teacher = found.get("commit"), found.get("versions"), result.get("teacher")
    dirty = " with changes" if found.get("dirty") else ""
    facts = {
        "run id": run.record.run_id,
        "weights (sha256)": str(result.get("weights_sha256", "-"))[:16],
        "finished": str(result.get("finished", "-")),
        "commit": f"{str(commit)[:12]}{dirty}" if commit else "-",
        "device": str(found.get("device", "-")),
        "threads": str(found.get("threads", "-")),
        "precision": str(result.get("precision") or found.get("precision", "-")),
        "teacher": "none",
    }
    if isinstance(teacher, Mapping):
        accuracy_of = number(teacher.get("accuracy"))
        of = teacher.get("run_id") or f"{run.record.names.get('teacher')} ({str(teacher.get('weights_sha256'))[:16]})"
        facts["teacher"] = f"{of}, {accuracy_of} %, source {teacher.get('source')}"
    if isinstance(result.get("imported"), Mapping):
        facts["imported"] = "yes: trained elsewhere"
    return facts | {str(k): str(v) for k, v in (versions.items() if isinstance(versions, Mapping) else ()) if v}
