"""The cost of a student against the size of its cohort, drawn from what `make bench ARGS="--json FILE"` wrote.

    python scripts/plot_cohorts.py results/speed_cpu/resnet20_resnet8.json cohorts.svg

Needs matplotlib: pip install 'distill[report]'.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

SOURCES = {"live": ("live teacher", "#0072b2", "o"), "table": ("table", "#d55e00", "^")}  # Okabe-Ito


def curve(figures: list[dict[str, Any]], source: str) -> list[tuple[int, float, float, float]]:
    """(students, median, least, most) milliseconds of a step of one student, for each cohort that was measured."""
    found = []
    for figure in figures:
        match = re.fullmatch(rf"cohort(\d+)\.{source}", figure["key"])
        if match:
            rounds = [1000 * seconds for seconds in figure["ours"]]
            found.append((int(match[1]), statistics.median(rounds), min(rounds), max(rounds)))
    return sorted(found)


def draw(measured: dict[str, Any]) -> Figure:
    """One line for each form of the teacher, with the range of the rounds, and the peer's cost above them."""
    picture = Figure(figsize=(6, 3.6), layout="constrained")
    axes = picture.subplots()
    for source, (label, colour, marker) in SOURCES.items():
        points = curve(measured["figures"], source)
        if points:
            sizes, medians, least, most = zip(*points, strict=True)
            axes.fill_between(sizes, least, most, color=colour, alpha=0.15, linewidth=0)
            axes.plot(sizes, medians, color=colour, marker=marker, label=label)
    peer = [1000 * statistics.median(f["peer"]) for f in measured["figures"] if f["key"].startswith("cohort")]
    axes.axhline(statistics.median(peer), color="#595959", linestyle="--", label="the field's loop, one student")
    axes.set_xscale("log", base=2)
    axes.set_xticks([1, 2, 4, 8, 16], ["1", "2", "4", "8", "16"])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("students in the cohort")
    axes.set_ylabel("a step of one student (ms)")
    pair = measured["pair"]
    axes.set_title(
        f"{pair if isinstance(pair, str) else ' -> '.join(pair.values())}, {measured['precision']}", loc="left"
    )
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    return picture


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    draw(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))).savefig(sys.argv[2], metadata={"Date": None})
