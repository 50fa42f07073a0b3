"""A run's folder is not trusted: what it asks for is built only where it is ours, from weights it recorded."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from distill.config.own_code import own_code
from distill.config.rebuild import DATASETS, NETWORKS, Untrusted, rebuild_dataset, rebuild_network
from distill.models import resnet8
from distill.runs.checkpoint import save_weights
from distill.runs.files import StorageError
from distill.runs.store import RunRecord

STUDENT = {"_target_": "distill.models.resnet8"}
DATA = {"_target_": "distill.data.synthetic", "image_size": 8}


@pytest.fixture
def network() -> torch.nn.Module:
    return resnet8(num_classes=3)


@pytest.fixture
def record(tmp_path: Path, network: torch.nn.Module):
    """`record(student=NODE)`: a finished run whose config says so."""
    sha256 = save_weights(tmp_path / "student.safetensors", network.state_dict())

    def make(**config: object) -> RunRecord:
        result = {"classes": 3, "weights_sha256": sha256}
        return RunRecord(tmp_path, "0" * 12, "finished", {}, {"student": STUDENT, **config}, {}, result, None)

    return make


def test_the_network_comes_back_with_its_weights(record, network) -> None:
    rebuilt = rebuild_network(record())
    assert all(torch.equal(tensor, network.state_dict()[name]) for name, tensor in rebuilt.state_dict().items())


def test_the_data_come_back_with_changes(record) -> None:
    assert rebuild_dataset(record(dataset=DATA), {"test_size": 7}).evaluation_images.shape == (7, 8, 8, 3)


def test_what_is_trusted_are_the_networks_and_data_of_the_package() -> None:
    assert {"distill.models.resnet8", "distill.models.timm_network", "distill.models.torchvision_network"} <= NETWORKS
    assert not {"distill.models.LogitsOnly", "distill.models.as_network", "distill.models.Output"} & NETWORKS
    assert all(name.startswith("distill.models.") for name in NETWORKS)
    assert "distill.data.cifar100" in DATASETS
    assert all(name.startswith("distill.data.") for name in DATASETS)


def test_a_data_set_is_no_network(record, tmp_path: Path) -> None:
    """Nothing is created and nothing downloaded, whatever a run folder asks for."""
    place = tmp_path / "downloads"
    node = {"_target_": "distill.data.cifar10", "download": True, "root": str(place)}
    with pytest.raises(Untrusted, match=r"a run is rebuilt only from networks and data sets of distill"):
        rebuild_network(record(student=node))
    assert not place.exists()


OWN = """
import os

from distill.models import resnet8

open("imported", "w").close()


def net(num_classes):
    return resnet8(num_classes=num_classes)
"""


@pytest.fixture
def own_net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`own_net.py` in the current folder, which leaves a mark when it is imported; returns that mark."""
    here = tmp_path / "project"
    here.mkdir()
    (here / "own_net.py").write_text(OWN)
    monkeypatch.chdir(here)
    monkeypatch.syspath_prepend(str(here))
    return here / "imported"


def with_code(record, digest: str | None, target: str = "own_net.net") -> RunRecord:
    identity = {"student": {"target": target, **({} if digest is None else {"own_code": digest})}}
    return replace(record(student={"_target_": target}), identity=identity)


def test_a_class_of_ones_own_with_the_digest_of_the_run_is_rebuilt(record, own_net: Path, network) -> None:
    digest = own_code("own_net.net").digest
    assert not own_net.exists()
    rebuilt = rebuild_network(with_code(record, digest))
    assert all(torch.equal(tensor, network.state_dict()[name]) for name, tensor in rebuilt.state_dict().items())
    assert own_net.exists()


@pytest.mark.parametrize("own", [None, "own_net.net"])
def test_other_code_is_refused_before_it_is_imported(record, own_net: Path, own: str | None) -> None:
    with pytest.raises(Untrusted, match=r"digest 0{12}, that of .*own_net.py has [0-9a-f]{12}: a run is rebuilt only"):
        rebuild_network(with_code(record, "0" * 64), own=own)
    assert not own_net.exists()


def test_a_run_without_a_digest_is_rebuilt_where_its_class_is_named(record, own_net: Path) -> None:
    with pytest.raises(
        Untrusted, match=r"own_net.net'.* whose digest the run's id holds: to allow a class of your own"
    ):
        rebuild_network(with_code(record, None))
    assert not own_net.exists()
    rebuild_network(with_code(record, None), own="own_net.net")
    assert own_net.exists()


