"""Tables on the disk: finished wherever they were left, and never trusted further than they can be checked."""

import errno
import json
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from distill.data import ImageDataset, digits, synthetic
from distill.runs.files import StorageError
from distill.teachers import table_build
from distill.teachers.table import HEADER, ROWS, TableFile, TableSpec, decode
from distill.teachers.table_build import NonFiniteLogits, Progress, build, missing_room

Made = Callable[..., TableFile]
ALL = [0, 1, 2, 3, 4]  # the chunks of 50 of 216 rows


class Killed(BaseException):
    """Stands for SIGKILL: nothing may be tidied up after it."""


def test_rows_are_images_by_views(made: Made, dataset: ImageDataset, linear) -> None:
    file = made()
    rows, missing = file.open()
    assert missing == []
    assert rows is not None
    images = dataset.on("cpu")
    for image, view in ((0, 0), (0, 17), (1, 0), (7, 11), (11, 17)):
        live = linear(images.images(torch.tensor([image]), torch.tensor([view]))).logits
        found = decode(rows[image * 18 + view].unsqueeze(0), classes=5)
        torch.testing.assert_close(found, live, rtol=0, atol=3e-4)


def test_a_row_of_k_classes_takes_2_k_and_8_bytes(made: Made) -> None:
    file = made()
    assert file.spec.bytes == 216 * (2 * 6 + 8)  # five classes, padded to six
    assert (file.folder / ROWS).stat().st_size == file.spec.bytes


@pytest.mark.parametrize(
    ("data", "views"),
    [
        (lambda: digits(), 81),
        (lambda: synthetic(image_size=32), 162),
        (lambda: synthetic(pad=0, flip=False), 1),
        (lambda: synthetic(pad=0), 2),
    ],
)
def test_views_come_from_the_augmentation(data: Callable[[], ImageDataset], views: int) -> None:
    dataset = data()
    spec = TableSpec.of(dataset, weights="w", precision="fp32", device="cpu")
    assert (spec.views, spec.rows) == (views, views * len(dataset.train_labels))


def test_whatever_changes_a_number_is_another_table(dataset: ImageDataset) -> None:
    spec = TableSpec.of(dataset, weights="w", precision="fp32", device="cpu")
    others = [
        replace(spec, **{key: value})
        for key, value in {
            "weights": "v",
            "data": "d",
            "holdout": 2,
            "mean": (0.1, 0.2, 0.3),
            "std": (0.1, 0.2, 0.3),
            "pad": 2,
            "flip": False,
            "precision": "bf16",
            "device": "cuda",
            "images": 13,
            "views": 9,
            "classes": 6,
        }.items()
    ]
    assert len({other.key for other in others} | {spec.key}) == len(others) + 1
    assert spec.key == TableSpec.of(dataset, weights="w", precision="fp32", device="cpu").key


def test_a_table_of_another_teacher_is_not_read_where_it_lies_in_this_ones_place(made: Made) -> None:
    file = made()
    other = TableFile(file.folder, replace(file.spec, weights="v"), chunk_rows=50)
    assert other.open() == (None, ALL)
    assert file.open()[1] == []


