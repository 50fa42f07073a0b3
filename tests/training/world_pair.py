"""Two processes of a world, the second forked from the first; rank 0 prints what it finds out as JSON.

See test_world.py.
"""

import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

sys.path.append(str(Path(__file__).parents[1] / "losses" / "conformance"))

from method_networks import PAIRS
from method_presets import METHODS, build
from method_trials import IMAGES, TASK, Trial
from timm.layers import BatchNormAct2d, DropPath
from torchvision.ops import StochasticDepth

from distill.data import Batch, Part
from distill.models import Network, Output
from distill.runs.lock import Busy
from distill.training import seeded
from distill.training.whole_batch import NotAcross
from distill.training.world import ALONE, World, this_world

SIZES = (5, 4, 3)  # of the batches of three steps: two have unequal halves
DTYPE = torch.float64


def attached(name: str) -> Trial:
    """A method on the most different pair of networks that it accepts."""
    for pair in PAIRS:
        with suppress(ValueError):
            return Trial(name, pair, dtype=DTYPE)
    raise AssertionError(f"{name} accepts no pair of networks")


def batches(trial: Trial, sizes: tuple[int, ...]) -> Iterator[Batch]:
    """Whole batches of the given sizes."""
    generator = torch.Generator().manual_seed(7)
    for rows in sizes:
        images, strong = (torch.randn((rows, 3, 16, 16), generator=generator, dtype=DTYPE) for _ in range(2))
        index = torch.randperm(IMAGES, generator=generator)[:rows]
        yield Batch(images, TASK.labels[index], index, index * 0, strong if trial.objective.two_views else None)


def fed(batch: Batch, world: World) -> Batch:
    """What a process computes on."""
    rows = world.part.fed(len(batch.labels))
    cut = slice(rows.start, rows.stop)
    strong = None if batch.strong is None else batch.strong[cut]
    return Batch(batch.images[cut], batch.labels[cut], batch.index[cut], batch.view[cut], strong)


def steps(trial: Trial, world: World, sizes: tuple[int, ...]) -> Iterator[tuple[dict[str, Tensor], Tensor, Tensor]]:
    """Train; yields the terms, all gradients and all buffers, each as one vector, after every step."""
    learned = trial.learned()
    optimizer = torch.optim.SGD(learned, lr=0.05, momentum=0.9)
    gradients = world.gradients(learned)
    torch.manual_seed(3)
    for batch in batches(trial, sizes):
        count, own = len(batch.labels), fed(batch, world)
        with world.whole_batch(count, rows=len(own.labels)):
            student, teacher = trial.outputs(own)
        progress = torch.tensor(5.5, dtype=DTYPE)
        terms = world.terms(trial.objective, student, teacher, own, progress, count)
        optimizer.zero_grad()
        torch.stack([*terms.values()]).sum().backward()
        gradients.finish()
        optimizer.step()
        gradient = torch.cat([p.grad.reshape(-1) for p in learned if p.grad is not None])
        state = running(trial)
        terms = {name: world.sum(term.detach().clone()) for name, term in terms.items()}
        yield terms, gradient, state


def running(trial: Trial) -> Tensor:
    """What student and objective remember."""
    buffers = [b for m in (trial.student, trial.objective) for b in m.buffers() if b.is_floating_point()]
    return torch.cat([b.reshape(-1).double() for b in buffers] or [torch.zeros(1)]).clone()


def distance(ours: Tensor, theirs: Tensor) -> float:
    """Relative, of two vectors; infinite where a value is not finite, since `max` may drop a NaN."""
    found = float((ours - theirs).norm() / theirs.norm().clamp(min=1e-300))
    return found if math.isfinite(found) else math.inf


def presets(world: World) -> dict[str, dict[str, float]]:
    """Every preset in several processes against one: the largest distances of terms, gradients and buffers."""
    return {name: compared(partial(attached, name), world, SIZES) for name in METHODS}


def empty_parts(world: World) -> dict[str, dict[str, float]]:
    """A last batch of one image, of which all processes but the first have nothing."""
    names = ("crd", "review_kd", "ofd", "mlkd")
    return {name: compared(partial(attached, name), world, (4, 1)) for name in names}


def compared(build: Callable[[], Trial], world: World, sizes: tuple[int, ...]) -> dict[str, float]:
    """The largest distances of terms, gradients and buffers over all steps."""
    worst = {"terms": 0.0, "gradients": 0.0, "buffers": 0.0}
    together = [*steps(build(), world, sizes)]
    single = [*steps(build(), ALONE, sizes)] if world.rank == 0 else together  # afterwards: both draw alike
    for here, alone in zip(together, single, strict=True):
        assert here[0].keys() == alone[0].keys()
        terms = [torch.stack([*each[0].values()]) for each in (here, alone)]
        found = {"terms": distance(*terms), "gradients": distance(here[1], alone[1])}
        found["buffers"] = distance(here[2], alone[2])
        worst = {name: max(value, found[name]) for name, value in worst.items()}
    return worst


