"""A table whose building was killed again and again ends with the bytes of one that was built at one go."""

import random
import time
from pathlib import Path

import pytest
from process_lab import DISTILLED, Lab, assert_equal_runs

KILLS = 6
WORDS = (*DISTILLED, "dataset.pad=1", "teacher.source=table", "recipe.epochs=1", "engine.device=cpu")
CHUNKS = {"rows": 20}  # of 1,080: 60 images in 18 views


def table_of(store: Path) -> dict[str, bytes]:
    """The bytes of the one table in a store."""
    (rows,) = store.glob("*/tables/*/rows.bin")
    return {name: rows.with_name(name).read_bytes() for name in ("rows.bin", "header.json")}


@pytest.fixture
def whole(lab: Lab) -> Path:
    """The store of a command that nobody disturbed."""
    ended = lab.run(*WORDS, "runs_dir=whole", table=CHUNKS | {"seconds": 0.0})
    assert ended.code == 0, ended
    assert "table: 1,080 of 1,080 rows" in ended.out
    return lab.cwd / "whole"


def test_a_table_that_is_killed_at_any_instant_ends_whole(lab: Lab, whole: Path) -> None:
    draw, dead, stores = random.Random(0), 0, [lab.cwd / "runs0"]
    while dead < KILLS:
        running = lab.start(*WORDS, f"runs_dir={stores[-1].name}", table=CHUNKS | {"seconds": 0.02})
        if running.reaches_step():  # its first chunk: each process gets one further at least
            time.sleep(draw.uniform(0, 0.08))
        ended = running.kill()
        assert ended.traceless
        if ended.code == 0:  # a slow test may leave it time to finish
            stores.append(lab.cwd / f"runs{len(stores)}")
        else:
            assert ended.code == -9, ended
            dead += 1
    ended = lab.run(*WORDS, f"runs_dir={stores[-1].name}", table=CHUNKS | {"seconds": 0.0})
    assert ended.code == 0, ended

    (student,) = (path.name for path in whole.glob("Tiny-kd-*"))
    for store in stores:
        assert table_of(store) == table_of(whole)
        assert_equal_runs(store / student, whole / student)
