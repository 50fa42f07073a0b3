"""Whether a teacher is run live or read from a table of its logits, and that table made ready."""

import os
from collections.abc import Callable

from torch import Tensor, nn

from distill.config.plan import RunPlan, not_from_a_table, teacher_precision
from distill.execution.progress import duration
from distill.execution.stopping import Interrupted, RunFailed, stop_signals
from distill.runs.files import StorageError
from distill.runs.layout import TABLES
from distill.runs.lock import RunLock
from distill.runs.occupied import size_of
from distill.runs.store import RunRecord
from distill.teachers.table_build import NonFiniteLogits, Progress, answers, build, missing_room
from distill.teachers.table_file import TableFile
from distill.teachers.table_spec import TableSpec

Note = Callable[[str], None]
PIXELS = {"cpu": 256 * 32**2, "cuda": 2048 * 32**2}  # of a batch of the build
SHARE_TOLD = 0.1  # of the table, between two lines about it


def table_file(plan: RunPlan, record: RunRecord) -> TableFile:
    """Where the table lies that would serve `plan`, with the run of its teacher."""
    assert record.result is not None
    spec = TableSpec.of(
        plan.dataset,
        weights=record.result["weights_sha256"],
        precision=teacher_precision(plan),
        device=plan.device.type,
    )
    return TableFile(record.path / TABLES / spec.key, spec)


def choose_source(plan: RunPlan, record: RunRecord, *, kept: str | None, epochs: int, note: Note) -> str:
    """`live` or `table`: as pinned, as the run began, else whatever costs fewer teacher forwards, with a line.

    Args:
        plan: a run with a teacher.
        record: the teacher's run.
        kept: the source of the run's checkpoint, where there is one.
        epochs: of forwards that the runs of this command ask of a live teacher.
        note: told the reason.

    Raises:
        RunFailed: the run began with another source than the one now pinned.
    """
    pinned = plan.config["teacher"]["source"]
    if kept is not None:
        if pinned not in ("auto", kept):
            raise RunFailed(
                f"{plan.directory} began with teacher.source={kept}: leave the source out to finish it so, "
                f"or repeat it with teacher.source={pinned} under another runs_dir"
            )
        return kept
    if pinned != "auto":
        return str(pinned)
    source, reason = _cheaper(plan, record, epochs)
    note(f"teacher {record.path.name}: source {source}, {reason}")
    return source


def _cheaper(plan: RunPlan, record: RunRecord, epochs: int) -> tuple[str, str]:
    """The source that takes fewer forwards, and why."""
    unfit = not_from_a_table(plan.objective())
    if unfit is not None:
        return "live", f"since no table can serve {plan.names['loss']}: {unfit}"
    file = table_file(plan, record)
    _, missing = file.open()
    if not missing:
        return "table", f"which is there already ({file.folder})"
    cost = sum(len(file.span(chunk)) for chunk in missing)
    images, views = file.spec.images, file.spec.views
    weighed = (
        f"{epochs * images:,} forwards asked for ({epochs} epochs x {images:,} images) and {cost:,} to build the table "
        f"({views} views): it pays from {-(-cost // images)} epochs on"
    )
    if epochs * images <= cost:
        return "live", weighed
    if not os.access(record.path, os.W_OK):
        return "live", f"since {record.path} cannot be written to"
    room = missing_room(file, missing)
    return ("live", f"since {room}") if room else ("table", weighed)


def ready_rows(file: TableFile, network: nn.Module, plan: RunPlan, *, note: Note) -> Tensor:
    """The mapped rows of the table, built or finished first where they are not there.

    Raises:
        StorageError: there is no room, or the folder cannot be written to.
        RunFailed: the teacher's logits are not finite.
        Interrupted: the user asked to stop; the finished part is kept.
    """
    rows, missing = file.open()
    if rows is not None:
        return rows
    with RunLock(file.folder) as lock:
        lock.wait(lambda who: note(f"waiting for the table in {file.folder}: {who} is building it"))
        rows, missing = file.open()
        if rows is None:
            room = missing_room(file, missing)
            if room:
                raise StorageError(f"{room}: free some, or set teacher.source=live")
            _build(file, missing, network, plan, note)
            rows, missing = file.open()
    if rows is None:
        raise StorageError(
            f"the table in {file.folder} does not read back as it was written: see to the disk, or set "
            "teacher.source=live"
        )
    return rows


def _build(file: TableFile, missing: list[int], network: nn.Module, plan: RunPlan, note: Note) -> None:
    spec = file.spec
    note(
        f"building a table of the teacher's logits: {spec.images:,} images x {spec.views} views x {spec.classes} "
        f"classes, {size_of(spec.bytes)} in {file.folder}"
    )
    told = -1.0

    def tell(progress: Progress) -> None:
        nonlocal told
        share = progress.done / progress.rows
        if progress.done == progress.rows or share >= told + SHARE_TOLD:
            told = share
            note(f"table: {progress.done:,} of {progress.rows:,} rows, {duration(progress.seconds_left)} left")

    answer = answers(network, plan.dataset, precision=spec.precision, device=plan.device)
    pixels = PIXELS["cuda" if plan.device.type == "cuda" else "cpu"]
    batch_size = max(1, pixels // plan.dataset.image_size**2)
    with stop_signals() as stop_requested:
        try:
            done = build(file, missing, answer, batch_size=batch_size, progress=tell, stop_requested=stop_requested)
        except NonFiniteLogits as error:
            raise RunFailed(f"there is no table of the teacher: {error}") from error
    if not done:
        raise Interrupted("stopped while the teacher's table was built: type the command again to go on")