def test_a_table_that_is_there_is_not_built_again(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    made()
    monkeypatch.setattr(table_build, "encode", lambda logits: pytest.fail("a finished chunk is computed again"))
    made()


@pytest.mark.parametrize("chunk", ALL)
@pytest.mark.parametrize("instant", ["_encoded", "fsync", "record", "_write"])
def test_a_kill_at_any_instant_is_built_on(
    made: Made, monkeypatch: pytest.MonkeyPatch, instant: str, chunk: int
) -> None:
    counts: Counter[str] = Counter()
    with monkeypatch.context() as patch:
        for module, name in (
            (table_build, "_encoded"),
            (table_build, "_write"),
            (table_build.os, "fsync"),
            (TableFile, "record"),
        ):
            patch.setattr(module, name, _dying(counts, getattr(module, name), name, at=(instant, chunk + 1)))
        with pytest.raises(Killed):
            made(record_seconds=0)
    steps: list[Progress] = []
    file = made(record_seconds=0, progress=steps.append)
    assert file.open()[1] == []
    # a chunk asks for two batches and syncs rows, header and folder; it is done once its header has its name
    done = {"_encoded": chunk // 2, "fsync": (chunk + 1) // 3, "record": chunk, "_write": chunk}[instant]
    assert len(steps) == 5 - done


def _dying(counts: Counter[str], real: Callable[..., Any], name: str, *, at: tuple[str, int]) -> Callable[..., Any]:
    """A function that is killed at its n-th call, half done where it writes, and never does anything afterwards."""

    def call(*args: Any, **options: Any) -> Any:
        counts[name] += 1
        if counts["dead"] or (name, counts[name]) == at:
            if name == "_write" and not counts["dead"]:
                real(args[0], args[1][: len(args[1]) // 2], args[2])
            counts["dead"] = 1
            raise Killed
        return real(*args, **options)

    return call


@pytest.mark.parametrize("chunk", ALL)
def test_a_flipped_bit_is_found_and_its_chunk_alone_is_built_again(made: Made, chunk: int) -> None:
    file = made()
    sound = (file.folder / ROWS).read_bytes()
    damaged = bytearray(sound)
    damaged[file.span(chunk).start * file.spec.row_bytes + 9] ^= 4
    (file.folder / ROWS).write_bytes(damaged)
    assert file.open() == (None, [chunk])
    made()
    assert (file.folder / ROWS).read_bytes() == sound
    assert file.open()[1] == []


@pytest.mark.parametrize(("size", "missing"), [(0, ALL), (1, ALL), (50 * 20, ALL[1:]), (216 * 20 - 1, [4])])
def test_a_file_that_was_cut_is_finished(made: Made, size: int, missing: list[int]) -> None:
    file = made()
    os.truncate(file.folder / ROWS, size)
    assert file.open() == (None, missing)
    made()
    assert file.open()[1] == []


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff", b'{"crc32": [1]}', b'{"table": 3}'])
def test_a_damaged_header_vouches_for_nothing(made: Made, text: bytes) -> None:
    file = made()
    (file.folder / HEADER).write_bytes(text)
    assert file.open() == (None, ALL)
    made()
    assert file.open()[1] == []


@pytest.mark.parametrize("crcs", [[1], [0] * 6, None, "12345", [None] * 5])
def test_a_header_without_a_checksum_for_each_chunk_vouches_for_nothing(made: Made, crcs: object) -> None:
    file = made()
    header = json.loads((file.folder / HEADER).read_text())
    if crcs == [1]:
        crcs = header["crc32"][:1]
    (file.folder / HEADER).write_text(json.dumps(header | {"crc32": crcs}))
    assert file.open() == (None, ALL)


def test_rows_that_are_gone_are_built_again(made: Made) -> None:
    file = made()
    (file.folder / ROWS).unlink()
    assert file.open() == (None, ALL)


def test_a_stop_keeps_the_finished_chunks(made: Made) -> None:
    asked = iter(range(1000))
    file = made(stop_requested=lambda: next(asked) >= 5)  # two batches a chunk
    assert file.open() == (None, [2, 3, 4])
    steps: list[Progress] = []
    made(progress=steps.append)
    assert [step.done for step in steps] == [150, 200, 216]
    assert {step.rows for step in steps} == {216}
    assert steps[0].seconds_left > 0
    assert steps[-1].seconds_left == 0


def test_what_a_killed_build_left_is_removed_by_the_next_one(made: Made) -> None:
    file = made()
    (file.folder / f".{HEADER}.0123.tmp").write_text("half a header")
    (file.folder / ROWS).unlink()
    assert made().open()[1] == []
    assert sorted(path.name for path in file.folder.iterdir()) == [HEADER, ROWS]


def test_rows_behind_a_link_are_neither_read_nor_written(made: Made, tmp_path: Path) -> None:
    file = made()
    (file.folder / ROWS).rename(tmp_path / "elsewhere")
    before = (tmp_path / "elsewhere").read_bytes()
    (file.folder / ROWS).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="it is a link"):
        file.open()
    with pytest.raises(StorageError, match="it is a link"):
        made()
    assert (tmp_path / "elsewhere").read_bytes() == before


def test_a_full_disk_is_a_sentence_and_keeps_what_is_there(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    write = table_build._write

    def full(descriptor: int, data: bytes, offset: int) -> None:
        if offset:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(descriptor, data, offset)

    monkeypatch.setattr(table_build, "_write", full)
    with pytest.raises(StorageError, match=r"rows\.bin: no space left on device; free some space and type") as told:
        made()
    assert "\n" not in str(told.value)
    monkeypatch.undo()
    steps: list[Progress] = []
    made(progress=steps.append)
    assert [step.done for step in steps] == [100, 150, 200, 216]


def test_room_is_looked_at_before(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    file = made()
    assert missing_room(file, ALL) is None
    monkeypatch.setattr(table_build.shutil, "disk_usage", lambda path: SimpleNamespace(free=999))
    assert missing_room(file, [0]) is not None
    assert missing_room(file, [4]) is None
    far = TableFile(file.folder / "not" / "there", file.spec)
    assert str(file.folder) in str(missing_room(far, [0]))


def test_a_teacher_without_numbers_is_refused_with_the_image(made: Made, dataset: ImageDataset, tmp_path: Path) -> None:
    file = made()
    other = TableFile(tmp_path / "other", file.spec, chunk_rows=50)

    def answer(index: Tensor, view: Tensor) -> Tensor:
        logits = torch.zeros(len(index), 5)
        logits[(index == 3) & (view == 2), 4] = torch.inf
        return logits

    with pytest.raises(NonFiniteLogits, match="training image 3, view 2 are not finite"):
        build(other, [0, 1], answer, batch_size=16)
    assert other.open() == (None, [1, 2, 3, 4])


def test_the_header_says_what_it_is(made: Made) -> None:
    header = json.loads((made().folder / HEADER).read_text())
    assert header["table"].items() >= {"weights": "w", "images": 12, "views": 18, "classes": 5, "format": 1}.items()
