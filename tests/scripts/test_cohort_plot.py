"""The picture of a student's cost against the size of its cohort."""

import runpy
from pathlib import Path

import pytest

pytest.importorskip("matplotlib", reason="the extra is not installed: pip install 'distill[report]'")
script = runpy.run_path(str(Path(__file__).resolve().parents[2] / "scripts" / "plot_cohorts.py"))

FIGURES = [
    {"key": "cohort16.live", "ours": [0.09, 0.11, 0.10], "peer": [0.3]},
    {"key": "cohort2.live", "ours": [0.2, 0.1, 0.15], "peer": [0.2]},
    {"key": "cohort4.table", "ours": [0.05], "peer": [0.4]},
    {"key": "memory.cohort4", "ours": [9.0], "peer": [9.0]},
]


def test_each_form_of_the_teacher_has_its_medians_in_milliseconds() -> None:
    assert script["curve"](FIGURES, "live") == [
        (2, pytest.approx(150), pytest.approx(100), pytest.approx(200)),
        (16, pytest.approx(100), pytest.approx(90), pytest.approx(110)),
    ]
    (axes,) = script["draw"]({"figures": FIGURES, "pair": "a -> b", "precision": "fp32"}).axes
    live, table, peer = axes.get_lines()
    assert list(live.get_ydata()) == pytest.approx([150, 100])
    assert list(table.get_xdata()) == [4]
    assert peer.get_ydata()[0] == pytest.approx(300)
    assert "ms" in axes.get_ylabel()
