"""What is measured, by the names of `rows=`: ways to do one piece of work, ours and the peer's."""

import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import count

import torch

from distill.data import Dataset
from distill.teachers import Teacher
from distill.training import (
    WARM_UP,
    Captured,
    CudaLane,
    Eager,
    Engine,
    Member,
    compiled,
    compiled_surroundings,
    why_not_compiled,
)
from distill.training.graphs import Work
from scripts.bench.lab import Lab
from scripts.bench.measure import Figure, PausedTraining, Variant, measure

STARTS = re.compile(r"cu(da)?(LaunchKernel|LaunchCooperativeKernel|GraphLaunch|Memcpy|Memset)")
COHORTS = (1, 2, 4, 8, 16)
WITH_TABLE = (4, 8)
READINGS = 16  # of a table, which takes too little time to be measured once
CURVE = ("curve",)
Note = Callable[[str], None]
Row = Callable[[Lab, Note], list[Figure]]


@dataclass(frozen=True)
class Ours:
    """A variant of ours and the figure it gives: its key, its label, and its gates.

    `preparation`: seconds spent before the first window, where they are worth reporting.
    """

    key: str
    label: str
    variant: Variant
    gates: tuple[str, ...] = ()
    preparation: float | None = None


@dataclass(frozen=True)
class Group:
    """Variants of one piece of work, counted in `unit`."""

    unit: str
    peer: Variant
    ours: Sequence[Ours]

    def measure(self, lab: Lab) -> list[Figure]:
        """The figures of ours, measured side by side with the peer."""
        variants = [self.peer, *(each.variant for each in self.ours)]
        costs = measure(variants, rounds=lab.sizes.rounds, warm_up=lab.sizes.warm_up, clock=lab.clock)
        peer = tuple(costs[self.peer.name])
        return [
            Figure(
                each.key,
                each.label,
                self.unit,
                each.gates,
                tuple(costs[each.variant.name]),
                peer,
                preparation=each.preparation,
            )
            for each in self.ours
        ]


def timed(build: Callable[[Lab, ExitStack], Group]) -> Row:
    """A row whose variants are measured side by side."""

    def row(lab: Lab, note: Note) -> list[Figure]:
        with ExitStack() as stack:
            return build(lab, stack).measure(lab)

    return row


def data_path(lab: Lab, stack: ExitStack) -> Group:
    """Shuffle, crops, flips and normalisation: `ImageStream` against torchvision's transforms in a DataLoader."""
    images, stream, epoch = len(lab.data.train_labels), lab.stream(lab.data), count(1)
    loader = lab.train_loader(lab.data)

    def ours() -> None:
        for _ in stream.epoch(next(epoch)):
            pass

    def peer() -> None:
        for _ in loader:
            pass

    return Group("image", Variant("peer", images, peer), [Ours("data", "data path", Variant("ours", images, ours))])


def teacher(lab: Lab, stack: ExitStack) -> Group:
    """A live teacher's forward and a table's answer, against the unfolded network's forward in NCHW."""
    data = lab.steps(lab.sizes.steps)
    batches = list(lab.stream(data).epoch(1))
    in_nchw = [batch.images.contiguous() for batch in batches]
    live, table, peer = lab.live(), lab.table(data), lab.peer()

    def run_live() -> None:
        for batch in batches:
            live(batch)

    def run_table() -> None:
        for _ in range(READINGS):
            for batch in batches:
                table(batch)

    def run_peer() -> None:
        for images in in_nchw:
            peer.ask(images)

    steps = len(batches)
    return Group(
        "batch",
        Variant("peer", steps, run_peer),
        [
            Ours("teacher.live", "teacher, live", Variant("live", steps, run_live)),
            Ours("teacher.table", "teacher, table", Variant("table", steps * READINGS, run_table)),
        ],
    )


def student(lab: Lab, stack: ExitStack) -> Group:
    """Forward, cross-entropy, backward and optimizer; ours also draws its batches, the peer's are ready."""
    data, steps = lab.steps(lab.sizes.steps), lab.sizes.steps
    peer = lab.peer(taught=False)
    batches = [(batch.images.contiguous(), batch.labels) for batch in lab.stream(data).epoch(1)]
    ours = of_steps("ours", [lab.member(data, None)], steps, stack, lab=lab)
    return Group(
        "step",
        Variant("peer", steps, lambda: peer.train(iter(batches), steps)),
        [Ours("student", "student step", ours, CURVE)],
    )


def distillation(lab: Lab, stack: ExitStack) -> Group:
    """A whole step of KD, from shuffled images to the optimizer."""
    data, steps = lab.steps(lab.sizes.steps), lab.sizes.steps
    live = of_steps("live", [lab.member(data, lab.live())], steps, stack, lab=lab)
    table = of_steps("table", [lab.member(data, lab.table(data))], steps, stack, lab=lab)
    return Group(
        "step",
        peer_steps(lab),
        [
            Ours("step.live", "KD step, live teacher", live, CURVE),
            Ours("step.table", "KD step, table", table, CURVE),
        ],
    )