def test_a_missing_file_is_named(record) -> None:
    with pytest.raises(Untrusted, match=r"names 'absent_net.net', which is not found here"):
        rebuild_network(with_code(record, "0" * 64, "absent_net.net"))


@pytest.mark.parametrize("target", ["own_net.os.system", "own_net.resnet8"])
def test_what_a_file_imports_from_elsewhere_is_not_its_own(record, own_net: Path, target: str) -> None:
    with pytest.raises(Untrusted, match="which your files import from elsewhere"):
        rebuild_network(with_code(record, own_code(target).digest, target))


def test_an_installed_package_is_built_only_where_it_is_named(record) -> None:
    digest = own_code("yaml.safe_load").digest
    with pytest.raises(Untrusted, match="to allow a class of your own"):
        rebuild_network(with_code(record, digest, "yaml.safe_load"))


@pytest.mark.parametrize("own", [None, "own_net.net"])
def test_code_in_a_run_folder_is_never_imported(record, own_net: Path, own: str | None) -> None:
    digest = own_code("own_net.net").digest
    for name in ("config.yaml", "provenance.json"):
        (own_net.parent / name).write_text("{}")
    with pytest.raises(Untrusted, match="lies in the folder of a run"):
        rebuild_network(with_code(record, digest), own=own)
    assert not own_net.exists()


HOSTILE = {
    "another target": {"_target_": "theirs.touch"},
    "a target inside": {**STUDENT, "options": {"deep": [{"_target_": "theirs.touch"}]}},
    "a target under a trusted one": {**STUDENT, "name": {"_target_": "theirs.touch", "_partial_": True}},
    "an interpolation that makes a target": {**STUDENT, "x": "${oc.create:{_target_: theirs.touch}}"},
    "an interpolated target": {"_target_": "${oc.decode:theirs.touch}"},
    "an interpolated key": {**STUDENT, "${x}": 1},
    "a module of ours that is not for this": {"_target_": "distill.runs.files.write_bytes"},
    "a private function": {"_target_": "distill.models.from_timm._check_weights"},
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("part", ["student", "dataset"])
def test_nothing_else_is_built(record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, part: str) -> None:
    mark = tmp_path / "touched"
    (tmp_path / "theirs.py").write_text(f"open({str(mark)!r}, 'w')\ndef touch(**_): pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    run = record(**{part: HOSTILE[name]})
    with pytest.raises(Untrusted, match=r"a run is rebuilt only from networks and data sets"):
        rebuild_network(run) if part == "student" else rebuild_dataset(run, {})
    assert not mark.exists()


def test_a_class_named_by_the_user_is_trusted_and_nothing_beside_it(record) -> None:
    node = {"_target_": "torch.nn.Identity"}
    with pytest.raises(Untrusted):
        rebuild_network(record(student=node))
    with pytest.raises(StorageError, match="do not fit the network"):  # it was built
        rebuild_network(record(student=node), own="torch.nn.Identity")
    with pytest.raises(Untrusted):
        rebuild_network(record(student={**node, "x": {"_target_": "os.getcwd"}}), own="torch.nn.Identity")


@pytest.mark.parametrize("node", [None, 3, [], {}, {"name": "resnet8"}])
def test_a_config_that_says_nothing_is_damaged(record, node: object) -> None:
    with pytest.raises(StorageError, match="is damaged: it has no student with a _target_"):
        rebuild_network(record(student=node))


@pytest.mark.parametrize("changes", [{"widht": 3}, {"_args_": [3]}, {"num_classes": 4}])
def test_a_network_that_cannot_be_built_is_a_damaged_run(record, changes: dict[str, object]) -> None:
    with pytest.raises(StorageError, match=r"the network of .* cannot be built: "):
        rebuild_network(record(student={**STUDENT, **changes}))


def test_weights_that_are_not_those_recorded_are_refused(record, tmp_path: Path) -> None:
    save_weights(tmp_path / "student.safetensors", resnet8(num_classes=3).state_dict())
    with pytest.raises(StorageError, match=r"is not the file its run recorded: its sha256 is"):
        rebuild_network(record())


def test_weights_of_another_network_are_refused(record) -> None:
    with pytest.raises(StorageError, match="do not fit the network its config names"):
        rebuild_network(record(student={"_target_": "distill.models.resnet14"}))
