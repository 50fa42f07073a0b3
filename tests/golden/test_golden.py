"""What must outlive a change of the code: run ids, resolved configurations, tables, and runs of an earlier version.

The files beside this one were written by commit ba96155, except for the ids of methods whose `version` was raised
since. A changed id orphans every finished run: change one on purpose only, together with `NUMERICS_VERSION` or with the
version of that method. A table whose header is reworded needs its new first line in tables/*.csv.
"""

import csv
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from distill.cli import main
from distill.config.check import public_name, resolve
from distill.config.identity import canonical_network, canonical_node, run_identity
from distill.runs.identity import run_id

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RECORDS = sorted(ROOT.glob("results/*/runs/*/config.yaml"))
IMPORTED = [file for file in RECORDS if "weights" in yaml.safe_load(file.read_text())["identity"]]
TRAINED = [file for file in RECORDS if file not in IMPORTED]
SWEEPS = json.loads((HERE / "ids.json").read_text())
JOBS = yaml.safe_load((HERE / "jobs.yaml").read_text())
TARGETS = json.loads((HERE / "targets.json").read_text())
TABLES = {
    "cifar100_small": "runs_dir=results/cifar100_small/runs --cost",
    "cifar10_plain_cnn": "runs_dir=results/cifar10_plain_cnn/runs --cost",
    "cifar100_small_published": "table=cifar100_small runs_dir=results/cifar100_small/runs",
    "cifar10_plain_cnn_published": "table=plain_cnn runs_dir=results/cifar10_plain_cnn/runs",
}
MIXTURE, REUSED = "213dca44ba90", "0585b7f75629"
OLD_RUNS = [
    *("dataset=synthetic", "dataset.image_size=16", "dataset.classes=4", "dataset.train_size=64", "recipe.epochs=4"),
    *("student=timm", "student.name=test_resnet", "+student.channels=[4,4,8,8]", "+student.stem_width=4"),
    *("teacher=timm", "teacher.network.name=test_resnet", "+teacher.network.channels=[4,8,8,8]"),
    *("+teacher.network.stem_width=4", "teacher.recipe.epochs=2", "engine.threads=1", "engine.device=cpu"),
]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with random images as 10.npz and 100.npz: two training images a class."""
    for classes in (10, 100):
        random, arrays = np.random.RandomState(classes), {}
        for part, size in (("train", 2 * classes), ("test", classes)):
            arrays[f"x_{part}"] = random.randint(0, 256, (size, 32, 32, 3), dtype=np.uint8)
            arrays[f"y_{part}"] = np.arange(size) % classes
        np.savez(tmp_path / f"{classes}.npz", **arrays)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("sweep", SWEEPS, ids=lambda sweep: f"{sweep['fixed'][:60]} {sweep['key']}")
def test_run_ids(folder: Path, capsys: Capture, sweep: dict[str, Any]) -> None:
    code = main(["train", "--cfg", "job", "-m", *sweep["fixed"].split(), f"{sweep['key']}={','.join(sweep['ids'])}"])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    ids = re.findall(r"^# run id: (\w+)$", printed.out, re.MULTILINE)
    assert dict(zip(sweep["ids"], ids, strict=True)) == sweep["ids"]
    assert printed.out.count("\n---\n") == len(ids) - 1  # a YAML document for each run


@pytest.mark.parametrize("file", TRAINED, ids=lambda file: file.parent.name)
def test_ids_of_the_records_in_results(file: Path) -> None:
    """Recomputed from the recorded configuration; data digest and teacher weights come from the record."""
    record = yaml.safe_load(file.read_text())
    config, identity = record["config"], record["identity"]
    own = {"data": identity["data"], "recipe": config["recipe"], "seed": config["seed"]}
    teacher = identity["teacher"]
    if teacher and "run" in teacher:
        node = config["teacher"]
        trained = run_identity(
            data=identity["data"],
            student=node["network"],
            teacher=None,
            loss=node["loss"],
            recipe=node["recipe"],
            seed=node["seed"],
            precision=node["precision"] or identity["precision"],
        )
        assert run_id(trained) == teacher["run"]
    again = run_identity(
        **own, student=config["student"], teacher=teacher, loss=config["loss"], precision=identity["precision"]
    )
    assert again == identity
    assert run_id(again) == record["run_id"] == file.parent.name[-12:]


@pytest.mark.parametrize("file", IMPORTED, ids=lambda file: file.parent.name)
def test_ids_of_imported_weights_in_results(file: Path) -> None:
    """The id digests the weights, the network and the data set's node without the places of its files."""
    record, result = yaml.safe_load(file.read_text()), json.loads((file.parent / "result.json").read_text())
    config, identity = record["config"], record["identity"]
    student, dataset = canonical_network(config["student"]), config["dataset"]
    used = {key: dataset[key] for key in ("_target_", "mean", "std", "pad", "flip")}
    assert identity["student"] == student
    assert identity["weights"] == result["weights_sha256"]
    imported = run_id({"weights": identity["weights"], "student": student, "data": canonical_node(used)})
    assert imported == record["run_id"] == file.parent.name[-12:]


