"""A finished run written as a folder: models that were read back and checked, a card, and the run's own record."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from distill.data import EvaluationStream
from distill.exports.agreement import compare, logits_of
from distill.exports.as_safetensors import halved, with_weights
from distill.exports.card import card
from distill.exports.folder import CARD, RECORD, check_place, publish, staged
from distill.exports.forms import FORMS
from distill.exports.loading import load_record
from distill.exports.record import as_json
from distill.exports.report import Exported, Rounded, Written
from distill.exports.sample import Sample, find_sample
from distill.exports.source import Logits, Source
from distill.exports.subject import Subject
from distill.runs.files import write_synced
from distill.runs.layout import CONFIG, RESULT
from distill.runs.store import RunRecord
from distill.training import evaluate

BATCH = 256


def export_run(
    record: RunRecord,
    folder: Path,
    *,
    forms: Sequence[str],
    half: bool,
    places: Mapping[str, Any],
    asked: bool,
    own: str | None,
    note: Callable[[str], None],
) -> Exported:
    """Write the network of a finished run in each of `forms`, read each back and compare; replaces an older export.

    A form that cannot be written, or says something else than the network it was made of, is left out.

    Args:
        record: a finished run with everything that is needed of it.
        folder: where to; see `folder.check_place`.
        forms: names of `FORMS`.
        half: whether the weights are rounded to fp16, in the safetensors file alone.
        places: where the data lie now, keys of the data set's node; `asked` says that the user named one.
        own: the target of a network from outside the package, named by the user.
        note: hears what takes its time.

    Raises:
        ValueError: the folder is somebody else's, or `find_sample` refuses the data.
        StorageError: the run is damaged, or the folder cannot be written.
    """
    check_place(folder, record.run_id)
    network = load_record(record, own=own)
    sample = find_sample(record, places, asked=asked)
    source = Source(record, network, sample.image_size, half)
    with staged(folder) as staging:
        written, failures = _write_all(forms, source, sample, staging, note)
        if not written:
            return Exported(None, (), tuple(failures), sample.told, sample.reason)
        rounded = _rounded(source, sample, note) if half else None
        subject = Subject(source, sample, tuple(written), rounded)
        write_synced(staging / CARD, card(subject).encode())
        write_synced(staging / RECORD, as_json(subject).encode())
        for name in (CONFIG, RESULT):
            write_synced(staging / name, (record.path / name).read_bytes())
        publish(staging, folder, record.run_id)
    return Exported(folder, tuple(written), tuple(failures), sample.told, sample.reason, rounded)


def _write_all(
    forms: Sequence[str], source: Source, sample: Sample, staging: Path, note: Callable[[str], None]
) -> tuple[list[Written], list[str]]:
    written, failures = [], []
    for name in forms:
        path = staging / FORMS[name].file
        note(f"writing {path.name}")
        try:
            written.append(_write(name, source, sample, path))
        except OSError:
            raise
        except Exception as error:  # of any library that writes or reads the form
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            failures.append(f"{path.name} is left out: {reason}")
            path.unlink(missing_ok=True)
    return written, failures


def _write(name: str, source: Source, sample: Sample, path: Path) -> Written:
    """Write one form, read it back and compare. ValueError where it says something else."""
    form = FORMS[name]
    expected = logits_of(Logits(form.write(source, path)), sample.images)
    found = logits_of(form.read(path, source.network), sample.images)
    agreement = compare(found, expected, tolerance=form.tolerance)
    if not agreement.holds:
        raise ValueError(f"read back on {sample.told}, it does not say what it was made of: {agreement}")
    data = path.read_bytes()
    return Written(
        form=name,
        file=form.file,
        title=form.title,
        size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        check=str(agreement),
        facts={
            "largest_difference": agreement.largest,
            "tolerance": agreement.tolerance,
            "equal_predictions": agreement.equal,
            "images": agreement.count,
        },
    )


def _rounded(source: Source, sample: Sample, note: Callable[[str], None]) -> Rounded:
    """How far the rounded weights are from the run's."""
    other = with_weights(source.network, halved(source.network.state_dict()))
    before, after = (logits_of(Logits(network), sample.images) for network in (source.network, other))
    distance = compare(after, before, tolerance=1.0)
    if sample.dataset is None:
        return Rounded(distance.largest, distance.equal, distance.count)
    note(f"measuring the rounded weights on {len(sample.dataset.evaluation_labels)} images")
    stream = EvaluationStream(sample.dataset, batch_size=BATCH, device="cpu")
    found = evaluate(other, stream, precision="fp32")
    return Rounded(distance.largest, distance.equal, distance.count, found.accuracy, found.correct, found.count)
