"""What `engine.deterministic` sets, and that it is put back."""

import os

import pytest
import torch

from distill.training import determinism

CPU = torch.device("cpu")


def flags():
    cudnn = torch.backends.cudnn
    return (
        torch.are_deterministic_algorithms_enabled(),
        cudnn.deterministic,
        cudnn.benchmark,
        os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
    )


@pytest.mark.parametrize(
    ("wanted", "device", "inside"),
    [
        (True, "cpu", (True, True, False, ":4096:8")),
        (True, "cuda", (True, True, False, ":4096:8")),
        (False, "cpu", (False, False, False, None)),
        (False, "cuda", (False, False, True, None)),
    ],
)
def test_set_inside_and_restored_afterwards(wanted, device, inside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    before = flags()
    with determinism(wanted, torch.device(device)):
        assert flags() == inside
    assert flags() == before


def test_restored_after_an_error() -> None:
    before = flags()
    with pytest.raises(KeyError), determinism(True, CPU):
        raise KeyError
    assert flags() == before


def test_it_nests_and_keeps_what_the_user_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    with determinism(True, CPU):
        with determinism(True, CPU):
            pass
        assert flags() == (True, True, False, ":16:8")
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


def test_an_operation_that_cannot_repeat_itself_is_an_error() -> None:
    with determinism(True, CPU), pytest.raises(RuntimeError, match="does not have a deterministic implementation"):
        torch.zeros(3).put_(torch.tensor([0, 0]), torch.ones(2), accumulate=False)


def test_training_is_the_same_with_it(lab, teacher) -> None:
    plain, strict = (lab.member(lab.soft_targets(), teacher=teacher) for _ in range(2))
    lab.run(plain)
    with determinism(True, CPU):
        lab.run(strict)
    assert strict.recorder.weights == plain.recorder.weights
