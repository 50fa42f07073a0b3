"""What a whole run of CIFAR's size takes, told from some of its epochs, and what building a table takes."""

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from copy import deepcopy
from pathlib import Path

from distill.bench.figure import Figure, Note
from distill.bench.lab import Lab
from distill.bench.paused import PausedTraining
from distill.bench.rows.steps import TABLE
from distill.teachers.table_build import answers, build
from distill.teachers.table_file import TableFile
from distill.teachers.table_spec import TableSpec
from distill.training import Member

IMAGES, EVALUATED = 50_000, 10_000  # of CIFAR
COUNTED, BEFORE = 3, 2  # epochs
CHUNKS = 2  # of a table, after a first one
COHORT = 8


def whole_runs(lab: Lab, note: Note) -> list[Figure]:
    """A run with an evaluation every epoch, for one student and for each of a cohort, and the table it reads."""
    data = lab.of_size(IMAGES, EVALUATED)
    table, epochs = lab.table(data), lab.plan.recipe.epochs
    figures = []
    for key, size, what in (("run.table", 1, "one student"), (f"run.cohort{COHORT}.table", COHORT, f"one of {COHORT}")):
        note(f"{key}: {BEFORE + COUNTED} epochs of {IMAGES:,} images")
        seconds = _epochs(lab, lab.cohort(data, table, size, epochs=epochs))
        whole = tuple(epochs * each / size for each in seconds)
        label = f"{epochs} epochs with evaluation, table, {what}"
        figures.append(Figure(key, label, "run", (*TABLE, "evaluation", *(["cohort"] if size > 1 else [])), whole))
    return figures


def building(lab: Lab, note: Note) -> list[Figure]:
    """The table of CIFAR's size, told from some of its chunks, written to a disk as a run writes them."""
    data = lab.of_size(IMAGES, EVALUATED)
    spec = TableSpec.of(data, weights="bench", precision=lab.teacher_precision, device=lab.device.type)
    network = deepcopy(lab.folded_teacher).to(lab.device)
    answer = answers(network, data, precision=lab.teacher_precision, device=lab.device)
    with tempfile.TemporaryDirectory() as folder:
        file = TableFile(Path(folder), spec)
        seconds = []
        for chunk in range(min(file.chunks, CHUNKS + 1)):
            note(f"table.build: chunk {chunk + 1} of {file.chunks}")
            spent = lab.clock(lambda chunk=chunk: build(file, [chunk], answer, batch_size=lab.settings.table_batch))  # type: ignore[misc]
            seconds.append(spent / len(file.span(chunk)) * spec.rows)
    label = f"building a table of {spec.rows:,} rows"
    return [Figure("table.build", label, "table", ("folded", "table"), tuple(seconds[1:] or seconds))]


def _epochs(lab: Lab, members: Sequence[Member]) -> list[float]:
    with ExitStack() as stack:
        training = stack.enter_context(PausedTraining(members, engine=lab.engine()))
        for _ in range(BEFORE):
            training.epoch()
        return [lab.clock(training.epoch) for _ in range(COUNTED)]
