"""A captured step is the eager one, byte for byte, whoever trains beside it and however it was begun."""

import gc
import weakref
from functools import partial
from itertools import groupby

import pytest
import torch
from method_networks import NARROW, WIDE, Staged
from method_presets import build
from silent import Silent
from tape_lane import LateLane, TapeLane
from torch.nn import functional as F

from distill.data import ImageStream, StrongView
from distill.losses import CrossEntropy, Objective, zscore_kd
from distill.teachers import LiveTeacher
from distill.training import WARM_UP, Captured, Cosine, NonFinite, NotCaptured, captured, evaluate, fit, seeded
from distill.training.captured import copied
from distill.training.engine import tally_of
from distill.training.graphs import Recording

EPOCHS = 5  # 10 full batches and 5 remainders of each member
FULL, REMAINDER = 2 * EPOCHS - WARM_UP, EPOCHS - WARM_UP  # of these are replayed
MEASURED = ("seconds", "peak_memory_bytes", "captured_steps")
# one of each kind of state, and of each reading of progress
METHODS = ("kd", "zscore_kd", "dkd", "ctkd", "crd", "review_kd", "mlkd", "simkd", "ofd")


# What reads a map twice adds two gradients: in place, or not where somebody holds one of them, as a tape does. Their
# layouts then differ, and so do the last bits; merely to look on (a dispatch mode that does nothing) changes them too.
ADDS_GRADIENTS = ("review_kd",)


class Capture:
    """An engine on tapes, and what it said and did."""

    def __init__(self, lane=TapeLane) -> None:
        log, self.declined = [], []
        self.log, self.engine = log, Captured(lambda: lane(log), declined=self.declined.append)

    def count(self, what: str) -> int:
        return sum(happened == what for happened, _ in self.log)

    def run(self, *members, **options) -> None:
        fit(members, watch=Silent(), engine=self.engine, **options)


@pytest.fixture
def capture() -> Capture:
    return Capture()


@pytest.fixture
def recipe(lab):
    """The learning rate changes with every epoch."""
    return lab.recipe(EPOCHS, lr=0.05, schedule=Cosine(warmup=0.3))


@pytest.fixture
def cohort(lab, teacher, recipe):
    """A function that makes the members of a varied cohort."""

    def make():
        member = partial(lab.member, recipe=recipe)
        return {
            "ce": member(),
            "kd": member(lab.soft_targets(), teacher=teacher),
            "zscore": member(lab.soft_targets(2.0, zscore_kd), teacher=teacher),
            "other seed": member(lab.soft_targets(), teacher=teacher, seed=2),
            "learner": member(lab.Learner(), teacher=teacher, student=lab.network(3, dropout=0.2), seed=3),
            "bf16": member(lab.soft_targets(), teacher=teacher, precision="bf16"),
        }

    return make


def same(ours, theirs) -> None:
    """Weights, metrics and all of the state are equal to the last bit."""
    assert ours.error is None
    assert ours.recorder.weights == theirs.recorder.weights
    assert ours.recorder.lines == theirs.recorder.lines
    mine, other = ours.state()[0], theirs.state()[0]
    assert mine.keys() == other.keys()
    assert [name for name in mine if not torch.equal(mine[name], other[name])] == []
    stable = [{k: v for k, v in m.recorder.result.items() if k not in MEASURED} for m in (ours, theirs)]
    assert stable[0] == stable[1]


def test_every_member_of_a_captured_cohort_ends_as_alone_and_eager(lab, cohort, capture) -> None:
    alone, together = cohort(), cohort()
    for member in alone.values():
        lab.run(member)
    capture.run(*together.values())
    assert capture.declined == []
    for name, member in together.items():
        same(member, alone[name])
        assert member.captured_steps == member.recorder.result["captured_steps"] == FULL + REMAINDER
    assert all("captured_steps" not in member.recorder.result for member in alone.values())
    timings = together["kd"].recorder.timings
    assert [timing.get("captured_steps") for timing in timings] == [None, 1, 3, 6, FULL + REMAINDER]
    assert len({member.recorder.weights for member in alone.values()}) == len(alone)


def test_the_next_step_waits_for_every_lane(cohort, capture) -> None:
    members = cohort()
    capture.run(*members.values())
    working = set()
    for happened, lane in capture.log:
        if happened == "enter":
            assert lane not in working  # the step before was waited for
            working.add(lane)
        elif happened in ("join", "capture"):  # what is captured is not done
            working.discard(lane)
    assert working == set()
    lanes = {lane for happened, lane in capture.log if happened == "replay"}
    assert len(lanes) == 1 + len(members)  # one for batches and teachers, one for each member


