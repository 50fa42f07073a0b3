"""The script that compares a cohort with one run after the other: what it types, in which order, what it refuses."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "compare_cohort.py"


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("compare_cohort", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_alternates_and_tells_the_ratio_and_when_a_table_pays(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    typed: list[list[str]] = []

    def distill(words: list[str]) -> float:
        typed.append(words)
        return 10.0 if "hydra/launcher=cohort" in words else 28.0

    monkeypatch.setattr(script, "distill", distill)
    monkeypatch.setattr(script, "weights", lambda store: {"a": "1"})
    assert script.main(["--npz", "c.npz", "--teacher-run", str(tmp_path), "--rounds", "2"]) == 0
    first, *rest = typed
    assert "loss.temperature=1" in first
    assert ["hydra/launcher=cohort" in words for words in rest] == [False, True, True, False]
    for words in rest:
        assert {"loss.temperature=1,2,4,8", "loss.alpha=0.3,0.5,0.7,0.9"} <= set(words)
        assert {"dataset.limit=6000", "dataset.holdout=1000", "recipe.epochs=2", "student=resnet8"} <= set(words)
        assert {"teacher.source=live", f"teacher.run={tmp_path}", "dataset.npz=c.npz"} <= set(words)
    assert len({words[-1] for words in typed}) == 5  # a fresh store each
    told = capsys.readouterr().out
    assert "16 students resnet8, 5,000 images, 2 epochs: the cohort takes 2.80 times less CPU time" in told
    assert "it pays from 11 epochs on where the 16 students are trained one by one, from 162 on in one cohort" in told


def test_stores_that_differ_are_not_compared(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(script, "distill", lambda words: 1.0)
    monkeypatch.setattr(script, "weights", lambda store: {"a": store.name})
    with pytest.raises(SystemExit, match="the two stores differ"):
        script.main(["--synthetic", "--teacher-run", str(tmp_path)])


def test_a_command_that_fails_ends_it(script: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="exit code 2 of: distill trian"):
        script.distill(["trian"])
    assert script.distill(["--version"]) > 0
