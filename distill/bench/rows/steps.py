"""Steps of training: of a student alone, of distillation, of cohorts."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack

from distill.bench.lab import Lab
from distill.bench.paused import PausedTraining
from distill.bench.rounds import Variant
from distill.bench.rows.group import Group, Ours
from distill.teachers import Teacher
from distill.training import Engine, Member, compiled

LIVE = ("crops", "folded", "curve")
TABLE = ("crops", "table", "curve")
COHORTS = (1, 2, 4, 8, 16)
WITH_TABLE = (4, 8)


def student(lab: Lab, stack: ExitStack) -> Group:
    """Forward, cross-entropy, backward and optimizer; ours draws its batches too, the peer's are there already."""
    data, steps = lab.steps(lab.sizes.steps), lab.sizes.steps
    peer = lab.peer(taught=False)
    batches = [(batch.images.contiguous(), batch.labels) for batch in lab.stream(data).epoch(1)]
    ours = of_steps("ours", [lab.member(data, None)], steps, stack, lab=lab)
    return Group(
        "step",
        Variant("peer", steps, lambda: peer.train(iter(batches), steps)),
        [Ours("student", "student step", ours, ("crops", "curve"))],
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
            Ours("step.live", "KD step, live teacher", live, LIVE),
            Ours("step.table", "KD step, table", table, TABLE),
        ],
    )


def compiled_distillation(lab: Lab, stack: ExitStack) -> Group:
    """A whole step of KD with `engine.compile`; what compiling takes is told apart."""
    data, steps = lab.steps(lab.sizes.steps), lab.sizes.steps
    teachers: dict[str, tuple[Teacher, tuple[str, ...]]] = {
        "live": (lab.live(), (*LIVE, "compiled")),
        "table": (lab.table(data), (*TABLE, "compiled")),
    }
    ours = []
    for name, (teacher, gates) in teachers.items():
        members = [lab.member(data, teacher)]
        variant = of_steps(name, members, steps, stack, lab=lab, around=compiled(members))
        variant.prepare()
        spent = lab.clock(variant.run)
        label = f"KD step compiled, {'live teacher' if name == 'live' else 'table'}"
        ours.append(Ours(f"compiled.{name}", label, variant, gates, preparation=spent))
    return Group("step", peer_steps(lab), ours)


def cohorts(lab: Lab, stack: ExitStack) -> Group:
    """KD steps of cohorts, counted for one student: a sweep over temperatures, one stream and one teacher."""
    ours = []
    for size in COHORTS:
        steps = max(2, lab.sizes.steps // size)
        data, students = lab.steps(steps), f"{size} student{'s' * (size > 1)}"
        live = of_steps(f"live {size}", lab.cohort(data, lab.live(), size), steps * size, stack, lab=lab)
        ours.append(Ours(f"cohort{size}.live", f"KD step a student, {students}, live teacher", live, (*LIVE, "cohort")))
        if size in WITH_TABLE:
            table = of_steps(f"table {size}", lab.cohort(data, lab.table(data), size), steps * size, stack, lab=lab)
            label = f"KD step a student, {students}, table"
            ours.append(Ours(f"cohort{size}.table", label, table, (*TABLE, "cohort")))
    return Group("step", peer_steps(lab), ours)


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
    """Windows of a training, each an epoch without its evaluation; by the engine that a run here would have."""
    training = stack.enter_context(PausedTraining(members, engine=engine or lab.engine(), around=around))
    begun = False

    def evaluate() -> None:
        nonlocal begun
        if begun:
            training.go_on()
        begun = True

    return Variant(name, units, training.go_on, prepare=evaluate)


def peer_steps(lab: Lab) -> Variant:
    """The peer's steps of KD; its workers, where it has some, run in before."""
    peer, steps = lab.peer(), lab.sizes.steps
    batches = iter(lab.train_loader(lab.pool))

    def run_in() -> None:
        nonlocal batches
        batches = iter(lab.train_loader(lab.pool))
        peer.train(batches, lab.sizes.run_in)

    return Variant("peer", steps, lambda: peer.train(batches, steps), prepare=run_in)
