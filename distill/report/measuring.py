"""The report on a student: its networks rebuilt and evaluated, and the page written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from distill.config.build import usable_device
from distill.config.faults import Refused
from distill.config.rebuild import Untrusted, network_of_teacher, rebuild_network
from distill.config.teachers import published_teacher
from distill.data import Dataset
from distill.exchange.load import run_dataset
from distill.report.page import report_files, write_report
from distill.report.runs import Images, Outputs, Report, ReportedRun, make_report, read_provenance
from distill.report.sections import sections
from distill.report.sections.embedding import shown_images
from distill.runs.escapes import escaped
from distill.runs.layout import STUDENT
from distill.runs.records import read_metrics
from distill.runs.store import RunRecord

BATCH = 256


@dataclass(frozen=True, eq=False)
class Rebuilt:
    """A run with its network (on the device, in eval mode) and its data; None for what is not here, and why.

    `published`: it is a teacher whose weights belong to no run. It is behind its students' view.
    """

    record: RunRecord
    network: nn.Module | None
    dataset: Dataset | None
    missing: tuple[str, ...]
    published: bool = False


def report_on(
    records: Sequence[RunRecord],
    teacher: RunRecord | None,
    folder: Path,
    *,
    places: Mapping[str, Mapping[str, Any]],
    insist: bool,
    own: str | None,
    device: str,
    missing: Sequence[str] = (),
    targets: Sequence[float] = (),
) -> list[str]:
    """Write the report into `folder` and return what it cannot show, as sentences.

    Args:
        records: the run, then the baselines it is compared with.
        teacher: the run of its teacher, None where it is not here.
        places: where the data of each run are now, by run id: changes of its `dataset` node.
        insist: the user named these places, so data that cannot be used are an error.
        own: the class of the user's own network, which may be built.
        missing: sentences on what is known to be missing.
        targets: levels of accuracy in percent whose first epochs are listed.

    Raises:
        Refused, ValueError: the device or the data named by the user cannot be used.
        Untrusted: a run names a class that may not be built.
        StorageError: a run's files are damaged, or the folder cannot be written.
    """
    where = usable_device(device, key="engine.device")

    def rebuilt(record: RunRecord) -> Rebuilt:
        return _rebuilt(record, places[record.run_id], insist=insist, own=own, device=where)

    run, *baselines = map(rebuilt, records)
    above, gap = (rebuilt(teacher), "") if teacher else _published(run, own=own, device=where)
    images = _images(run.dataset) if run.dataset is not None else None
    report = make_report(
        _measured(run, images, where),
        [_measured(each, images, where) for each in baselines],
        _measured(above, images, where) if above else None,
        images=images,
        missing=[*missing, *([gap] if gap else [])],
        targets=targets,
    )
    write_report(folder, files_of(report), record=report.contents)
    return list(report.missing)


def files_of(report: Report) -> dict[str, str]:
    """The page and its figures, by their paths below the report's folder."""
    return report_files(report.title, report.about, sections(report))


def _rebuilt(
    record: RunRecord, places: Mapping[str, Any], *, insist: bool, own: str | None, device: torch.device
) -> Rebuilt:
    missing, network = [], None
    if (record.path / STUDENT).is_file():
        network = rebuild_network(record, own=own).to(device).eval()
    else:
        missing.append("its weights are not here, so its network could not be evaluated")
    dataset = None
    try:
        dataset = run_dataset(record, places)
    except Refused as refused:
        if insist:
            raise Refused([f"{record.path}: {refused.faults[0]}"]) from refused
        missing.append(f"its data are not here: {refused.faults[0]}")
    return Rebuilt(record, network, dataset, tuple(missing))


def _published(run: Rebuilt, *, own: str | None, device: torch.device) -> tuple[Rebuilt | None, str]:
    """The run's teacher, if its weights belong to no run; without it the reason, empty where there is none to show."""
    record, dataset, facts = run.record, run.dataset, (run.record.result or {}).get("teacher")
    if dataset is None or not isinstance(facts, Mapping) or facts.get("run_id") is not None:
        return None, ""
    node, name = dict(record.config["teacher"]), str(record.names.get("teacher"))
    try:
        node["network"] = network_of_teacher(record, own=own)
        data, store = record.identity["data"], record.path.parent
        teacher = published_teacher(node, dataset, data, name=name, runs_dir=store, precision="fp32", download=False)
        if teacher.weights != facts["weights_sha256"]:
            return None, f"the weights of the teacher {name} have changed since {record.run_id} was trained"
        network = teacher.network().to(device).eval()
    except (Untrusted, Refused) as error:
        return None, f"the teacher {name} is not shown: {error}"
    result = {"weights_sha256": teacher.weights, "split": dataset.split, "last": {"accuracy": facts["accuracy"]}}
    shown = RunRecord(
        path=teacher.facts().folder,
        run_id=teacher.weights[:12],
        status="finished",
        names={**record.names, "student": name, "teacher": "none", "loss": "published weights"},
        config={},
        identity={},
        result=result,
        failure=None,
    )
    return Rebuilt(shown, network, dataset, (), published=True), ""


def _images(dataset: Dataset) -> Images:
    labels = dataset.evaluation_labels
    embedded = shown_images(labels, classes=dataset.num_classes)
    content = dataset.evaluation_content
    names = tuple(map(escaped, dataset.class_names))
    return Images(dataset.evaluation_images, labels, names, dataset.split, embedded, content)


def _measured(run: Rebuilt, images: Images | None, device: torch.device) -> ReportedRun:
    """The run with the outputs of its network for `images`."""
    record, missing = run.record, list(run.missing)
    history = tuple(read_metrics(record.path, record.result))
    outputs = None
    if run.network is not None and run.dataset is not None and images is not None:
        if run.dataset.evaluation_content != images.content:
            missing.append("its images are not those of the run, so its network was not evaluated")
        else:
            outputs = _outputs(run.network, run.dataset, images, device)
    if not history and not run.published:
        missing.append("no curves: it has no record of its epochs")
    return ReportedRun(record, history, read_provenance(record), outputs, tuple(missing))


@torch.no_grad()
def _outputs(network: nn.Module, dataset: Dataset, images: Images, device: torch.device) -> Outputs:
    stream = dataset.evaluation_stream(batch_size=BATCH, device=device)
    logits = torch.cat([network(batch.images).logits.float().cpu() for batch in stream]).numpy()
    embeddings = []
    for batch in dataset.evaluation_stream(batch_size=BATCH, device=device, rows=images.embedded.tolist()):
        found = network(batch.images, taps=True).embedding
        if found is None:
            return Outputs(logits)
        embeddings.append(found.float().cpu())
    return Outputs(logits, torch.cat(embeddings).numpy() if embeddings else None)