def staged(widths, strides, classes, seed):
    with seeded(seed, "student"):
        return Staged(widths, strides, classes=classes)


@pytest.mark.parametrize("method", METHODS)
def test_methods_of_every_kind(lab, capture, method: str) -> None:
    classes = lab.dataset.num_classes
    network = staged(WIDE, (1, 1, 2, 2), classes, 99)
    taught = LiveTeacher(network, weights="teacher", precision="fp32", taps=True)

    def make():
        student = staged(NARROW, (1, 1, 2, 2), classes, 1)
        recipe = lab.recipe(EPOCHS, lr=0.01, reference_epochs=8)  # ramps of 10 and 20 epochs last to the end
        return lab.member(build(method, seed=1), student=student, teacher=taught, recipe=recipe)

    eager, captured = make(), make()
    lab.run(eager)
    capture.run(captured)
    assert capture.declined == []
    assert captured.captured_steps == FULL + REMAINDER
    if method in ADDS_GRADIENTS:
        mine, other = captured.state()[0], eager.state()[0]
        for name in (name for name in mine if name.startswith(("student/", "objective/"))):
            torch.testing.assert_close(mine[name], other[name], rtol=1e-4, atol=1e-5)
    else:
        same(captured, eager)


@pytest.mark.parametrize("steps", [3, 8, 13])
def test_resumed_in_the_middle(lab, teacher, recipe, steps: int) -> None:
    """Before and after the captures, inside an epoch and at its end; captured goes on from eager and back."""

    def make():
        student = lab.network(1, dropout=0.3)
        return lab.member(lab.Learner(), teacher=teacher, student=student, recipe=recipe)

    whole = make()
    lab.run(whole)
    for before, after in ((Capture(), Capture()), (Capture(), None), (None, Capture())):
        stopped, resumed = make(), make()
        for member, way, options in (
            (stopped, before, {"stop_requested": lab.stop_after(steps)}),
            (resumed, after, {}),
        ):
            if member is resumed:
                tensors, state, lines = stopped.recorder.saved[0]
                resumed.restore(tensors, state)
            (way.run if way else lab.run)(member, **options)
        resumed.recorder.lines[:0] = stopped.recorder.lines[:lines]
        same(resumed, whole)


def test_a_teachers_answer_is_not_overwritten_before_it_is_read(lab, teacher, recipe) -> None:
    """A member behind the others trains alone until it has caught up: its teacher is captured first, replayed last."""

    def make():
        return [lab.member(lab.soft_targets(), teacher=teacher, seed=seed, recipe=recipe) for seed in (1, 2)]

    alone = make()
    for member in alone:
        lab.run(member)
    stopped, (ahead, behind) = make()[0], make()
    lab.run(stopped, stop_requested=lab.stop_after(2 * lab.steps))
    tensors, state, lines = stopped.recorder.saved[0]
    ahead.restore(tensors, state)
    capture = Capture(LateLane)
    capture.run(ahead, behind)
    assert capture.declined == []
    assert (ahead.captured_steps, behind.captured_steps) == (2 * (EPOCHS - 2) - WARM_UP, FULL + REMAINDER)
    ahead.recorder.lines[:0] = stopped.recorder.lines[:lines]
    same(ahead, alone[0])
    same(behind, alone[1])


