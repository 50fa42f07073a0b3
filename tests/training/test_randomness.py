"""Every purpose its own seed, every member its own generators."""

import pytest
import torch

from distill.training import derive_seed, seeded
from distill.training.randomness import OwnRandomness

CPU = torch.device("cpu")


def test_seeds_are_frozen_and_unrelated() -> None:
    assert derive_seed(1, "student") == 6618795954314009369
    seeds = {derive_seed(seed, purpose) for seed in range(50) for purpose in ("student", "objective", "training")}
    assert len(seeds) == 150
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_seeded_block_repeats_and_leaves_no_trace() -> None:
    torch.manual_seed(5)
    undisturbed = torch.rand(3)
    torch.manual_seed(5)
    with seeded(1, "student"):
        first = torch.rand(3)
    assert torch.equal(torch.rand(3), undisturbed)
    with seeded(1, "student"):
        assert torch.equal(torch.rand(3), first)
    with seeded(2, "student"):
        assert not torch.equal(torch.rand(3), first)


def test_a_seeded_block_that_raises_leaves_no_trace() -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    with pytest.raises(KeyError), seeded(1, "student"):
        raise KeyError(torch.rand(1).item())
    assert torch.equal(torch.random.get_rng_state(), before)


def test_members_do_not_move_each_other_nor_the_outside() -> None:
    torch.manual_seed(5)
    outside = torch.rand(4)
    one, other = OwnRandomness(1, CPU), OwnRandomness(2, CPU)
    with one:
        alone = torch.rand(4)
    one = OwnRandomness(1, CPU)

    torch.manual_seed(5)
    drawn = {"one": [], "outside": []}
    for _ in range(2):
        drawn["outside"].append(torch.rand(2))
        with one:
            drawn["one"].append(torch.rand(2))
        with other:
            torch.rand(7)
    assert torch.equal(torch.cat(drawn["one"]), alone)
    assert torch.equal(torch.cat(drawn["outside"]), outside)


def test_the_state_can_be_saved_and_put_back() -> None:
    randomness = OwnRandomness(1, CPU)
    with randomness:
        torch.rand(3)
    saved = {name: state.clone() for name, state in randomness.state.items()}
    with randomness:
        expected = torch.rand(5)
    resumed = OwnRandomness(1, CPU)
    resumed.state = saved
    with resumed:
        assert torch.equal(torch.rand(5), expected)


def test_dropout_of_a_member_follows_its_seed_alone(lab) -> None:
    def train(seed: int) -> bytes:
        torch.manual_seed(torch.seed() % 2**32)  # whatever state the process is in
        student = lab.network(1, dropout=0.5)
        return lab.run(lab.member(student=student, seed=seed, recipe=lab.recipe(1)))[0].weights

    assert train(1) == train(1)
    assert train(1) != train(2)


def test_training_leaves_the_generator_of_the_process_alone(lab) -> None:
    before = torch.random.get_rng_state()
    lab.run(lab.member(student=lab.network(1, dropout=0.5), recipe=lab.recipe(1)))
    assert torch.equal(torch.random.get_rng_state(), before)
