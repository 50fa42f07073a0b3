"""What tests marked `gpu` rely on holds without a GPU too."""

import warnings

import accelerator
import pytest
import torch
from accelerator import waiting_is_an_error


@pytest.fixture
def modes(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The modes that were set on a CUDA device that is only claimed; setting one warns, as the first time in torch."""
    found: list[object] = []

    def set_mode(mode: object) -> None:
        found.append(mode)
        if len(found) == 1:
            warnings.warn("Synchronization debug mode is a prototype feature and does not yet", stacklevel=1)

    monkeypatch.setattr(accelerator, "DEVICE", torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", set_mode)
    return found


def test_the_mode_is_set_without_a_warning_and_put_back(modes: list[object]) -> None:
    with waiting_is_an_error():
        assert modes == ["error"]
        with pytest.raises(UserWarning, match="another"):
            warnings.warn("another", stacklevel=1)
    assert modes == ["error", 1]


def test_the_mode_is_put_back_after_an_error(modes: list[object]) -> None:
    with pytest.raises(RuntimeError, match="synchronizing"), waiting_is_an_error():
        raise RuntimeError("called a synchronizing operation")
    assert modes == ["error", 1]


@pytest.mark.skipif(torch.cuda.is_available(), reason="a stand-in is for machines without a GPU")
@pytest.mark.parametrize("wait", [torch.Tensor.item, bool, torch.Tensor.nonzero])
def test_the_stand_in_sees_waiting(wait) -> None:
    with pytest.raises(RuntimeError, match="synchronizing"), waiting_is_an_error():
        wait(torch.ones(1))
    assert wait(torch.ones(1)) is not None


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_they_are_skipped_or_rehearsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(accelerator.REHEARSAL, raising=False)
    assert accelerator.missing() == "needs a CUDA device"
    monkeypatch.setenv(accelerator.REHEARSAL, "1")
    assert accelerator.missing() is None
