"""Which source a run's teacher has, and what is said of the choice."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from distill.config.plan import MethodFlags, TeacherFacts
from distill.data import ImageDataset, synthetic
from distill.execution import teachers
from distill.execution.stopping import RunFailed
from distill.execution.teachers import choose_source, table_file
from distill.losses import CrossEntropy, Objective, SoftTargets, kd
from distill.runs.files import StorageError
from distill.runs.lock import RunLock
from distill.teachers.table_build import build


class Taps(Objective):
    """Reads more than logits."""

    reads = ("features",)


class Case:
    """12 images in 18 views; `source(...)` is the choice for one run."""

    def __init__(self, folder: Path, dataset: ImageDataset) -> None:
        self.dataset, self.notes = dataset, []
        self.known = TeacherFacts("s0", "w", "w", folder / "resnet20-s0", None)
        self.known.folder.mkdir()

    def plan(self, pinned: str = "auto", objective: Objective | None = None) -> SimpleNamespace:
        objective = objective or SoftTargets(divergence=kd, temperature=4.0, ce_weight=0.1, kd_weight=0.9)
        return SimpleNamespace(
            config={"teacher": {"source": pinned, "precision": None}},
            precision="fp32",
            dataset=self.dataset,
            device=torch.device("cpu"),
            method=MethodFlags.of(objective),
            names={"loss": "kd"},
            teacher=SimpleNamespace(precision="fp32"),
            directory=Path("runs/student"),
        )

    def source(self, *, epochs: int = 1, kept: str | None = None, **plan) -> str:
        self.notes.clear()
        return choose_source(self.plan(**plan), self.known, kept=kept, epochs=epochs, note=self.notes.append)

    def build(self, chunks: list[int] | None = None) -> None:
        file = table_file(self.plan(), self.known)
        build(file, file.open()[1] if chunks is None else chunks, lambda i, v: torch.zeros(len(i), 5), batch_size=99)


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    monkeypatch.setattr(teachers.TableFile.__init__, "__kwdefaults__", {"chunk_rows": 54})  # three images
    return Case(tmp_path, synthetic(classes=5, train_size=12, test_size=5, image_size=8, pad=1))


@pytest.mark.parametrize(("epochs", "source"), [(1, "live"), (18, "live"), (19, "table")])
def test_auto_takes_what_costs_fewer_forwards_and_says_why(case: Case, epochs: int, source: str) -> None:
    assert case.source(epochs=epochs) == source
    assert case.notes == [
        f"teacher resnet20-s0: source {source}, {12 * epochs:,} forwards in {epochs} epochs\n"
        "  a table of its logits takes 216 (18 views) and pays off from 18 epochs on"
    ]


def test_no_table_is_built_for_what_reads_no_teacher(case: Case) -> None:
    """The second stage of a method whose first stage had the teacher."""
    assert case.source(epochs=99, objective=CrossEntropy()) == "live"
    assert "only its first stage uses the teacher" in case.notes[0]


def test_a_table_that_is_there_costs_nothing(case: Case) -> None:
    case.build()
    assert case.source(epochs=1) == "table"
    assert "which exists already" in case.notes[0]


def test_of_a_part_of_a_table_the_rest_is_weighed(case: Case) -> None:
    case.build([0, 2, 3])
    assert case.source(epochs=4) == "live"
    assert "takes 54 (18 views)" in case.notes[0]
    assert case.source(epochs=5) == "table"


def test_without_room_or_leave_to_write_auto_is_live(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=10))
        assert case.source(epochs=99) == "live"
        assert "kB" in case.notes[0]
        with pytest.raises(StorageError, match=r"free some, or set teacher\.source=live"):
            teachers.ready_rows(table_file(case.plan(), case.known), None, case.plan(), note=case.notes.append)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert case.source(epochs=99) == "live"
    assert "cannot be written to" in case.notes[0]


def test_what_reads_more_than_logits_is_live_with_a_line(case: Case) -> None:
    case.build()
    assert case.source(epochs=999, objective=Taps()) == "live"
    reason = "since no table can serve kd: it uses the teacher's features, and a table has its logits only"
    assert case.notes == [f"teacher resnet20-s0: source live, {reason}"]


@pytest.mark.parametrize("pinned", ["live", "table"])
def test_a_pinned_source_is_taken_without_a_word(case: Case, pinned: str) -> None:
    assert case.source(pinned=pinned) == case.source(pinned=pinned, epochs=999) == pinned
    assert case.notes == []


def test_a_run_keeps_the_source_it_began_with(case: Case) -> None:
    assert case.source(epochs=999, kept="live") == "live"
    assert case.source(epochs=1, kept="table") == "table"
    assert case.source(pinned="table", kept="table") == "table"
    with pytest.raises(RunFailed, match=r"runs/student began with teacher\.source=live: .* another runs_dir"):
        case.source(pinned="table", kept="live")


def test_a_table_that_another_process_builds_is_waited_for(case: Case) -> None:
    file = table_file(case.plan(), case.known)
    with RunLock(file.folder) as lock, ThreadPoolExecutor(1) as pool:
        assert lock.acquire()
        rows = pool.submit(teachers.ready_rows, file, None, case.plan(), note=case.notes.append)
        while not case.notes and not rows.done():
            time.sleep(0.01)
        case.build()
        lock.release()
        assert rows.result(timeout=60).shape == (216, 10)  # the one who waited had no network to build with
    (note,) = case.notes
    assert note.startswith(f"waiting for the table in {file.folder}: process ")