def test_every_target_that_was_ever_written_still_resolves() -> None:
    """Each also keeps the name under which it enters a run id."""
    assert {target: public_name(target) for target in TARGETS} == TARGETS


@pytest.mark.parametrize("command", JOBS)
def test_resolved_configurations(folder: Path, capsys: Capture, command: str) -> None:
    code = main(["train", "--cfg", "job", *command.split()])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    now, then = yaml.safe_load(printed.out), JOBS[command]
    assert without_targets(now) == without_targets(then)
    pairs = list(zip(targets(now), targets(then), strict=True))
    assert [resolve(new) for new, _ in pairs] == [resolve(old) for _, old in pairs]


def without_targets(node: Any) -> Any:
    """A configuration with no `_target_` in it."""
    if isinstance(node, dict):
        return {key: without_targets(value) for key, value in node.items() if key != "_target_"}
    return [without_targets(value) for value in node] if isinstance(node, list) else node


def targets(node: Any) -> list[str]:
    """All values of `_target_`, in the order of their paths."""
    if isinstance(node, dict):
        inner = [target for key in sorted(node) if key != "_target_" for target in targets(node[key])]
        return [node["_target_"], *inner] if "_target_" in node else inner
    return [target for value in node for target in targets(value)] if isinstance(node, list) else []


@pytest.mark.parametrize("name", TABLES)
def test_tables_of_the_stores_in_results(monkeypatch: pytest.MonkeyPatch, capsys: Capture, name: str) -> None:
    monkeypatch.chdir(ROOT)
    assert main(["table", *TABLES[name].split(), "--format", "csv"]) == 0
    now, then = (list(csv.reader(io.StringIO(text))) for text in (capsys.readouterr().out, stored_table(name)))
    assert now[0] == then[0]
    assert len(now) == len(then)
    for row, expected in zip(now, then, strict=True):
        assert [number(cell) for cell in row] == [
            pytest.approx(value, rel=1e-9) if isinstance(value, float) else value for value in map(number, expected)
        ]


def stored_table(name: str) -> str:
    """The text of a stored table."""
    return (HERE / "tables" / f"{name}.csv").read_text()


def number(cell: str) -> float | str:
    """A decimal fraction as a number, so that its last digit may differ; everything else as it is."""
    return float(cell) if re.fullmatch(r"-?\d+\.\d+(e-?\d+)?", cell) else cell


@pytest.fixture
def old_runs(folder: Path) -> Path:
    """Runs that commit ba96155 wrote: a teacher, a finished simkd, and a mixture stopped in its third epoch."""
    return Path(shutil.copytree(HERE / "run", folder / "old"))


def test_a_finished_run_of_an_earlier_version_is_evaluated(old_runs: Path, capsys: Capture) -> None:
    """SimKD deploys another network, so the objective is built from the old configuration too."""
    code = main(["evaluate", f"run={REUSED}", f"runs_dir={old_runs}"])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    assert "25.00" in printed.out


def test_a_finished_run_of_an_earlier_version_is_not_trained_again(old_runs: Path, capsys: Capture) -> None:
    before = sorted(old_runs.rglob("*"))
    assert main(["train", *OLD_RUNS, "loss=simkd", "loss.student_map=final_map", f"runs_dir={old_runs}"]) == 0
    assert REUSED in capsys.readouterr().out
    assert [file for file in sorted(old_runs.rglob("*")) if file.name not in ("lock", ".config.json")] == before


def test_a_run_of_an_earlier_version_is_resumed(old_runs: Path, capsys: Capture) -> None:
    code = main(["train", *OLD_RUNS, "loss=mixture", f"runs_dir={old_runs}"])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    assert "epoch 1/4" not in printed.out
    (run,) = old_runs.glob(f"*-{MIXTURE}")
    assert (run / "result.json").is_file()
    assert not (run / "last.safetensors").exists()
    epochs = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    # what ba96155 itself went on to print, without the interruption
    losses = [epoch["train"]["loss"] for epoch in epochs]
    assert losses == pytest.approx([322.8247741535306, 218.24817525967956, 134.5336518920958, 119.70926559902728], 1e-3)
    (teacher,) = old_runs.glob("*-f583dd485eca")
    assert len(list(old_runs.glob("*-cross_entropy-*"))) == 1, f"{teacher.name} was not found again"
