"""What reaches the device: a step by every engine, a student and a teacher alone, cohorts on one stream and on several.

What `engine.capture=auto` should choose is to be read from these figures.
"""

import re
from collections.abc import Callable
from contextlib import ExitStack
from itertools import chain, product

import torch

from distill.bench.figure import Figure, Note
from distill.bench.lab import Lab
from distill.bench.rounds import Variant, measure
from distill.bench.rows.group import Group, Ours, figures_of
from distill.bench.rows.steps import LIVE, of_steps, peer_steps
from distill.training import Captured, CudaLane, Eager, compiled, why_not_compiled
from distill.training.captured import Taught
from distill.training.recording import WARM_UP, Lane

STARTS = re.compile(r"cu(da)?(LaunchKernel|LaunchCooperativeKernel|GraphLaunch|Memcpy|Memset)")
COHORTS = (4, 8)


def kernel_facts(lab: Lab, note: Note) -> list[Figure]:
    """Time, and what the host launches for it, of every variant."""
    if lab.device.type != "cuda":
        note("row kernels is left out: it counts what is launched on a GPU")
        return []
    with ExitStack() as stack:
        group = engines(lab, stack, new_lane=lambda: CudaLane(lab.device))
        variants = [group.peer, *(each.variant for each in group.ours)]
        costs = measure(variants, rounds=lab.sizes.rounds, warm_up=lab.sizes.warm_up, clock=lab.clock)
        launched = {variant.name: launches(variant) for variant in variants}
    times = figures_of(group, costs)
    if not all(launched.values()):
        note("row kernels is without launches: the profiler saw none")
        return times
    counts = [
        Figure(
            f"{each.key}.launches",
            f"launches: {each.label}",
            group.unit,
            each.gates,
            (launched[each.variant.name],),
            (launched[group.peer.name],),
            quantity="launches",
        )
        for each in group.ours
    ]
    return [*chain.from_iterable(zip(times, counts, strict=True))]


def engines(lab: Lab, stack: ExitStack, *, new_lane: Callable[[], Lane]) -> Group:
    """The same KD step, live teacher, carried out in different ways; what is captured lies in lanes of `new_lane`."""
    data, steps = lab.steps(lab.sizes.steps), lab.sizes.steps

    def captured(lanes: Callable[[], Lane] = new_lane) -> Captured:
        return Captured(lanes, declined=lab.note)

    def on_one_stream() -> Captured:
        lane = new_lane()
        return captured(lambda: lane)

    ours = []
    forms = ("", " compiled") if why_not_compiled(lab.device) is None else ("",)
    for name, form in product(("eager", "captured"), forms):
        members = [lab.member(data, lab.live())]
        engine = Eager() if name == "eager" else captured()
        around = compiled(members) if form else None
        variant = of_steps(name + form, members, steps, stack, lab=lab, engine=engine, around=around)
        gates = (*LIVE, "compiled") if form else LIVE
        ours.append(Ours(f"kernels.{name}{form.replace(' ', '.')}", f"KD step {name}{form}", variant, gates))
    for name, engine in (("eager", Eager()), ("captured", captured())):
        variant = of_steps(f"student {name}", [lab.member(data, None)], steps, stack, lab=lab, engine=engine)
        ours.append(Ours(f"kernels.student.{name}", f"student alone {name}", variant, ("crops", "curve")))
    ours += _teacher_alone(lab, new_lane)
    for size in COHORTS:
        windows = max(2, steps // size)
        for name, engine in (("one stream", on_one_stream()), ("a stream each", captured())):
            cohort = lab.cohort(lab.steps(windows), lab.live(), size)
            variant = of_steps(f"{size} on {name}", cohort, windows * size, stack, lab=lab, engine=engine)
            label = f"KD step a student, {size} students, {name}"
            ours.append(Ours(f"kernels.cohort{size}.{name.split()[-1]}", label, variant, (*LIVE, "cohort")))
    return Group("step", peer_steps(lab), ours)


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


def _teacher_alone(lab: Lab, new_lane: Callable[[], Lane]) -> list[Ours]:
    teacher, steps = lab.live(), lab.sizes.steps
    batch = next(lab.stream(lab.steps(1)).epoch(1))
    taught = Taught(lab.live(), batch, new_lane(), declined=lab.note)
    for _ in range(WARM_UP + 1):
        taught.ask()

    def eager() -> None:
        for _ in range(steps):
            teacher(batch)

    def captured() -> None:
        for _ in range(steps):
            taught.ask()

    return [
        Ours(f"kernels.teacher.{name}", f"teacher alone {name}", Variant(f"teacher {name}", steps, run), ("folded",))
        for name, run in (("eager", eager), ("captured", captured))
    ]
