"""Folders and shards of photographs: found, read once, remembered, and one data set wherever they lie."""

from __future__ import annotations

import io
import os
import re
import shutil
import tarfile
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path

import numpy as np
import pytest
import torch
from photographs import encoded, kinds, picture, shards_of, write_folder
from torchvision.datasets import ImageFolder
from torchvision.transforms import functional

from distill.data import Part, StrongView, UnreadableImage, image_folder, imagenet, imagenette, set_workers
from distill.data import image_index as index_module
from distill.data import image_stream as stream_module
from distill.data.image_decode import Resample
from distill.data.image_folder import IMAGENETTE, PhotoDataset
from distill.data.image_index import INDEX, ImageIndex

SMALL = {"size": 24, "resize": 28}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "photos")


def batches(data: PhotoDataset, *, epoch: int = 1, start: int = 0, **options: object) -> list[bytes]:
    stream = data.stream(batch_size=7, seed=3, device="cpu", **options)  # type: ignore[arg-type]
    return [
        batch.images.numpy().tobytes()
        + batch.labels.numpy().tobytes()
        + (b"" if batch.strong is None else batch.strong.numpy().tobytes())
        for batch in stream.epoch(epoch, start=start)
    ]


def evaluated(data: PhotoDataset) -> bytes:
    return b"".join(batch.images.numpy().tobytes() for batch in data.evaluation_stream(batch_size=5, device="cpu"))


def test_classes_and_order_are_those_of_imagefolder(root: Path) -> None:
    data, reference = image_folder(root=str(root), **SMALL), ImageFolder(str(root / "train"))
    assert list(data.class_names) == reference.classes
    assert data.train_labels.tolist() == reference.targets
    assert [data.train.name(row) for row in range(len(data.train))] == [path for path, _ in reference.samples]
    assert (data.num_classes, data.image_size, data.split, data.num_views) == (3, 24, "test", None)


@pytest.mark.parametrize("labels", [True, False])
def test_folder_and_shards_are_one_data_set(root: Path, tmp_path: Path, labels: bool) -> None:
    folder = image_folder(root=str(root), **SMALL)
    shards = image_folder(shards=str(shards_of(root, tmp_path / "shards", labels=labels)), **SMALL)
    assert folder.identity() == shards.identity()
    assert folder.class_names == shards.class_names
    assert batches(folder) == batches(shards)
    assert evaluated(folder) == evaluated(shards)
    assert image_folder(shards=packed(root, tmp_path / "packed"), **SMALL).identity() == folder.identity()


def packed(root: Path, folder: Path) -> str:
    """The folder's images as one tar file a split, without labels."""
    folder.mkdir()
    for split in ("train", "val"):
        with tarfile.open(folder / f"{split}.tar", "w") as tar:
            tar.add(root / split, arcname=".")  # members ./CLASS/FILE
    return str(folder)


def test_names_that_differ_behind_their_first_dot_are_images_of_their_own(root: Path, tmp_path: Path) -> None:
    for folder in sorted(root.glob("*/*")):
        files = sorted(folder.iterdir())
        for file, name in zip(files, ("img.1.jpg", "img.2.jpg", "x.jpg", "x.png"), strict=False):
            file.rename(folder / name)
    folder, shards = image_folder(root=str(root), **SMALL), image_folder(shards=packed(root, tmp_path / "tar"), **SMALL)
    assert len(shards.train) == len(folder.train) == 24
    assert folder.identity() == shards.identity()
    assert batches(folder) == batches(shards)
    assert evaluated(folder) == evaluated(shards)


def test_in_a_shard_with_labels_a_sample_has_one_image(tmp_path: Path) -> None:
    for split in ("train", "val"):
        with tarfile.open(tmp_path / f"{split}.tar", "w") as shard:
            for label in (0, 1):
                members = {"jpg": encoded(picture(30, 30)), "2.jpg": encoded(picture(30, 30, seed=label + 1))}
                for ending, data in {**members, "cls": str(label).encode()}.items():
                    info = tarfile.TarInfo(f"{label}.{ending}")
                    info.size = len(data)
                    shard.addfile(info, io.BytesIO(data))
    data = image_folder(shards=str(tmp_path), **SMALL)
    assert (data.train.names, data.train_labels.tolist()) == (("/0.2.jpg", "/1.2.jpg"), [0, 1])