def test_an_engine_that_is_gone_leaves_no_graph_behind(lab, teacher, recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the garbage collector: a graph that it destroyed later would break the capture of another."""
    made, new = [], Recording.__init__

    def noted(self, *arguments, **options) -> None:
        new(self, *arguments, **options)
        made.append(weakref.ref(self))

    monkeypatch.setattr(Recording, "__init__", noted)
    gc.disable()
    try:
        capture = Capture()
        capture.run(lab.member(lab.soft_targets(), teacher=teacher, recipe=recipe))
        assert len(made) == 4 * 2  # gather, teacher, step and evaluation, each of two sizes
        del capture
        assert [recording() for recording in made if recording()] == []
    finally:
        gc.enable()


def test_an_engine_begins_without_garbage() -> None:
    class Cycle:
        def __init__(self) -> None:
            self.itself = self

    gone = weakref.ref(Cycle())
    Capture()
    assert gone() is None


def test_a_batch_that_is_copied_in_is_made_once_for_each_size(lab, recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    copies = []
    monkeypatch.setattr(captured, "copied", lambda value: copies.append(len(value.labels)) or copied(value))
    member = lab.member(TwoViews(), recipe=recipe)
    assert member.stream.strong is not None
    engine = Captured(lambda: TapeLane([]), declined=pytest.fail)
    for epoch in (1, 2):
        for batch, expected in zip(engine.batches(member.stream, epoch, 0), member.stream.epoch(epoch), strict=True):
            assert torch.equal(batch.images, expected.images)
            assert torch.equal(batch.strong, expected.strong)
    assert copies == [16, 12]


class TwoViews(CrossEntropy):
    strong_view = StrongView(ops=1)


class Poison(Objective):
    """Cross-entropy, and a term that is nan at one step (counted from 0); the device counts."""

    needs_teacher = False

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at
        self.register_buffer("asked", torch.zeros((), dtype=torch.int64))

    def forward(self, student, teacher, batch, progress):
        poison = torch.where(self.asked == self.at, torch.nan, 0.0)
        self.asked.add_(1)
        return {"ce": F.cross_entropy(student.logits, batch.labels), "poison": poison + 0 * student.logits.sum()}


@pytest.mark.parametrize("at", [1, 6, 10, 11, 14])
def test_a_member_that_is_not_finite_stops_alone(lab, teacher, recipe, capture, at: int) -> None:
    alone = lab.member(lab.soft_targets(), teacher=teacher, seed=2, recipe=recipe)
    lab.run(alone)
    poisoned = lab.member(Poison(at), recipe=recipe)
    sound = lab.member(lab.soft_targets(), teacher=teacher, seed=2, recipe=recipe)
    capture.run(poisoned, sound)
    same(sound, alone)
    assert sound.captured_steps == FULL + REMAINDER
    assert isinstance(poisoned.error, NonFinite)
    failure = poisoned.recorder.failure
    assert (failure["epoch"], failure["step"], failure["term"]) == (at // 3 + 1, at % 3, "poison")


@pytest.mark.usefixtures("ungraded")
def test_the_teacher_is_asked_by_replay(lab, recipe, capture, teacher) -> None:
    calls = []

    class Counting:
        key, network = teacher.key, teacher.network

        def __call__(self, batch):
            calls.append(len(batch.labels))
            return teacher(batch)

    losses = (lab.soft_targets(), lab.soft_targets(2.0))
    capture.run(*(lab.member(loss, teacher=Counting(), recipe=recipe) for loss in losses))
    assert sorted(calls) == [12] * (WARM_UP + 1) + [16] * (WARM_UP + 1)


def test_evaluation_is_captured(lab, capture, recipe) -> None:
    member = lab.member(student=lab.network(1, dropout=0.5), recipe=recipe)
    for _ in range(4):
        (measured,) = capture.engine.evaluate([member])
        assert measured == evaluate(member.student, member.evaluation, precision="fp32")
        assert all(module.training for module in member.student.modules())
        with torch.no_grad():
            member.student.conv.weight.mul_(1.1)  # in place, as a step would
    assert (capture.count("capture"), capture.count("replay")) == (2, 8 - WARM_UP + 4 - WARM_UP)


def test_students_are_evaluated_side_by_side_on_one_copy_of_a_batch(lab, recipe, monkeypatch) -> None:
    """Each in its lane; the batch is overwritten when all are done with it."""
    tallies = []
    monkeypatch.setattr(captured, "tally_of", lambda member: tallies.append(member) or tally_of(member))
    capture = Capture(LateLane)
    members = [lab.member(student=lab.network(seed), recipe=recipe) for seed in (1, 2, 3)]
    for _ in range(WARM_UP + 1):
        found = capture.engine.evaluate(members)
    assert found == [evaluate(member.student, member.evaluation, precision="fp32") for member in members]
    assert capture.declined == []
    assert tallies == members  # once for all epochs
    happened = [(what, lane) for what, lane in capture.log if what in ("replay", "join")]
    replays = [list(group) for what, group in groupby(happened, key=lambda each: each[0]) if what == "replay"]
    assert {len({lane for _, lane in group}) for group in replays} == {len(members)}


@pytest.mark.parametrize("engine", ["eager", "captured"])
def test_images_in_bf16_change_nothing_for_networks_that_cast_them(lab, capture, recipe, engine: str) -> None:
    def make(dtype: torch.dtype):
        taught = LiveTeacher(lab.network(99, width=9), weights="teacher", precision="bf16", taps=False)
        member = lab.member(lab.soft_targets(), teacher=taught, precision="bf16", recipe=recipe)
        member.stream = ImageStream(lab.dataset, batch_size=16, seed=1, device="cpu", dtype=dtype)
        return member

    full, half, seen = make(torch.float32), make(torch.bfloat16), []
    half.student.register_forward_pre_hook(lambda _, given: seen.append((half.student.training, given[0].dtype)))
    lab.run(full)
    if engine == "eager":
        lab.run(half)
    else:
        capture.run(half)
    assert {dtype for training, dtype in seen if training} == {torch.bfloat16}
    same(half, full)


class Waits(Poison):
    """Reads the host in every step."""

    def forward(self, student, teacher, batch, progress):
        return {"ce": F.cross_entropy(student.logits, batch.labels) * (1 if progress.item() >= 0 else 2)}


class Replaces(Objective):
    """Its memory is another tensor after every step."""

    needs_teacher = False

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("memory", torch.zeros(4))

    def forward(self, student, teacher, batch, progress):
        self.memory = 0.9 * self.memory + 0.1 * student.logits.detach().mean(0)
        distance = (student.logits - self.memory).square().mean()
        return {"ce": F.cross_entropy(student.logits, batch.labels), "memory": distance}


def unfused(lab):
    sgd = partial(torch.optim.SGD, lr=0.05, foreach=False)
    return lab.member(recipe=lab.recipe(EPOCHS, optimizer=sgd, schedule=Cosine()))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda lab, recipe: lab.member(Waits(-1), recipe=recipe), "operation not permitted when stream is capturing"),
        (lambda lab, recipe: lab.member(Replaces(), recipe=recipe), "objective/memory is another tensor after every"),
        (lambda lab, recipe: unfused(lab), "its optimizer reads the learning rate on the host"),
    ],
    ids=["waits", "replaces", "unfused"],
)
def test_what_cannot_be_captured_is_said_and_runs_as_it_is(lab, teacher, recipe, capture, make, reason) -> None:
    eager, beside_eager = make(lab, recipe), lab.member(lab.soft_targets(), teacher=teacher, recipe=recipe)
    lab.run(eager)
    lab.run(beside_eager)
    ours, beside = make(lab, recipe), lab.member(lab.soft_targets(), teacher=teacher, recipe=recipe)
    capture.run(ours, beside)
    assert [sentence.partition(": ")[0] for sentence in capture.declined] == [
        "the step of member-1, 16 images, is not captured",
        "the step of member-1, 12 images, is not captured",
    ]
    assert all(sentence.partition(": ")[2].startswith(reason) for sentence in capture.declined)
    same(ours, eager)
    same(beside, beside_eager)
    assert (ours.captured_steps, beside.captured_steps) == (0, FULL + REMAINDER)


class WaitsInTheRemainder(Poison):
    """Reads the host where a batch is not full."""

    def forward(self, student, teacher, batch, progress):
        full = len(batch.labels) == 16
        return {"ce": F.cross_entropy(student.logits, batch.labels) * (1 if full or progress.item() >= 0 else 2)}


def test_after_a_failed_capture_a_member_draws_from_one_generator(lab, recipe, capture) -> None:
    """The graph of its full batches has the state that the failed capture left behind, so it is not replayed again."""
    eager, ours = (
        lab.member(WaitsInTheRemainder(-1), student=lab.network(3, dropout=0.2), recipe=recipe) for _ in range(2)
    )
    lab.run(eager)
    capture.run(ours)
    assert [sentence.partition(" is ")[0] for sentence in capture.declined] == ["the step of member-1, 12 images,"]
    assert ours.captured_steps == 2 * (WARM_UP + 1) - WARM_UP  # until the capture of the fourth remainder
    same(ours, eager)


def test_a_teacher_that_cannot_be_captured_leaves_its_students_captured(lab, teacher, recipe, capture) -> None:
    class OnTheHost:
        key, network = "host", teacher.network

        def __call__(self, batch):
            assert batch.view.amin().item() >= 0  # as a table does
            return teacher(batch)

    eager, ours = (lab.member(lab.soft_targets(), teacher=OnTheHost(), recipe=recipe) for _ in range(2))
    lab.run(eager)
    capture.run(ours)
    assert [sentence.partition(" is ")[0] for sentence in capture.declined] == [
        "the teacher's forward of 16 images",
        "the teacher's forward of 12 images",
    ]
    assert ours.captured_steps == FULL + REMAINDER
    same(ours, eager)


def test_a_capture_that_is_demanded_ends_the_command_where_it_fails(lab, recipe) -> None:
    def refuse(sentence: str) -> None:
        raise NotCaptured(sentence)

    demanded, eager = lab.member(Waits(-1), recipe=recipe), lab.member(Waits(-1), recipe=recipe)
    engine = Captured(lambda: TapeLane([]), declined=refuse)
    with pytest.raises(NotCaptured, match=r"the step of member-1, 16 images, is not captured: operation not"):
        fit([demanded], watch=Silent(), engine=engine)
    assert (demanded.epoch, demanded.step) == (2, 1)
    lab.run(eager, stop_requested=lab.stop_after(4))
    mine, other = demanded.state()[0], eager.state()[0]
    assert [name for name in mine if not torch.equal(mine[name], other[name])] == []
