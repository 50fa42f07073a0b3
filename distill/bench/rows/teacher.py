"""The teacher alone, on batches that are there already."""

from contextlib import ExitStack

from distill.bench.lab import Lab
from distill.bench.rounds import Variant
from distill.bench.rows.group import Group, Ours

READINGS = 16  # of a table, which takes too little time to be measured once


def teacher(lab: Lab, stack: ExitStack) -> Group:
    """A live teacher's forward and a table's answer, against the unfolded network's forward in NCHW."""
    data = lab.steps(lab.sizes.steps)
    batches = list(lab.stream(data).epoch(1))
    in_nchw = [batch.images.contiguous() for batch in batches]
    live, table, peer = lab.live(), lab.table(data), lab.peer()

    def ask_live() -> None:
        for batch in batches:
            live(batch)

    def ask_table() -> None:
        for _ in range(READINGS):
            for batch in batches:
                table(batch)

    def ask_peer() -> None:
        for images in in_nchw:
            peer.ask(images)

    steps = len(batches)
    return Group(
        "batch",
        Variant("peer", steps, ask_peer),
        [
            Ours("teacher.live", "teacher, live", Variant("live", steps, ask_live), ("folded",)),
            Ours("teacher.table", "teacher, table", Variant("table", steps * READINGS, ask_table), ("table",)),
        ],
    )