def test_hidden_folders_hold_no_classes_and_no_images(root: Path, tmp_path: Path) -> None:
    before = image_folder(root=str(root), **SMALL).identity()
    for hidden in ("train/.thumbs", "train/.ipynb_checkpoints", "train/class0/.thumbs", "val/.thumbs"):
        (root / hidden).mkdir()
        (root / hidden / "a.jpg").write_bytes(encoded(picture(30, 30)))
    shards = packed(root, tmp_path / "tar")
    (tmp_path / "tar" / "._train.tar").write_bytes(b"a resource fork")
    assert image_folder(root=str(root), **SMALL).identity() == before
    assert image_folder(shards=shards, **SMALL).identity() == before


def test_test_shards_beside_validation_shards_are_left_out(root: Path, tmp_path: Path) -> None:
    (tmp_path / "packed").mkdir()
    for split, name in (("train", "train"), ("val", "val"), ("train", "test")):
        with tarfile.open(tmp_path / "packed" / f"{name}.tar", "w") as tar:
            tar.add(root / split, arcname=".")
    found, folder = image_folder(shards=str(tmp_path / "packed"), **SMALL), image_folder(root=str(root), **SMALL)
    assert found.identity() == folder.identity()


def test_workers_and_resuming_change_no_byte(root: Path) -> None:
    data = image_folder(root=str(root), **SMALL)
    found = {}
    for workers in (1, 4):
        set_workers(workers)
        found[workers] = (batches(data), batches(data, strong=StrongView()), evaluated(data))
    set_workers(None)
    assert found[1] == found[4]
    weak, strong, _ = found[1]
    assert batches(data, start=2) == weak[2:]
    assert batches(data, start=2, strong=StrongView()) == strong[2:]
    assert batches(data, start=len(weak)) == batches(data, start=len(weak), strong=StrongView()) == []
    assert batches(data, epoch=2) != weak
    assert all(two.startswith(one) for one, two in zip(weak, strong, strict=True))


def test_processes_take_their_rows_of_each_batch(root: Path) -> None:
    data = image_folder(root=str(root), **SMALL)
    whole, *parts = (
        list(data.stream(batch_size=7, seed=3, device="cpu", strong=StrongView(), part=part).epoch(1))
        for part in (Part(), Part(0, 2), Part(1, 2))
    )
    for batch, *own in zip(whole, *parts, strict=True):
        for name in ("images", "index", "strong"):
            assert torch.equal(torch.cat([getattr(each, name) for each in own]), getattr(batch, name))
    streams = [data.evaluation_stream(batch_size=5, device="cpu", part=Part(rank, 2)) for rank in (0, 1)]
    rows = torch.cat([batch.index for stream in streams for batch in stream])
    assert rows.tolist() == list(range(12))
    assert {stream.count for stream in streams} == {12}


def test_the_processes_of_a_machine_share_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(16)), raising=False)
    found = []
    for processes in (1, 2, 8, 99):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
        found.append(stream_module.workers())
    assert found == [16, 8, 2, 1]


def test_a_bounded_number_of_batches_is_in_the_making() -> None:
    drawn = []

    def works() -> Iterator[stream_module._Work]:
        for number in count():
            drawn.append(number)
            yield stream_module._Work([number], (), [])

    set_workers(2)
    try:
        ordered = stream_module._in_order(works(), batch_size=16)
        for number in range(3):
            assert next(ordered).positions == [number]
            assert len(drawn) == number + 4  # three more than were taken
        ordered.close()
    finally:
        set_workers(None)


