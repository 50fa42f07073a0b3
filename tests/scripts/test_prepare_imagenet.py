"""The official archives of ImageNet, in miniature, become the folders and shards that a data set is read from."""

from __future__ import annotations

import importlib.util
import io
import tarfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from photographs import encoded, picture
from scipy.io import savemat

from distill.data import image_folder

WNIDS = ["n02000000", "n01000000", "n03000000"]  # classes 1, 2, 3 of the devkit: not in the order of the ids


@pytest.fixture(scope="module")
def script() -> ModuleType:
    path = Path(__file__).parents[2] / "scripts" / "prepare_imagenet.py"
    spec = importlib.util.spec_from_file_location("prepare_imagenet", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tar(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def archives(tmp_path: Path) -> dict[str, Path]:
    classes = {}
    for number, wnid in enumerate(WNIDS):
        images = {f"{wnid}_{k}.JPEG": encoded(picture(40 + k, 36, seed=10 * number + k)) for k in range(4)}
        classes[f"{wnid}.tar"] = tar(tmp_path / f"{wnid}.tar", images).read_bytes()
    truth = [3, 1, 2, 1, 2]
    val = {f"ILSVRC2012_val_{k + 1:08d}.JPEG": encoded(picture(38, 50, seed=100 + k)) for k in range(len(truth))}
    kind = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("num_children", "O")]
    rows = [(k + 1, wnid, 0) for k, wnid in enumerate(WNIDS)] + [(1001, "n00000001", 3)]  # the last one is no leaf
    meta = io.BytesIO()
    savemat(meta, {"synsets": np.array(rows, dtype=kind)})
    devkit = {
        "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt": "\n".join(map(str, truth)).encode(),
        "ILSVRC2012_devkit_t12/data/meta.mat": meta.getvalue(),
    }
    return {
        "train": tar(tmp_path / "train.tar", classes),
        "val": tar(tmp_path / "val.tar", val),
        "devkit": tar(tmp_path / "devkit.tar.gz", devkit),
    }


def words(archives: dict[str, Path], out: Path) -> list[str]:
    return [word for name, path in archives.items() for word in (f"--{name}", str(path))] + ["--out", str(out)]


def test_archives_become_class_folders_and_shards_of_one_data_set(
    script: ModuleType, archives: dict[str, Path], tmp_path: Path
) -> None:
    out, shards = tmp_path / "imagenet", tmp_path / "shards"
    script.main([*words(archives, out), "--shards", str(shards), "--shard-images", "5"])
    found = {path.relative_to(out / "val").as_posix()[:9] for path in (out / "val").glob("*/*00000001.JPEG")}
    assert found == {"n03000000"}
    assert len(list((out / "train").glob("*/*"))) == 12
    folder = image_folder(root=str(out), size=24, resize=28)
    assert folder.class_names == tuple(sorted(WNIDS))
    assert np.bincount(folder.evaluation_labels).tolist() == [2, 2, 1]
    assert len(list(shards.glob("train-*.tar"))) == 3
    assert image_folder(shards=str(shards), size=24, resize=28).identity() == folder.identity()


def test_an_interrupted_command_goes_on_and_keeps_what_is_there(
    script: ModuleType, archives: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "imagenet"
    script.main(words(archives, out))
    files = sorted(path for path in out.rglob("*") if path.is_file())
    contents = [path.read_bytes() for path in files]
    times = {path: path.stat().st_mtime_ns for path in files}
    files[0].write_bytes(b"half")
    files[5].unlink()
    script.main(words(archives, out))
    assert [path.read_bytes() for path in files] == contents
    assert {path for path in files if path.stat().st_mtime_ns != times[path]} == {files[0], files[5]}


def test_flat_validation_images_are_moved_into_their_classes(
    script: ModuleType, archives: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "imagenet"
    with tarfile.open(archives["val"]) as archive:
        archive.extractall(out / "val", filter="data")
    script.main(["--val", str(out / "val"), "--devkit", str(archives["devkit"]), "--out", str(out)])
    assert sorted(path.name for path in (out / "val").iterdir()) == sorted(WNIDS)
    assert len(list((out / "val").glob("*/*.JPEG"))) == 5
