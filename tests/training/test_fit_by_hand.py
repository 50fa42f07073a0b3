"""`fit` does what a plain PyTorch loop does, to the byte, and in the order one expects."""

import json
from functools import partial

import pytest
import torch
from torch.nn import functional as F

from distill.data import ImageStream
from distill.losses import Objective, kd
from distill.training import Steps, evaluate


def bytes_of(network) -> bytes:
    return b"".join(t.detach().contiguous().numpy().tobytes() for t in network.state_dict().values())


def test_two_epochs_equal_a_plain_loop(lab, teacher) -> None:
    student, frozen = lab.network(1), lab.network(99, width=9).eval()
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, fused=True)
    stream = ImageStream(lab.dataset, batch_size=16, seed=1, device="cpu")
    student.train()
    for epoch, rate in ((1, 0.1), (2, 0.1 * 0.1)):
        optimizer.param_groups[0]["lr"] = rate
        for batch in stream.epoch(epoch):
            with torch.no_grad():
                t = frozen(batch.images).logits
            s = student(batch.images).logits
            ce = F.cross_entropy(s, batch.labels)
            log_q, log_p = (F.log_softmax(z / 4.0, dim=-1) for z in (s, t))
            kd = F.kl_div(log_q, log_p, reduction="batchmean", log_target=True) * 4.0 * 4.0
            optimizer.zero_grad()
            (0.1 * ce + 0.9 * kd).backward()
            optimizer.step()

    member = lab.member(lab.soft_targets(), teacher=teacher)
    lab.run(member)
    assert bytes_of(member.student) == bytes_of(student)
    untrained = lab.network(1)
    assert bytes_of(student) != bytes_of(untrained)


def test_smoothed_labels_equal_a_plain_loop(lab, teacher) -> None:
    """Those of the cross-entropy alone, in training alone."""
    student, frozen = lab.network(1).train(), lab.network(99, width=9).eval()
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, fused=True)
    for batch in ImageStream(lab.dataset, batch_size=16, seed=1, device="cpu").epoch(1):
        with torch.no_grad():
            t = frozen(batch.images).logits
        s = student(batch.images).logits
        terms = 0.1 * F.cross_entropy(s, batch.labels, label_smoothing=0.2), 0.9 * kd(s, t, temperature=4.0)
        optimizer.zero_grad()
        torch.stack(terms).sum().backward()
        optimizer.step()
    member = lab.member(
        lab.soft_targets(), teacher=teacher, recipe=lab.recipe(1, label_smoothing=0.2, schedule=Steps(()))
    )
    (done,) = lab.run(member)
    assert bytes_of(member.student) == bytes_of(student)
    plain = evaluate(member.student, member.evaluation, precision="fp32")
    assert json.loads(done.lines[0])["test"] == plain.as_dict()


class Diary(Objective):
    """Cross-entropy that writes down what it is given."""

    needs_teacher = False

    def __init__(self) -> None:
        super().__init__()
        self.progress: list[float] = []
        self.sizes: list[int] = []
        self.index: list[int] = []

    def forward(self, student, teacher, batch, progress):
        assert teacher is None
        assert self.training
        assert progress.shape == ()
        self.progress.append(progress.item())
        self.sizes.append(len(batch.labels))
        self.index += batch.index.tolist()
        return {"ce": F.cross_entropy(student.logits, batch.labels)}


def test_the_last_partial_batch_is_trained_on(lab) -> None:
    diary = Diary()
    member = lab.member(diary)
    before = None

    def watch_step(m) -> None:
        nonlocal before
        if m.step == 2:
            before = m.student.conv.weight.detach().clone()
        if m.step == 3:
            assert not torch.equal(m.student.conv.weight, before)

    lab.run(member, watch=Watched(step=watch_step))
    assert before is not None
    assert diary.sizes == lab.batches * 2
    assert sorted(diary.index) == sorted(list(range(44)) * 2)


def test_progress_is_in_reference_epochs(lab) -> None:
    diary = Diary()
    lab.run(lab.member(diary, recipe=lab.recipe(4)))
    expected = [(epoch + step / 3) * 240 / 4 for epoch in range(4) for step in range(3)]
    assert diary.progress == pytest.approx(expected)


