"""Several processes compute what one computes: one pair of gloo processes for all tests, see world_pair.py."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from distill.data import EvaluationStream, ImageStream, Part, StrongView, synthetic
from distill.training import World
from distill.training.whole_batch import NotAcross, WholeBatch

HERE = Path(__file__).parent
QUESTIONS = ("presets", "empty_parts", "dropout", "refusals", "buckets", "local_norms")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="module")
def pair() -> dict[str, Any]:
    """What two processes find out about every question."""
    world = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    done = subprocess.run(
        [sys.executable, str(HERE / "world_pair.py"), *QUESTIONS],
        env={**os.environ, **world},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    answers: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answers


def test_every_preset_in_two_processes_equals_one(pair: dict[str, Any]) -> None:
    assert len(pair["presets"]) > 50
    worst = {name: max(found.values()) for name, found in pair["presets"].items()}
    assert {name: value for name, value in worst.items() if not value < 1e-7} == {}


def test_a_process_without_a_row_of_the_last_batch_takes_part(pair: dict[str, Any]) -> None:
    worst = {name: max(found.values()) for name, found in pair["empty_parts"].items()}
    assert {name: value for name, value in worst.items() if not value < 1e-7} == {}


def test_dropout_and_drop_path_are_drawn_for_the_whole_batch(pair: dict[str, Any]) -> None:
    assert max(pair["dropout"].values()) < 1e-7


def test_local_batch_norm_is_that_of_each_part(pair: dict[str, Any]) -> None:
    assert max(pair["local_norms"].values()) < 1e-7


def test_other_draws_are_refused_and_errors_of_the_first_process_reach_all(pair: dict[str, Any]) -> None:
    drawn, busy = pair["refusals"]
    assert drawn.startswith("NotAcross: something other than dropout and drop path has drawn random numbers")
    assert busy == "Busy: the run is being trained"


TOKENS = torch.zeros(2, 3, 8)
DROPPING = nn.MultiheadAttention(8, 2, dropout=0.1, batch_first=True)
PLAIN = nn.MultiheadAttention(8, 2, batch_first=True)
DRAWS = {
    "randn_like": torch.randn_like,
    "bernoulli": lambda x: x.bernoulli(),
    "multinomial": lambda x: (x[0] + 1).multinomial(1),
    "rrelu": lambda x: torch.rrelu(x, training=True),
    "rrelu_": lambda x: torch.rrelu_(x.clone(), training=True),
    "RReLU": nn.RReLU(),
    "AlphaDropout": nn.AlphaDropout(0.5),
    "torch.dropout": lambda x: torch.dropout(x, 0.5, True),
    "fractional pool": lambda x: nn.FractionalMaxPool2d(2, output_size=2)(x.new_zeros(2, 1, 5, 5)),
    "attention": lambda x: DROPPING.train()(x, x, x),
    "transformer": nn.TransformerEncoderLayer(8, 2, batch_first=True),
    "scaled attention": lambda x: functional.scaled_dot_product_attention(x, x, x, None, 0.1),
    "a seed": lambda x: torch.manual_seed(1),
    "its own generator": lambda x: torch.rand(3, generator=torch.Generator()),
    "before dropout": lambda x: functional.dropout(x + torch.rand(8)),
    "after dropout": lambda x: functional.dropout(x) + torch.rand(8),
}
RESTING = {
    "rrelu": functional.rrelu,
    "AlphaDropout": nn.AlphaDropout(0.5).eval(),
    "torch.dropout": lambda x: torch.dropout(x, 0.5, False),
    "attention": lambda x: DROPPING.eval()(x, x, x),
    "attention without dropout": lambda x: PLAIN(x, x, x),
    "dropout": lambda x: functional.dropout(functional.dropout(x, 0.5), 0.1),
    "drop path": lambda x: x.new_empty(2, 1, 1).bernoulli_(0.5),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_every_other_draw_is_refused(draw: Callable[[torch.Tensor], object]) -> None:
    with (
        pytest.raises(NotAcross, match="several processes would draw others than one does"),
        WholeBatch(World(0, 2), 4, 2),
    ):
        draw(TOKENS)


@pytest.mark.parametrize("draw", RESTING.values(), ids=RESTING)
def test_what_draws_nothing_or_for_the_whole_batch_passes(draw: Callable[[torch.Tensor], object]) -> None:
    with WholeBatch(World(0, 2), 4, 2):
        draw(TOKENS)


def test_an_error_inside_the_block_is_the_one_reported() -> None:
    with pytest.raises(ZeroDivisionError), WholeBatch(World(0, 2), 4, 2):
        _ = int(torch.rand(1)) // 0


def test_gradients_are_summed_in_buckets(pair: dict[str, Any]) -> None:
    assert pair["buckets"] == 0


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("strong", [None, StrongView()], ids=["one view", "two views"])
def test_parts_of_a_stream_are_its_batches(size: int, strong: StrongView | None) -> None:
    dataset = synthetic(classes=3, train_size=23, test_size=10, image_size=8, pad=2)  # batches of 4 and one of 3

    def stream(part: Part) -> ImageStream:
        return ImageStream(dataset, batch_size=4, seed=1, device="cpu", strong=strong, part=part)

    parts = [Part(rank, size) for rank in range(size)]
    for start in (0, 2, 5, 6):
        whole = [*stream(Part()).epoch(2, start=start)]
        each = [[*stream(part).epoch(2, start=start)] for part in parts]
        assert [len(batches) for batches in each] == [len(whole)] * size
        for step, batch in enumerate(whole):
            own = [(part, batches[step]) for part, batches in zip(parts, each, strict=True)]
            counted = [b for part, b in own if part.rows(len(batch.labels))]
            others = [b for part, b in own if not part.rows(len(batch.labels))]
            for name in ("images", "labels", "index", "view", *(["strong"] if strong else [])):
                assert torch.equal(torch.cat([getattr(b, name) for b in counted]), getattr(batch, name))
            # one that has no row stands in with the first
            assert all(torch.equal(b.index, batch.index[:1]) for b in others)


@pytest.mark.parametrize("size", [1, 3, 12])
def test_parts_of_an_evaluation_stream_are_its_images_without_padding(size: int) -> None:
    dataset = synthetic(classes=3, train_size=9, test_size=10, image_size=8)
    seen = []
    for rank in range(size):
        stream = EvaluationStream(dataset, batch_size=2, device="cpu", part=Part(rank, size))
        batches = [*stream]
        assert len(batches) == stream.steps
        seen += [index for batch in batches for index in batch.index.tolist()]
    assert seen == list(range(10))


@pytest.mark.parametrize("fails", [None, 0, 2])
def test_one_process_of_a_machine_goes_before_its_others(fails: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """What rank 0 leaves on a disk that all share, and what the first of a machine leaves on its own, is found."""
    barrier, begun, ended = threading.Barrier(4, timeout=20), [], []
    monkeypatch.setattr(World, "any", lambda self, flag: barrier.wait())

    def work(rank: int) -> None:
        with suppress(OSError), World(rank, 4, local_rank=rank % 2, local_size=2).first_alone():
            begun.append((rank, set(ended)))
            time.sleep(0.02)
            ended.append(rank)
            if rank == fails:
                raise OSError

    threads = [threading.Thread(target=work, args=(rank,)) for rank in (3, 2, 1, 0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = dict(begun)
    assert (found[0], found[2]) == (set(), {0})
    assert found[1] >= {0, 2} <= found[3]