def compiled_steps(lab: Lab, note: Note) -> list[Figure]:
    """A whole step of KD with `engine.compile`; the seconds that compiling takes are reported beside it."""
    reason = why_not_compiled(lab.device)
    if reason is not None:
        note(f"row compile is left out: {reason}")
        return []
    data, steps = lab.steps(lab.sizes.steps), lab.sizes.steps
    teachers: dict[str, Teacher] = {"live": lab.live(), "table": lab.table(data)}
    with ExitStack() as stack:
        ours = []
        for name, source in teachers.items():
            members = [lab.member(data, source)]
            variant = of_steps(name, members, steps, stack, lab=lab, around=compiled(members))
            variant.prepare()
            spent = lab.clock(variant.run)
            label = f"KD step compiled, {'live teacher' if name == 'live' else 'table'}"
            ours.append(Ours(f"compiled.{name}", label, variant, (*CURVE, "compiled"), preparation=spent))
        return Group("step", peer_steps(lab), ours).measure(lab)


def cohorts(lab: Lab, stack: ExitStack) -> Group:
    """KD steps of cohorts, counted for one student: a sweep over temperatures, one stream and one teacher."""
    ours = []
    for size in COHORTS:
        steps = max(2, lab.sizes.steps // size)
        data, students = lab.steps(steps), f"{size} student{'s' * (size > 1)}"
        live = of_steps(f"live {size}", lab.cohort(data, lab.live(), size), steps * size, stack, lab=lab)
        ours.append(Ours(f"cohort{size}.live", f"KD step a student, {students}, live teacher", live, CURVE))
        if size in WITH_TABLE:
            table = of_steps(f"table {size}", lab.cohort(data, lab.table(data), size), steps * size, stack, lab=lab)
            ours.append(Ours(f"cohort{size}.table", f"KD step a student, {students}, table", table, CURVE))
    return Group("step", peer_steps(lab), ours)


def evaluation(lab: Lab, stack: ExitStack) -> Group:
    """The student on the evaluation images."""
    images, engine, member = len(lab.data.evaluation_labels), lab.engine(), lab.member(lab.data, None)
    for _ in range(uncounted(engine)):
        engine.evaluate([member])
    peer = lab.peer(taught=False)
    ours = Variant("ours", images, lambda: engine.evaluate([member]))
    return Group(
        "image",
        Variant("peer", images, lambda: peer.validate(lab.validation_loader)),
        [Ours("evaluation", "evaluation", ours, ("evaluation",))],
    )


def epoch(lab: Lab, stack: ExitStack) -> Group:
    """An epoch of KD over all images, with its evaluation."""
    peer, loader = lab.peer(), lab.train_loader(lab.data)

    def train_and_validate() -> None:
        peer.train(iter(loader), len(loader))
        peer.validate(lab.validation_loader)

    what = f"epoch of {len(lab.data.train_labels):,} images with evaluation"
    gates = (*CURVE, "evaluation")
    ours = [
        Ours("epoch.live", f"{what}, live teacher", of_epochs("live", lab, lab.live(), lab.data, stack), gates),
        Ours("epoch.table", f"{what}, table", of_epochs("table", lab, lab.table(lab.data), lab.data, stack), gates),
    ]
    return Group("epoch", Variant("peer", 1, train_and_validate), ours)


class CountedLane(CudaLane):
    """A lane that counts the nodes of what is captured in it."""

    def __init__(self, device: torch.device, counts: list[int]) -> None:
        super().__init__(device)
        self._counts = counts

    def new_graph(self) -> torch.cuda.CUDAGraph:
        self._graph = torch.cuda.CUDAGraph(keep_graph=True)  # else it cannot be looked into
        return self._graph

    def capture(self, work: Work) -> Work:
        from cuda.bindings import runtime  # comes with torch for CUDA

        replay = super().capture(work)
        graph = runtime.cudaGraph_t(self._graph.raw_cuda_graph())
        error, _, count = runtime.cudaGraphGetNodes(graph, 0)
        if int(error):
            raise RuntimeError(f"the nodes of a graph cannot be counted: {error}")
        self._counts.append(int(count))
        return replay


def captured(lab: Lab, note: Note, *, size: int = 1) -> list[Figure]:
    """A KD step as this device runs it, without a peer: its time for one student, and the nodes of its graphs.

    On CUDA also with loss and teacher compiled, as in long runs; eight students take too long to compile.
    """
    figures, steps = [], max(WARM_UP + 1, lab.sizes.steps // size)
    data, students = lab.steps(steps), f"{size} student{'s' * (size > 1)}"
    teachers: dict[str, Teacher] = {"live": lab.live(), "table": lab.table(data)}
    if size == 1 and lab.device.type == "cuda" and not why_not_compiled(lab.device):
        teachers |= {"live, compiled": lab.live(), "table, compiled": lab.table(data)}
    for name, source in teachers.items():
        counts: list[int] = []
        engine = lab.engine()
        if isinstance(engine, Captured):
            engine = Captured(partial(CountedLane, lab.device, counts), declined=note)
        with ExitStack() as stack:
            members = lab.cohort(data, source, size)
            around = compiled_surroundings(members) if name.endswith("compiled") else None
            variant = of_steps(name, members, steps * size, stack, lab=lab, engine=engine, around=around)
            variant.prepare()
            variant.run()
            nodes = sum(counts) / size  # before an evaluation is captured
            costs = measure([variant], rounds=lab.sizes.rounds, warm_up=lab.sizes.warm_up, clock=lab.clock)[name]
        key, label = f"captured{size}.{name}", f"KD step a student, {students}, {name}"
        figures.append(Figure(key, label, "step", CURVE, tuple(costs)))
        if counts:
            figures.append(Figure(f"{key}.nodes", f"nodes: {label}", "step", CURVE, (nodes,), quantity="nodes"))
        else:
            note(f"{label}: not captured, so there are no nodes")
    return figures


def lanes(lab: Lab, note: Note) -> list[Figure]:
    """The same for eight students side by side."""
    return captured(lab, note, size=8)


def kernels(lab: Lab, note: Note) -> list[Figure]:
    """A KD step, eager and captured, one student and eight: time, and the launches from the host."""
    if lab.device.type != "cuda":
        note("row kernels is left out: it counts the launches on a GPU")
        return []
    with ExitStack() as stack:
        ours, steps = [], lab.sizes.steps
        for size in (1, 8):
            windows = max(2, steps // size)
            for name in ("eager", "captured"):
                engine = Eager() if name == "eager" else Captured(lambda: CudaLane(lab.device), declined=lab.note)
                members = lab.cohort(lab.steps(windows), lab.live(), size)
                variant = of_steps(f"{name} {size}", members, windows * size, stack, lab=lab, engine=engine)
                label = f"KD step a student, {size} student{'s' * (size > 1)}, {name}"
                ours.append(Ours(f"kernels.{name}{size}", label, variant, CURVE))
        group = Group("step", peer_steps(lab), ours)
        figures = group.measure(lab)
        launched = {variant.name: launches(variant) for variant in (group.peer, *(each.variant for each in ours))}
    if not all(launched.values()):
        note("row kernels is without launches: the profiler saw none")
        return figures
    peer = (launched[group.peer.name],)
    return figures + [
        Figure(
            f"{each.key}.launches",
            f"launches: {each.label}",
            "step",
            each.gates,
            (launched[each.variant.name],),
            peer,
            quantity="launches",
        )
        for each in ours
    ]


def launches(variant: Variant) -> float:
    """Kernels, graphs, copies and fills that the host starts on the device, for one unit."""
    variant.prepare()
    watched = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=watched) as profile:
        variant.run()
        torch.cuda.synchronize()
    return sum(is_launch(event.name) for event in profile.events() or ()) / variant.units


def is_launch(name: str) -> bool:
    """Whether a call of the CUDA runtime or driver, by its name in a profile, starts work on the device."""
    return STARTS.match(name) is not None


def of_steps(
    name: str,
    members: Sequence[Member],
    units: float,
    stack: ExitStack,
    *,
    lab: Lab,
    engine: Engine | None = None,
    around: AbstractContextManager[object] | None = None,
) -> Variant:
    """Windows of a training, each an epoch without its evaluation, with the engine that a run on this device has."""
    training = stack.enter_context(PausedTraining(members, engine=engine or lab.engine(), around=around))
    begun = False

    def evaluate() -> None:
        nonlocal begun
        if begun:
            training.go_on()
        begun = True

    return Variant(name, units, training.go_on, prepare=evaluate)


def of_epochs(name: str, lab: Lab, teacher: Teacher, data: Dataset, stack: ExitStack) -> Variant:
    """Windows of one whole epoch of `fit`."""
    engine = lab.engine()
    total = uncounted(engine) + lab.sizes.rounds + lab.sizes.warm_up + 1
    member = lab.member(data, teacher, epochs=max(total, lab.plan.recipe.epochs))
    training = stack.enter_context(PausedTraining([member], engine=engine))
    for _ in range(uncounted(engine)):
        training.whole_epoch()
    return Variant(name, 1, training.whole_epoch)


def uncounted(engine: Engine) -> int:
    """Times that a piece of work is done before it is measured: after those everything is captured."""
    return WARM_UP + 1 if isinstance(engine, Captured) else 0


def peer_steps(lab: Lab) -> Variant:
    """The peer's steps of KD; its workers, where it has some, start before the window."""
    peer, steps = lab.peer(), lab.sizes.steps
    batches = iter(lab.train_loader(lab.pool))

    def run_in() -> None:
        nonlocal batches
        batches = iter(lab.train_loader(lab.pool))
        peer.train(batches, lab.sizes.run_in)

    return Variant("peer", steps, lambda: peer.train(batches, steps), prepare=run_in)


ROWS: dict[str, Row] = {
    "data": timed(data_path),
    "teacher": timed(teacher),
    "student": timed(student),
    "step": timed(distillation),
    "compile": compiled_steps,
    "cohort": timed(cohorts),
    "evaluation": timed(evaluation),
    "epoch": timed(epoch),
    "captured": captured,
    "lanes": lanes,
    "kernels": kernels,
}
