"""The stand-in for CUDA graphs shows what they would show, else the tests that use it prove nothing."""

import pytest
import torch
from tape_lane import LateLane, TapeLane


def capture(work):
    lane, log = TapeLane([]), []

    def replay() -> None:
        with lane:
            log[0]()

    with lane:
        log.append(lane.capture(work))
    return replay


def test_capturing_does_nothing_and_a_replay_works_at_the_same_addresses() -> None:
    total, step = torch.zeros(3), torch.ones(3)

    def work() -> None:
        total.add_(step * 2 + torch.rand(3))

    torch.manual_seed(1)
    expected = torch.rand(3) + torch.rand(3)
    torch.manual_seed(1)
    replay = capture(work)
    assert total.tolist() == [0, 0, 0]
    replay()
    step.fill_(5.0)
    replay()
    torch.testing.assert_close(total, 12 + expected)


def test_a_number_of_the_host_is_that_of_the_capture() -> None:
    total, rates = torch.zeros(()), [1.0]
    replay = capture(lambda: total.add_(rates[0]))
    rates[0] = 100.0
    replay()
    assert total.item() == 1.0


def test_a_tensor_that_is_replaced_is_read_at_its_old_place() -> None:
    held = {"memory": torch.ones(())}

    def work() -> None:
        held["memory"] = held["memory"] * 2

    replay = capture(work)
    for _ in range(3):
        replay()
    assert held["memory"].item() == 2.0


@pytest.mark.parametrize("wait", [torch.Tensor.item, bool, lambda t: t.nonzero()])
def test_waiting_is_an_error_and_leaves_no_trace(wait) -> None:
    total = torch.zeros(())

    def work() -> None:
        total.add_(1)
        wait(total)

    with pytest.raises(RuntimeError, match="not permitted when stream is capturing"):
        capture(work)
    assert total.item() == 0.0


def test_gradients_are_those_of_the_replay() -> None:
    weight, images = torch.ones(2, requires_grad=True), torch.ones(2)

    def work() -> None:
        weight.grad = None
        (weight * images).square().sum().backward()

    replay = capture(work)
    images.fill_(3.0)
    replay()
    assert weight.grad.tolist() == [18.0, 18.0]


def test_a_late_lane_waits_for_join_and_overwrites_what_later_captures_made() -> None:
    lane, count, made = LateLane([]), torch.zeros(()), {}

    def work(name: str) -> None:
        count.add_(1)
        made[name] = count * 10

    with lane:
        first = lane.capture(lambda: work("first"))
        later = lane.capture(lambda: work("later"))
    for replay, found in ((later, 10.0), (first, 20.0)):
        with lane:
            replay()
        assert count.item() == found / 10 - 1
        lane.join()
        assert count.item() == found / 10
    assert made["first"].item() == 20.0
    assert made["later"].isnan()
