"""A run directory from somebody else is read, never obeyed."""

import hashlib
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from earlier import unseal
from process_lab import DATA, Ended, Lab, Server
from safetensors.torch import load_file, save_file

MARKER = "something-was-executed"
TOUCH = {"_target_": "os.system", "command": f"touch {MARKER}"}


class TouchMarker:
    """A pickle of it creates the marker when it is loaded."""

    def __reduce__(self) -> tuple[object, ...]:
        return (open, (MARKER, "w"))


@pytest.fixture(scope="module")
def teachers(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A store with one finished run of a shipped network."""
    lab = Lab(server, tmp_path_factory.mktemp("teachers"))
    assert lab.run("train", *DATA, "student=resnet8", "loss=ce", "recipe.epochs=15", "seed=0").code == 0
    return lab


def distil(lab: Lab, tamper: Callable[[Path], None]) -> Ended:
    """A student under the finished run after `tamper` has changed that run's folder; nothing may be executed."""
    runs = lab.cwd / f"tampered{len(list(lab.cwd.iterdir()))}"
    shutil.copytree(lab.runs, runs)
    (run,) = runs.iterdir()
    tamper(unseal(run))
    words = ("train", *DATA, "student=resnet8", "teacher=none", "loss=kd", "recipe.epochs=1", "seed=1")
    ended = lab.run(*words, f"runs_dir={runs.name}", f"teacher.run={run.name}")
    assert not list(lab.cwd.rglob(MARKER))
    assert ended.traceless, ended.err
    return ended


def in_config(**nodes: Any) -> Callable[[Path], None]:
    """Replace nodes of `config` in a run's config.yaml."""

    def tamper(run: Path) -> None:
        content = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
        content["config"].update(nodes)
        (run / "config.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")

    return tamper


def in_result(**facts: Any) -> Callable[[Path], None]:
    """Change facts of result.json."""

    def tamper(run: Path) -> None:
        content = json.loads((run / "result.json").read_text(encoding="utf-8"))
        (run / "result.json").write_text(json.dumps({**content, **facts}), encoding="utf-8")

    return tamper


def own_digest(run: Path) -> None:
    """Let result.json agree with the weights as they are."""
    data = (run / "student.safetensors").read_bytes()
    in_result(weights_sha256=hashlib.sha256(data).hexdigest())(run)


RESNET = "distill.models.resnet8"
CREATE = "${oc.create:'{_target_: os.system, command: touch " + MARKER + "}'}"


@pytest.mark.parametrize(
    "student",
    [
        TOUCH,
        {"_target_": "hostile_module.network"},
        {"_target_": RESNET, "num_classes": TOUCH},
        {"_target_": RESNET, "num_classes": CREATE},
        {"_target_": "${oc.decode:os.system}", "command": f"touch {MARKER}"},
        {"_target_": "distill.models.LogitsOnly", "num_classes": 4, "network": TOUCH},
    ],
    ids=["call", "import", "nested", "interpolated", "interpolated target", "inside a trusted one"],
)
def test_a_hostile_target_is_refused(teachers: Lab, student: dict[str, Any]) -> None:
    ended = distil(teachers, in_config(student=student))
    assert ended.code == 2
    assert len(ended.err.splitlines()) == 1
    assert "a run is rebuilt only from" in ended.err or "holds an interpolation" in ended.err


def test_a_hostile_data_set_is_not_built(teachers: Lab) -> None:
    def tamper(run: Path) -> None:
        in_config(dataset=TOUCH)(run)
        (run / "evaluations.json").write_text("[", encoding="utf-8")  # a damaged note of ours is no obstacle

    assert distil(teachers, tamper).code == 0
    runs = max(teachers.cwd.glob("tampered*"), key=lambda path: path.stat().st_mtime_ns)
    run_id = teachers.run_of("resnet8").name.rpartition("-")[2]
    measured = teachers.run("evaluate", f"run={run_id}", f"runs_dir={runs.name}")
    assert measured.code == 2
    assert "'os.system'" in measured.err
    assert not list(teachers.cwd.rglob(MARKER))


def test_a_hostile_yaml_tag_is_refused(teachers: Lab) -> None:
    def tamper(run: Path) -> None:
        with open(run / "config.yaml", "a", encoding="utf-8") as file:
            file.write(f"extra: !!python/object/apply:os.system ['touch {MARKER}']\n")

    ended = distil(teachers, tamper)
    assert ended.code == 2
    assert "config.yaml is damaged" in ended.err


def test_a_pickle_in_place_of_the_weights_is_refused(teachers: Lab) -> None:
    def tamper(run: Path) -> None:
        (run / "student.safetensors").write_bytes(pickle.dumps(TouchMarker()))

    ended = distil(teachers, tamper)
    assert ended.code == 1
    assert "is not the file its run recorded" in ended.err

    def tamper_well(run: Path) -> None:
        tamper(run)
        own_digest(run)

    ended = distil(teachers, tamper_well)
    assert ended.code == 1
    assert "holds no weights" in ended.err


def test_weights_that_score_otherwise_than_their_record_are_refused(teachers: Lab) -> None:
    def tamper(run: Path) -> None:
        path = run / "student.safetensors"
        weights = {name: value.clone() for name, value in load_file(path).items()}
        classifier = [name for name in weights if name.endswith("bias")][-1]
        weights[classifier] = weights[classifier] + 1e6 * (weights[classifier] == weights[classifier].min())
        save_file(weights, path)
        own_digest(run)

    ended = distil(teachers, tamper)
    assert ended.code == 1
    assert " % where its record says " in ended.err
    assert "its weights or the data have changed" in ended.err


def test_a_record_that_lacks_what_is_needed_is_refused(teachers: Lab) -> None:
    ended = distil(teachers, lambda run: (run / "result.json").write_text("{}", encoding="utf-8"))
    assert ended.code == 2
    assert "damaged" in ended.err
