"""The benchmark of the data path runs, checks parity first, and finds us cheaper than torchvision."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "scripts" / "benchmark_data_path.py"


@pytest.fixture
def benchmark() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("benchmark_data_path", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    threads = torch.get_num_threads()
    yield module
    torch.set_num_threads(threads)


def test_it_costs_at_most_a_tenth(benchmark: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    """Measured: 20 times and more. The floor allows for a busy machine and few steps."""
    assert benchmark.main(["--images", "1280", "--steps", "15", "--rounds", "5", "--floor", "10"]) == 0
    printed = capsys.readouterr().out
    assert "largest difference 0 in uint8" in printed
    assert "images/s" in printed
    assert "median of 5 rounds" in printed


def test_nothing_is_timed_without_parity(
    benchmark: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark.F, "hflip", lambda image: image)
    assert benchmark.main(["--images", "128", "--steps", "1", "--rounds", "1"]) == 1
    assert "images/s" not in capsys.readouterr().out
