"""Rounds: who is measured when, what is counted, and the statistics of it."""

import pytest

from distill.bench.figure import Figure
from distill.bench.rounds import Ratio, Variant, measure


def test_a_ratio_is_the_median_of_the_rounds_own_ratios() -> None:
    # the machine is three times slower in the last round: both are, and the ratio does not move
    ratio = Ratio.of([2.0, 4.0, 9.0], [1.0, 1.6, 3.0])
    assert ratio.rounds == pytest.approx((2.0, 2.5, 3.0))
    assert ratio.median == pytest.approx(2.5)
    assert ratio.spread == pytest.approx(1.5)
    assert ratio.noisy
    assert not Ratio((2.0, 2.0, 2.6)).noisy
    assert Ratio((2.0, 2.7)).noisy


def test_rounds_of_unequal_number_are_no_pairs() -> None:
    with pytest.raises(ValueError, match="shorter"):
        Ratio.of([1.0, 2.0], [1.0])


class Recorded:
    """Variants that write down who ran, and a clock by which each takes as long as its name says."""

    def __init__(self, **seconds: float) -> None:
        self.calls: list[str] = []
        self._seconds, self._now = seconds, 0.0
        self.variants = [
            Variant(name, units=2, run=self._told(name), prepare=self._told(f"prepare {name}")) for name in seconds
        ]

    def _told(self, text: str):
        return lambda: self.calls.append(text)

    def clock(self, run) -> float:
        run()
        return self._seconds[self.calls[-1]]


def test_every_variant_is_measured_in_every_round_and_the_order_alternates() -> None:
    lab = Recorded(a=4.0, b=6.0, c=8.0)
    costs = measure(lab.variants, rounds=4, warm_up=2, clock=lab.clock)
    assert costs == {"a": [2.0] * 4, "b": [3.0] * 4, "c": [4.0] * 4}
    assert all(f"prepare {name}" == before for before, name in zip(lab.calls[::2], lab.calls[1::2], strict=True))
    ran = lab.calls[1::2]
    orders = ["".join(ran[first : first + 3]) for first in range(0, len(ran), 3)]
    assert len(orders) == 6
    assert all(sorted(order) == ["a", "b", "c"] for order in orders)
    assert {order[0] for order in orders} == {"a", "b", "c"}
    for one, other in ("ab", "bc", "ac"):
        before = sum(order.index(one) < order.index(other) for order in orders)
        assert 0 < before < 6, (one, other, orders)


def test_two_variants_take_turns_in_being_first() -> None:
    lab = Recorded(ours=1.0, peer=2.0)
    measure(lab.variants, rounds=4, warm_up=0, clock=lab.clock)
    first = lab.calls[1::2][::2]
    assert sorted(first) == ["ours", "ours", "peer", "peer"]


def test_a_figure_without_a_peer_has_a_cost_and_no_ratio() -> None:
    alone = Figure("run", "a run", "run", (), (5.0, 3.0, 4.0))
    assert (alone.ratio, alone.cost, alone.peer_cost) == (None, 4.0, None)
    compared = Figure("step", "a step", "step", (), (1.0, 2.0), (3.0, 8.0))
    assert compared.ratio is not None
    assert compared.ratio.rounds == (3.0, 4.0)
    assert compared.peer_cost == 5.5
