"""Number formats: what `auto` means, and where each is used."""

from pathlib import Path

import pytest
import torch

from distill.training import autocast, resolve_precision

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("flags : fpu avx512_bf16 sse", "bf16"),
        ("flags : fpu amx_bf16", "bf16"),
        ("flags : fpu avx512f avx2 sse", "fp32"),
        ("flags : not_avx512_bf16x", "fp32"),
    ],
)
def test_auto_reads_the_flags_of_the_processor(flags: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda self, **_: flags)
    assert resolve_precision("auto", CPU) == expected


def test_auto_is_fp32_where_the_flags_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(self: Path, **_: object) -> str:
        raise FileNotFoundError(self)

    monkeypatch.setattr(Path, "read_text", unreadable)
    assert resolve_precision("auto", CPU) == "fp32"


@pytest.mark.parametrize(("capability", "expected"), [((8, 0), "bf16"), ((9, 0), "bf16"), ((7, 5), "fp32")])
def test_auto_on_cuda_reads_the_capability(
    capability: tuple[int, int], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert resolve_precision("auto", torch.device("cuda")) == expected


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_named_format_is_taken_as_it_is(precision: str) -> None:
    assert resolve_precision(precision, CPU) == precision


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(ValueError, match="precision must be one of fp32, bf16, auto, got 'fp16'"):
        resolve_precision("fp16", CPU)


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_networks_compute_in_the_format(precision: str, dtype: torch.dtype) -> None:
    layer = torch.nn.Linear(4, 2)
    with autocast(precision, CPU):
        assert layer(torch.ones(1, 4)).dtype == dtype
    assert layer.weight.dtype == torch.float32


def test_losses_see_the_logits_outside_of_autocast(lab) -> None:
    seen = []

    class Look(lab.Learner):
        needs_teacher = False

        def attach(self, student, teacher, task):
            return None

        def forward(self, student, teacher, batch, progress):
            seen.append((student.logits.dtype, torch.is_autocast_enabled("cpu")))
            return {"ce": torch.nn.functional.cross_entropy(student.logits.float(), batch.labels)}

    member = lab.member(Look(), precision="bf16", recipe=lab.recipe(1))
    (done,) = lab.run(member)
    assert set(seen) == {(torch.float32, False)}
    assert {p.dtype for p in member.student.parameters()} == {torch.float32}
    assert done.result["precision"] == "bf16"