class Watched:
    """A watch made of functions; it remembers every call."""

    def __init__(self, **calls) -> None:
        self.calls, self.seen = calls, []

    def _tell(self, name, *arguments) -> None:
        self.seen.append((name, arguments[0].epoch, arguments[0].step))
        self.calls.get(name, lambda *_: None)(*arguments)

    def step(self, member) -> None:
        self._tell("step", member)

    def epoch(self, member, measured) -> None:
        self._tell("epoch", member, measured)

    def stopped(self, member, error) -> None:
        self._tell("stopped", member, error)


def test_the_watch_is_told_of_every_step_and_epoch(lab) -> None:
    watch = Watched()
    lab.run(lab.member(), watch=watch)
    steps = [[("step", epoch, step) for step in (1, 2, 3)] + [("epoch", epoch + 1, 0)] for epoch in (1, 2)]
    assert watch.seen == steps[0] + steps[1]


def test_the_learning_rate_is_set_every_epoch(lab) -> None:
    rates = []
    watch = Watched(step=lambda m: rates.append(float(m.optimizer.param_groups[0]["lr"])))
    (done,) = lab.run(lab.member(recipe=lab.recipe(4)), watch=watch)
    assert rates == pytest.approx([0.1] * 6 + [0.01] * 6)
    logged = [json.loads(line)["learning_rate"] for line in done.lines]
    assert logged == pytest.approx([0.1, 0.1, 0.01, 0.01])


def test_every_epoch_is_recorded_and_the_last_ends_with_a_result(lab) -> None:
    member = lab.member(facts={"classes": 4, "teacher": None}, recipe=lab.recipe(3))
    (done,) = lab.run(member)
    lines = [json.loads(line) for line in done.lines]
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    for line in lines:
        assert set(line) == {
            "epoch",
            "train",
            "test",
            "learning_rate",
            "gradient_norms",
        }  # nothing that depends on the clock
        assert set(line["gradient_norms"]) == {"ce"}
        assert set(line["train"]) == {"accuracy", "loss", "ce"}
        assert set(line["test"]) == {"correct", "count", "accuracy", "loss"}
    assert [timing["epoch"] for timing in done.timings] == [1, 2, 3]
    assert all(timing["images_per_second"] > 0 for timing in done.timings)
    result = done.result
    assert result["last"] == {"epoch": 3, **lines[-1]["test"]}
    best = max(lines, key=lambda line: line["test"]["correct"])  # the first of equals
    assert result["best"] == {"epoch": best["epoch"], **best["test"]}
    assert (result["epochs"], result["split"], result["classes"]) == (3, "test", 4)
    assert result["parameters"] == sum(p.numel() for p in lab.network().parameters())
    assert result["seconds"] == pytest.approx(
        sum(t["seconds"] + t["evaluation_seconds"] for t in done.timings), rel=0.05, abs=0.05
    )
    assert not member.active
    assert (done.saved, done.failure) == ([], None)


def test_terms_are_summed_into_one_loss(lab, teacher) -> None:
    (done,) = lab.run(lab.member(lab.soft_targets(), teacher=teacher, recipe=lab.recipe(1)))
    train = json.loads(done.lines[0])["train"]
    assert list(train) == ["accuracy", "loss", "ce", "kd"]
    assert train["loss"] == pytest.approx(train["ce"] + train["kd"])


def test_gradients_of_the_step_before_are_gone(lab) -> None:
    """With plain gradient descent a stale gradient would show at once."""
    sgd = partial(torch.optim.SGD, lr=0.05)
    member = lab.member(recipe=lab.recipe(1, optimizer=sgd, schedule=Steps(())))
    batches = list(member.stream.epoch(1))
    student = lab.network(1).train()
    for batch in batches:
        gradients = torch.autograd.grad(
            F.cross_entropy(student(batch.images).logits, batch.labels), list(student.parameters())
        )
        with torch.no_grad():
            for parameter, gradient in zip(student.parameters(), gradients, strict=True):
                parameter -= 0.05 * gradient
    lab.run(member)
    for mine, theirs in zip(member.student.parameters(), student.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_a_student_that_comes_in_eval_mode_is_trained_all_the_same(lab) -> None:
    usual, asleep = lab.member(), lab.member(student=lab.network(1).eval())
    assert lab.run(usual)[0].weights == lab.run(asleep)[0].weights
    assert float(usual.student.norm.num_batches_tracked) == 6
