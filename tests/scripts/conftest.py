"""A pair small enough to be measured in a test: resnet8 to resnet8, batches of 16."""

from pathlib import Path

import pytest
import torch

from scripts.bench.lab import Lab, Settings, Sizes, plan_pair

EXPERIMENT = """\
# @package _global_
defaults:
  - override /dataset: cifar100
  - override /student: resnet8
  - override /teacher: resnet8
  - override /recipe: cifar
recipe:
  batch_size: 16
"""


@pytest.fixture(scope="session")
def presets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of presets with `experiment=tiny`."""
    folder = tmp_path_factory.mktemp("presets")
    (folder / "experiment").mkdir()
    (folder / "experiment/tiny.yaml").write_text(EXPERIMENT)
    return folder


@pytest.fixture(scope="session")
def settings(presets: Path) -> Settings:
    """One round of one step."""
    return Settings(
        experiment="tiny",
        precision="fp32",
        device="cpu",
        config_dir=str(presets),
        sizes=Sizes(images=100, steps=1, rounds=1, warm_up=0, workers=0),
        evaluation_batch=64,
    )


@pytest.fixture(scope="session")
def lab(settings: Settings) -> Lab:
    """The pair, planned and calibrated once."""
    torch.set_num_threads(1)
    return Lab(plan_pair(settings), settings)