def test_evaluation_images_are_decoded_once_where_they_fit(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []
    original = stream_module.ImageFiles.decoded
    monkeypatch.setattr(
        stream_module.ImageFiles, "decoded", lambda self, row: decoded.append(row) or original(self, row)
    )
    data = image_folder(root=str(root), **SMALL)
    first = evaluated(data)
    assert evaluated(data) == first
    assert sorted(decoded) == list(range(12))
    monkeypatch.setattr(stream_module, "KEPT_SHARE", 0.0)
    data = image_folder(root=str(root), **SMALL)
    assert evaluated(data) == evaluated(data) == first
    assert len(decoded) == 3 * 12


def test_a_process_without_evaluation_images_has_none_in_every_pass(root: Path) -> None:
    data = image_folder(root=str(root), **SMALL)
    stream = data.evaluation_stream(batch_size=5, device="cpu", part=Part(12, 13))
    assert [list(stream), list(stream)] == [[], []]


def test_images_may_come_in_bf16_rounded_once(root: Path) -> None:
    data = image_folder(root=str(root), **SMALL)
    full, half = (
        data.stream(batch_size=7, seed=3, device="cpu", dtype=dtype, strong=StrongView())
        for dtype in (torch.float32, torch.bfloat16)
    )
    assert full.key != half.key
    batch, expected = next(half.epoch(1)), next(full.epoch(1))
    assert torch.equal(batch.images, expected.images.to(torch.bfloat16))
    assert torch.equal(batch.strong, expected.strong.to(torch.bfloat16))


def test_keys_of_evaluation_streams_are_equal_exactly_where_batches_are(root: Path) -> None:
    def key(batch_size: int = 5, rows: range | None = None, part: Part | None = None, **changes: object) -> object:
        data = image_folder(root=str(root), **{**SMALL, **changes})  # type: ignore[arg-type]
        return data.evaluation_stream(batch_size=batch_size, device="cpu", rows=rows, part=part or Part()).key

    assert key() == key()
    different = [key(), key(6), key(rows=range(3)), key(part=Part(1, 2)), key(resize=30), key(std=(1.0, 1.0, 1.0))]
    assert len(set(different)) == len(different)


def test_strong_views_leave_the_rest_as_it_is_and_differ_from_it(root: Path) -> None:
    stream = image_folder(root=str(root), **SMALL).stream(batch_size=9, seed=1, device="cpu", strong=StrongView())
    (first, *_) = stream.epoch(1)
    assert first.strong is not None
    assert first.strong.shape == first.images.shape == (9, 3, 24, 24)
    assert (first.strong != first.images).flatten(1).any(1).all()
    assert first.view.tolist() == [-1] * 9


def test_the_id_holds_the_content_and_the_crops_not_the_place(root: Path, tmp_path: Path) -> None:
    data = image_folder(root=str(root), **SMALL)
    moved = shutil.copytree(root, tmp_path / "elsewhere")
    (moved / INDEX).unlink()
    assert image_folder(root=str(moved), **SMALL).identity() == data.identity()
    changes = ({"size": 20}, {"resize": 30}, {"scale": (0.2, 1.0)}, {"ratio": (1.0, 1.0)}, {"resample": "torch"})
    identities = [image_folder(root=str(root), **{**SMALL, **each}).identity() for each in (*changes, {"flip": False})]
    assert all(each != data.identity() for each in identities)
    assert len({str(each) for each in identities}) == len(identities)
    victim = sorted((moved / "train").glob("*/*"))[0]
    victim.write_bytes(encoded(picture(44, 44, seed=99)))
    assert image_folder(root=str(moved), **SMALL).identity()["train"] != data.identity()["train"]


def test_evaluation_images_are_cut_in_proportion_to_their_size(root: Path, tmp_path: Path) -> None:
    """Unless `resize` is given: to 7/8 of the shorter side, Imagenette to 8/9, as at 224 and 128 pixels."""
    assert [image_folder(root=str(root), size=size).identity()["resize"] for size in (224, 64, 7)] == [256, 73, 8]
    assert image_folder(root=str(root), size=64, resize=64).identity()["resize"] == 64
    ten = write_folder(tmp_path / "ten", classes=10, train=1, val=1)
    for split in ("train", "val"):
        for label, name in enumerate(IMAGENETTE):
            (ten / split / f"class{label}").rename(ten / split / name)
    assert [imagenette(root=str(ten), size=size).identity()["resize"] for size in (128, 80)] == [144, 90]


def test_every_byte_is_read_once_and_later_only_what_changed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    original = ImageIndex._entry

    def counted(self: ImageIndex, name: str, state: os.stat_result) -> index_module.IndexedFile:
        read.append(name)
        return original(self, name, state)

    monkeypatch.setattr(ImageIndex, "_entry", counted)
    image_folder(root=str(root), **SMALL)
    assert len(read) == len(set(read)) == 36
    image_folder(root=str(root), **SMALL)
    assert len(read) == 36
    changed = sorted((root / "val").glob("*/*"))[2]
    changed.write_bytes(encoded(picture(50, 31, seed=5)))
    image_folder(root=str(root), **SMALL)
    assert read[36:] == [changed.relative_to(root).as_posix()]
    # a process killed while it wrote leaves half a line: what is whole counts
    lines = (root / INDEX).read_bytes().splitlines(keepends=True)
    (root / INDEX).write_bytes(b"".join(lines[:10]) + lines[10][:20])
    image_folder(root=str(root), **SMALL)
    assert len(read) == 37 + 36 - len({line.split(b'"')[1] for line in lines[:10]})
    assert image_folder(root=str(root), holdout=6, **SMALL).identity()["test"] is None


def test_the_first_reading_shows_its_pace_and_the_time_left(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(index_module, "QUIET_SECONDS", 0.0)
    image_folder(root=str(root), **SMALL)
    first, last = capsys.readouterr().err.splitlines()
    assert re.search(r" once: \[#? +\] 1 of 36 files, [\d,]+ MB/s, \d+ min \d\d s left$", first), first
    assert re.fullmatch(rf"read 36 files of {re.escape(str(root))}, [\d,]+ MB/s", last), last
    image_folder(root=str(root), **SMALL)
    assert capsys.readouterr().err == ""


def test_the_index_of_a_read_only_folder_lies_in_the_cache_folder(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root.chmod(0o555)
    try:
        image_folder(root=str(root), **SMALL)
    finally:
        root.chmod(0o755)
    assert not (root / INDEX).exists()
    assert len(list((tmp_path / "cache" / "distill").iterdir())) == 1


def test_holdout_stands_in_for_a_missing_validation_folder(root: Path) -> None:
    shutil.rmtree(root / "val")
    with pytest.raises(ValueError, match=r"no folder val or test .* set dataset\.holdout=N"):
        image_folder(root=str(root), **SMALL)
    data = image_folder(root=str(root), holdout=6, limit=18, **SMALL)
    assert (len(data.train_labels), len(data.evaluation_labels), data.split) == (12, 6, "holdout")
    assert np.bincount(data.evaluation_labels).tolist() == [2, 2, 2]
    assert not set(data.train.digests) & set(data.evaluation.digests)


def test_damaged_images_are_refused_or_left_out_and_listed(root: Path) -> None:
    intact = image_folder(root=str(root), **SMALL)
    files = sorted((root / "train").glob("*/*"))
    (root / "train" / "class0" / "zero.jpg").write_bytes(b"")
    cut = root / "train" / "class1" / "cut.jpg"
    cut.write_bytes(files[9].read_bytes()[:600])
    with pytest.raises(ValueError, match=r"zero\.jpg \(the file is empty\) cannot be decoded, and 1 more is damaged"):
        image_folder(root=str(root), **SMALL)
    data = image_folder(root=str(root), skip_damaged=True, **SMALL)
    assert [Path(each.split(" (")[0]).name for each in data.skipped] == ["zero.jpg", "cut.jpg"]
    assert "left out 2 damaged images" in data.notes[0]
    assert data.identity() == {**intact.identity(), "skipped": 2}
    assert len(data.train) == len(intact.train)


def test_a_validation_set_that_is_damaged_as_a_whole_is_refused(root: Path) -> None:
    for file in (root / "val").glob("*/*"):
        file.write_bytes(b"")
    with pytest.raises(
        ValueError,
        match=r"dataset\.skip_damaged=true leaves 0 validation images, at least 1 is needed: .*holdout=N",
    ):
        image_folder(root=str(root), skip_damaged=True, **SMALL)
    assert len(image_folder(root=str(root), skip_damaged=True, holdout=6, **SMALL).evaluation) == 6


@pytest.mark.parametrize("damage", ["vanished", "changed"])
def test_an_image_that_is_damaged_later_stops_with_its_path(root: Path, damage: str) -> None:
    data = image_folder(root=str(root), **SMALL)
    victim = Path(data.train.name(4))
    if damage == "vanished":
        victim.unlink()
    else:
        victim.write_bytes(encoded(picture(60, 60)))
    with pytest.raises(UnreadableImage, match=f"{victim.name} cannot be read .* restore it"):
        batches(data)


def test_an_image_that_is_damaged_later_may_be_missing_in_an_index_that_cannot_be_written(root: Path) -> None:
    index = ImageIndex(root)
    before = index.path.read_bytes() if index.path.exists() else None
    index.mark_damaged("train/none/0.jpg", None, "it ends early")  # of which it has no entry
    assert (index.path.read_bytes() if index.path.exists() else None) == before


@pytest.mark.parametrize("place", ["root", "shards"])
def test_an_image_that_was_restored_with_its_time_is_used_again(root: Path, tmp_path: Path, place: str) -> None:
    where = {place: str(root if place == "root" else shards_of(root, tmp_path / "shards"))}
    data = image_folder(**where, **SMALL)  # type: ignore[arg-type]
    path, offset, length = data.train.root / data.train.files[4], int(data.train.offsets[4]), int(data.train.lengths[4])
    intact, time = path.read_bytes(), path.stat().st_mtime_ns

    def write(content: bytes) -> None:
        path.write_bytes(content)
        os.utime(path, ns=(time, time))

    write(intact[: offset + 300] + bytes(length - 302) + intact[offset + length - 2 :])  # it ends as a JPEG does
    with pytest.raises(UnreadableImage, match="cannot be read"):
        batches(data)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"cannot be decoded: restore such images"):
            image_folder(**where, **SMALL)  # type: ignore[arg-type]
    assert len(image_folder(**where, **SMALL, skip_damaged=True).train) == len(data.train) - 1  # type: ignore[arg-type]
    write(intact)
    assert image_folder(**where, **SMALL).identity() == data.identity()  # type: ignore[arg-type]


def test_every_kind_of_file_is_an_image_of_the_folder(tmp_path: Path) -> None:
    endings = {"PNG": "JPEG", "WebP": "webp"}  # PNG data under a JPEG's name, as one file of ImageNet has it
    for number, (kind, content) in enumerate(kinds().items()):
        folder = tmp_path / "train" / f"c{number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.{endings.get(kind, 'jpg')}").write_bytes(content)
    (tmp_path / "train" / "c0" / "notes.txt").write_text("not an image")
    (tmp_path / "train" / "c0" / "._0.jpg").write_bytes(b"a resource fork")
    data = image_folder(root=str(tmp_path), holdout=2, **SMALL)
    assert len(data.train) + len(data.evaluation) == len(kinds())
    assert len(batches(data)) == 2


def test_other_folders_are_refused_with_what_to_do(root: Path, tmp_path: Path) -> None:
    for options, sentence in (
        ({}, "neither is set"),
        ({"root": str(root), "shards": str(root)}, "both are set"),
        ({"root": str(tmp_path / "no")}, "there is no folder"),
        ({"root": str(root / "train")}, r"put the training images of each class into .*/train/CLASS/"),
        ({"shards": str(root)}, "no tar file below .* has train in its name"),
        ({"root": str(root), "resize": 20}, r"dataset\.resize must be at least dataset\.size \(24\), got 20"),
        ({"root": str(root), "scale": (0.5, 2.0)}, r"dataset\.scale must be"),
        ({"root": str(root), "ratio": (0.0, 2.0)}, r"dataset\.ratio must be"),
        ({"root": str(root), "resample": "cubic"}, r"dataset\.resample must be pillow"),
        ({"root": str(root), "std": (0.0, 1, 1)}, r"dataset\.std must be > 0"),
    ):
        with pytest.raises(ValueError, match=sentence):
            image_folder(**{**SMALL, **options})  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match=r"not the whole of ImageNet-1k .* 24 images in train and 12 images in evaluation"
    ):
        imagenet(root=str(root))
    with pytest.raises(ValueError, match="does not hold Imagenette's ten classes"):
        imagenette(root=str(root))
    (root / "val" / "stranger").mkdir()
    (root / "val" / "stranger" / "a.jpg").write_bytes(encoded(picture(30, 30)))
    with pytest.raises(ValueError, match="stranger is a class without training images"):
        image_folder(root=str(root), **SMALL)
    shutil.rmtree(root / "val")
    (root / "val").mkdir()
    (root / "val" / "ILSVRC2012_val_00000001.JPEG").write_bytes(encoded(picture(30, 30)))
    with pytest.raises(
        ValueError, match=r"1 images without class folders: .*prepare_imagenet\.py --val .*/val --devkit"
    ):
        image_folder(root=str(root), **SMALL)


