"""The peak of memory is that of what ran since it was last forgotten, and a run records it."""

import mmap
import sys

import pytest
import torch

from distill.training.device import forget_peak, peak_memory

CPU = torch.device("cpu")
MEBIBYTE = 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="the system does not tell")
def test_the_peak_is_seen_after_the_memory_is_gone_and_can_be_forgotten() -> None:
    forget_peak(CPU)
    before = peak_memory(CPU)
    assert before is not None
    assert before > MEBIBYTE
    with mmap.mmap(-1, 64 * MEBIBYTE) as held:  # given back to the system for sure, which an allocator need not do
        held.write(b"x" * (64 * MEBIBYTE))
    peak = peak_memory(CPU)
    assert peak is not None
    assert peak >= before + 48 * MEBIBYTE
    forget_peak(CPU)
    after = peak_memory(CPU)
    assert after is not None
    assert after < peak - 32 * MEBIBYTE


def test_where_nothing_can_be_read_nothing_is_claimed(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr("distill.training.device.STATUS", tmp_path / "status")
    monkeypatch.setattr("distill.training.device.CLEAR", tmp_path / "none" / "clear_refs")
    forget_peak(CPU)
    assert peak_memory(CPU) is None


def test_on_a_gpu_memory_that_torch_holds_counts_though_nothing_lies_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pool of a captured step is as large as the step needs, most of it free between two steps."""
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 1 * MEBIBYTE)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: 3 * MEBIBYTE)
    assert peak_memory(torch.device("cuda")) == 3 * MEBIBYTE
