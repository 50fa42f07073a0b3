"""The presets say the same as the factories' signatures, and open with what they are."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import distill.data

PRESETS = sorted((Path(__file__).parents[2] / "configs" / "dataset").glob("*.yaml"))
# the functions of distill.data that return a data set
FACTORIES = [
    name
    for name, item in vars(distill.data).items()
    if inspect.isfunction(item) and str(inspect.signature(item).return_annotation).endswith("Dataset")
]


def read(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text())


def test_there_is_a_preset_for_every_factory() -> None:
    assert {read(path)["_target_"] for path in PRESETS} == {f"distill.data.{name}" for name in FACTORIES}


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_preset_has_every_parameter_at_its_default(path: Path) -> None:
    preset = read(path)
    preset.pop("defaults", None)  # the recipe that it chooses
    module, _, name = preset.pop("_target_").rpartition(".")
    assert module == "distill.data"
    parameters = inspect.signature(getattr(distill.data, name)).parameters
    assert preset.keys() == parameters.keys()
    for key, value in preset.items():
        default = parameters[key].default
        if default is inspect.Parameter.empty:
            assert value == "???"
        else:
            assert value == (list(default) if isinstance(default, tuple) else default), key


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_preset_opens_with_what_it_is_and_a_command(path: Path) -> None:
    header = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert path.read_text().startswith("#")
    assert any(f"distill train dataset={path.stem}" in line for line in header)


def test_commands_in_headers_choose_a_recipe_where_the_data_set_does_not() -> None:
    names = [path.stem for path in PRESETS if "/recipe" not in path.read_text()]
    command = re.compile(rf"# +distill train .*dataset=({'|'.join(names)}) ")
    texts = [path.read_text() for path in PRESETS[0].parents[1].rglob("*.yaml")]
    commands = [line for text in texts for line in text.splitlines() if command.match(line)]
    assert len(commands) > 2
    assert [line for line in commands if " recipe=" not in line] == []


def test_lists_as_a_configuration_gives_them_become_tuples() -> None:
    data = distill.data.synthetic(image_size=8, mean=[0.1, 0.2, 0.3], std=[1, 1, 1])  # type: ignore[arg-type]
    assert (data.mean, data.std) == ((0.1, 0.2, 0.3), (1.0, 1.0, 1.0))