@pytest.mark.data
@pytest.mark.parametrize(("resample", "levels"), [("pillow", 0), ("torch", 2)])
def test_real_photographs_are_cropped_as_torchvision_does(photographs: Path, resample: Resample, levels: int) -> None:
    """Crops of 200 training photographs in two epochs, and views of 100 evaluation photographs."""
    data = imagenette(root=str(photographs), size=64, resize=72, resample=resample)
    stream = data.stream(batch_size=50, seed=1, device="cpu")
    reference, validation = (ImageFolder(str(photographs / split)) for split in ("train", "val"))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (data.mean, data.std))
    worst = 0
    for epoch in (1, 2):
        crops = stream._crops(stream.draws(epoch)[0].numpy(), "boxes", epoch)
        for number, batch in enumerate(islice(stream.epoch(epoch), 4)):
            for k, row in enumerate(batch.index.tolist()):
                image, label = reference[row]
                assert label == batch.labels[k]
                place = 50 * number + k
                view = functional.resized_crop(image, *crops.boxes[place].tolist(), [64, 64])
                view = functional.hflip(view) if crops.flips[place] else view
                pixels = ((batch.images[k] * std + mean) * 255).round().int()
                worst = max(worst, int((pixels - functional.pil_to_tensor(view)).abs().max()))
    rows = range(0, len(validation), len(validation) // 100)
    for found, row in zip(data.evaluation_images[rows], rows, strict=True):
        expected = functional.center_crop(functional.resize(validation[row][0], [72]), [64])
        worst = max(worst, int(np.abs(found.astype(int) - np.asarray(expected).astype(int)).max()))
    assert worst <= levels