class Dropping(Network):
    """A network with all kinds of dropout, and BatchNorm layers of timm."""

    def __init__(self) -> None:
        super().__init__()
        self.num_classes, self.feature_channels, self.embedding_dim = 5, (), 6
        self.conv, self.norm = nn.Conv2d(3, 6, 3), BatchNormAct2d(6)
        self.channels, self.path, self.rows = nn.Dropout2d(0.3), DropPath(0.4), StochasticDepth(0.3, "row")
        self.drop, self.fc, self.last = nn.Dropout(0.5), nn.Linear(6, 5), nn.BatchNorm1d(6)

    def forward(self, images: Tensor, *, taps: bool = False) -> Output:
        maps = self.channels(self.norm(self.conv(images)))
        maps = maps + self.path(maps.sin()) + self.rows(maps.cos())
        return Output(self.fc(self.drop(self.last(maps.mean((2, 3))))))


def dropout(world: World) -> dict[str, float]:
    """Masks by the place in the whole batch."""

    def build() -> Trial:
        trial = attached("kd")
        with seeded(1, "dropping"):
            trial.student = Dropping().to(DTYPE)
        return trial

    return compared(build, world, SIZES)


def local_norms(world: World) -> dict[str, float]:
    """`recipe.batch_norm=local`: each part with statistics of its own, the running ones those of rank 0."""
    of_sizes = [local_norms_of(count, world) for count in (7, 3)]  # of three the second has one, without a deviation
    return {name: max(found[name] for found in of_sizes) for name in of_sizes[0]}


def local_norms_of(count: int, world: World) -> dict[str, float]:
    """The distances after one step on `count` images."""
    trial = attached("review_kd")
    ((terms, gradient, buffers),) = steps(trial, replace(world, local_norm=True), (count,))
    found, total, remembered = dict.fromkeys(terms, 0.0), torch.zeros_like(gradient), None
    for rank in range(world.size):
        own = attached("review_kd")
        part, share = World(rank, world.size), len(Part(rank, world.size).rows(count)) / count
        (batch,) = batches(own, (count,))
        student, teacher = own.outputs(fed(batch, part))
        values = own.objective(student, teacher, fed(batch, part), torch.tensor(5.5, dtype=DTYPE))
        sum(value * share for value in values.values()).backward()  # type: ignore[union-attr]
        total += torch.cat([p.grad.reshape(-1) for p in own.learned() if p.grad is not None])
        found = {name: found[name] + float(value.detach()) * share for name, value in values.items()}
        remembered = running(own) if remembered is None else remembered
    expected = torch.tensor([*found.values()], dtype=DTYPE)
    return {
        "terms": distance(torch.stack([*terms.values()]), expected),
        "gradients": distance(gradient, total),
        "buffers": distance(buffers, remembered),
    }


class Noisy(Dropping):
    """Draws random numbers that cannot be cut into parts."""

    def forward(self, images: Tensor, *, taps: bool = False) -> Output:
        return super().forward(images + torch.randn_like(images))


def refusals(world: World) -> list[str]:
    """What is said of a network that draws by itself, and what rank 0 raised arrives in the other processes."""
    said = []
    for act in (lambda: Noisy()(torch.zeros(4, 3, 8, 8)), lambda: world.first(raises)):
        try:
            with world.whole_batch(8, rows=4):
                act()
        except (NotAcross, Busy) as error:
            said.append(f"{type(error).__name__}: {error}")
    assert world.any(world.rank == 1)
    assert not world.any(False)
    assert world.first(lambda: world.rank) == 0
    every: list[list[str]] = [[] for _ in range(world.size)]
    torch.distributed.all_gather_object(every, said)
    assert every == [said] * world.size
    return said


def raises() -> None:
    raise Busy("the run is being trained")


def buckets(world: World) -> float:
    """The largest error of gradients that are summed in many buckets, of two types of numbers."""
    layers = [
        nn.Parameter(torch.full((300,), float(i), dtype=kind)) for i in range(9) for kind in (DTYPE, torch.float32)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("distill.training.world.BUCKET_BYTES", 3000)
        gradients = world.gradients(layers)
        sum((p * p).sum() * (world.rank + 1) for p in layers[:-1]).backward()  # type: ignore[union-attr]
        gradients.finish()
    assert layers[-1].grad is None
    shares = sum(range(1, world.size + 1))
    errors = [(p.grad - 2 * shares * p.detach()).abs().max() for p in layers[:-1] if p.grad is not None]
    assert len(errors) == len(layers) - 1
    return float(torch.stack([error.to(DTYPE) for error in errors]).max())


def main() -> None:
    torch.set_num_threads(1)
    for name in METHODS:
        build(name)  # the presets are composed once for both
    second = os.fork()
    os.environ.update(dict.fromkeys(("RANK", "LOCAL_RANK"), "0" if second else "1"))
    world = this_world()
    found = {name: globals()[name](world) for name in sys.argv[1:]}
    if second:
        print(json.dumps(found))
        assert os.waitpid(second, 0)[1] == 0


if __name__ == "__main__":
    main()
