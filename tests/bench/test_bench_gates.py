"""Each gate passes here, and fails when it is shown the fault that it is there for."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional

from distill.bench.gates import GATES, curve, full_fp32, pass_through
from distill.bench.gates.cohort import cohort
from distill.bench.gates.crops import crops
from distill.bench.gates.evaluation import evaluation
from distill.bench.gates.gate import within
from distill.bench.gates.teachers import folded, in_bf16, table
from distill.bench.lab import Lab
from distill.data import Batch
from distill.models import Output
from distill.training import Member


@pytest.mark.parametrize("name", [name for name in GATES if name not in ("compiled", "folded bf16", "curve bf16")])
def test_the_gates_of_this_package_pass(lab: Lab, name: str) -> None:
    told: list[str] = []
    (gate,) = pass_through(lab, [name], note=told.append).values()
    assert gate.passed, gate.says
    assert told == [f"gate {name}: passed; {gate.says}"]
    assert gate.name == name
    assert gate.values


def test_a_value_that_is_no_number_passes_no_gate() -> None:
    assert within("x", {"off": (0.0, 0.0)}, what="it").passed
    assert not within("x", {"off": (1, 0)}, what="it").passed
    assert not within("x", {"off": (float("nan"), 1.0)}, what="it").passed
    assert "inf" in within("x", {"off": (float("inf"), 1.0)}, what="it").says
    assert within("x", {"off": (2e-5, 1e-4), "wrong": (3, 4)}, what="it", besides="; so").says == (
        "it: 2.0e-05 off (limit 1.0e-04), 3 wrong (limit 4); so"
    )


def test_a_gate_that_breaks_has_failed() -> None:
    def broken(lab: Lab):
        raise RuntimeError("no such crop")

    told: list[str] = []
    stand_in = SimpleNamespace(device=torch.device("cpu"))
    found = pass_through(stand_in, ["crops"], gates={"crops": broken}, note=told.append)  # type: ignore[arg-type]
    assert not found["crops"].passed
    assert told == ["gate crops: FAILED; crops could not be tried: RuntimeError: no such crop"]


@pytest.fixture
def batches(lab: Lab) -> list[Batch]:
    return lab.gate_batches(lab.data)


def test_a_crop_that_is_off_by_one_is_seen(lab: Lab, batches: list[Batch]) -> None:
    source = lab.stream(lab.data).source
    view = torch.where(batches[0].view >= 2, batches[0].view - 2, batches[0].view)  # a pixel to the left
    gate = crops(lab.data, source, [replace(batches[0], view=view, images=source.images(batches[0].index, view))])
    assert gate.passed  # both sides agree on what that view is
    shifted = crops(lab.data, source, [replace(batches[0], images=source.images(batches[0].index, view))])
    assert not shifted.passed
    pale = replace(batches[0], images=batches[0].images + 1e-5)
    assert not crops(lab.data, source, [pale]).passed


def test_a_mirrored_image_is_seen_in_the_pixels(lab: Lab, batches: list[Batch]) -> None:
    class Mirrored:
        def pixels(self, index: torch.Tensor, view: torch.Tensor) -> torch.Tensor:
            return lab.stream(lab.data).source.pixels(index, view ^ 1)

    gate = crops(lab.data, Mirrored(), batches[:1])  # type: ignore[arg-type]
    assert not gate.passed
    assert gate.values["in uint8"] > 0


def test_a_wrongly_folded_norm_is_seen(lab: Lab, batches: list[Batch]) -> None:
    live, network = lab.live(), lab.plain_teacher()
    assert folded(live, network, batches).passed
    norm = next(module for module in network.modules() if isinstance(module, nn.BatchNorm2d))
    with torch.no_grad():
        norm.running_mean += 1e-2
    assert not folded(live, network, batches).passed


def test_bf16_may_stray_as_far_as_bf16_strays(lab: Lab, batches: list[Batch]) -> None:
    class Noisy:
        key, network = "noisy", nn.Identity()

        def __init__(self, level: float) -> None:
            self.level = level

        def __call__(self, batch: Batch) -> Output:
            logits = lab.live()(batch).logits
            return Output(logits + self.level * torch.randn(logits.shape, generator=torch.Generator().manual_seed(1)))

    network = lab.plain_teacher()
    assert in_bf16(Noisy(0.019), Noisy(0.01), network, batches[:1]).passed
    assert not in_bf16(Noisy(0.021), Noisy(0.01), network, batches[:1]).passed


def test_a_table_with_a_wrong_row_is_seen(lab: Lab, batches: list[Batch]) -> None:
    right, live = lab.table(lab.data), lab.live()
    assert table(right, live, batches).passed

    def one_image_on(batch: Batch) -> Output:
        index = batch.index.clone()
        index[0] = (index[0] + 1) % len(lab.data.train_labels)
        return right(replace(batch, index=index))

    assert not table(one_image_on, live, batches).passed  # type: ignore[arg-type]
    coarse = lambda batch: Output(right(batch).logits.half().float())  # noqa: E731
    assert not table(coarse, live, batches).passed  # type: ignore[arg-type]


class Shared:
    """Randomness that is nobody's own."""

    state: dict[str, torch.Tensor] = {}  # noqa: RUF012

    def __enter__(self) -> None: ...
    def __exit__(self, *exc: object) -> None: ...


@pytest.mark.parametrize("own", [True, False])
def test_a_cohort_that_shares_its_randomness_is_seen(lab: Lab, own: bool) -> None:
    data, teacher = lab.steps(1), lab.live()

    def with_dropout(number: int) -> Member:
        member = lab.member(data, teacher, temperature=1.0 + number)
        member.student.fc.register_forward_pre_hook(lambda _, given: (functional.dropout(given[0], 0.5),))
        if not own:
            member.randomness = Shared()  # type: ignore[assignment]
        return member

    gate = cohort(with_dropout, steps=1)
    assert gate.passed is own, gate.says


def test_a_member_that_fails_in_its_cohort_is_seen(lab: Lab) -> None:
    data, teacher = lab.steps(1), lab.live()

    def poisoned(number: int) -> Member:
        member = lab.member(data, teacher)
        if number == 1:  # not one of those that are compared
            with torch.no_grad():
                member.student.fc.weight.fill_(torch.nan)
        return member

    gate = cohort(poisoned, steps=1)
    assert not gate.passed
    assert gate.values["members failed"] == 1


def test_another_loss_or_learning_rate_is_seen_in_the_curve(lab: Lab) -> None:
    data = lab.steps(3)

    def gate(member: Member):
        return curve.curve("curve", member, lab.peer, data, limit=curve.EXACT, what="it")

    told = gate(lab.member(data, lab.live()))
    assert told.passed
    assert "it, 3 steps, largest difference from the peer's" in told.says
    assert "channels_last alone makes" in told.says
    assert not gate(lab.member(data, lab.live(), temperature=4.01)).passed
    hasty = lab.member(data, lab.live())
    hasty._base_rates = [1.01 * rate for rate in hasty._base_rates]
    assert not gate(hasty).passed


def test_an_evaluation_of_other_weights_is_seen(lab: Lab) -> None:
    network, stream, peer = lab.student(), lab.evaluation(lab.data), lab.peer(taught=False)
    assert evaluation(network, stream, peer, lab.validation_loader).passed
    with torch.no_grad():
        network.fc.bias[3] += 1e-2
    assert not evaluation(network, stream, peer, lab.validation_loader).passed


def test_on_a_cpu_nothing_is_to_be_said_about_tf32() -> None:
    with full_fp32(torch.device("cpu")):
        pass
