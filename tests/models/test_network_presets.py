"""The presets of configs/student and configs/teacher, and what importing the networks costs."""

import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
STUDENTS = sorted((CONFIGS / "student").glob("*.yaml"), key=lambda path: path.stem)


@pytest.mark.parametrize("preset", STUDENTS, ids=lambda path: path.stem)
def test_every_key_is_a_parameter_of_the_target(preset: Path) -> None:
    arguments = yaml.safe_load(preset.read_text())
    module, _, name = arguments.pop("_target_").rpartition(".")
    parameters = inspect.signature(getattr(importlib.import_module(module), name)).parameters
    kinds = {parameter.kind for parameter in parameters.values()}
    if inspect.Parameter.VAR_KEYWORD not in kinds:  # it passes the others on, and the contract suite builds it
        assert set(arguments) <= set(parameters)
    assert parameters["num_classes"].kind is inspect.Parameter.KEYWORD_ONLY
    assert "num_classes" not in arguments, "it comes from the data set"


@pytest.mark.parametrize("preset", STUDENTS, ids=lambda path: path.stem)
def test_every_student_can_be_a_teacher(preset: Path) -> None:
    teacher = CONFIGS / "teacher" / preset.name
    assert yaml.safe_load(teacher.read_text()) == {"defaults": [{"/student@network": preset.stem}]}


def test_there_are_no_other_teachers_but_none() -> None:
    teachers = {path.stem for path in (CONFIGS / "teacher").glob("*.yaml")}
    assert teachers == {path.stem for path in STUDENTS} | {
        "none",
        "efficientnet_lite0",
    }  # a published network, as a teacher only
    assert yaml.safe_load((CONFIGS / "teacher" / "none.yaml").read_text()) is None


@pytest.mark.parametrize("folder", ["student", "teacher"])
def test_every_preset_says_what_it_is_and_how_to_use_it(folder: str) -> None:
    for preset in (CONFIGS / folder).glob("*.yaml"):
        comment = "\n".join(re.findall(r"^#.*$", preset.read_text(), re.MULTILINE))
        assert preset.read_text().startswith("#"), preset
        assert re.search(rf"distill train .*{folder}={preset.stem}\b", comment), preset


def test_networks_and_a_checked_command_import_no_library_that_they_do_not_use(tmp_path: Path) -> None:
    """torch._dynamo and sklearn would double the time of a command that trains nothing."""
    code = (
        "import sys; from distill import models, cli;"
        "loaded = {'timm', 'torchvision', 'hydra'} & set(sys.modules);"
        f"code = cli.main(['train', 'loss=kd', '--cfg', 'job', {f'runs_dir={tmp_path}'!r}]);"
        "loaded |= {'timm', 'torchvision', 'sklearn', 'torch._dynamo'} & set(sys.modules);"
        "sys.exit(' '.join(loaded) or code)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=CONFIGS.parent, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
