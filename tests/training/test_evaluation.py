"""Exact counts, whatever the batches."""

import pytest
import torch
from torch.nn import functional as F

from distill.data import EvaluationStream
from distill.training import Evaluation, evaluate


@pytest.mark.parametrize("batch_size", [1, 8, 21, 100])
def test_counts_equal_those_of_a_loop_over_images(lab, batch_size: int) -> None:
    network = lab.network(3).eval()
    stream = EvaluationStream(lab.dataset, batch_size=batch_size, device="cpu")
    found = evaluate(network, stream, precision="fp32")

    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (lab.dataset.mean, lab.dataset.std))
    correct, losses = 0, []
    for image, label in zip(lab.dataset.evaluation_images, lab.dataset.evaluation_labels, strict=True):
        pixels = (torch.from_numpy(image).permute(2, 0, 1) / 255 - mean) / std
        with torch.no_grad():
            logits = network(pixels[None]).logits
        correct += int(logits.argmax() == int(label))
        losses.append(float(F.cross_entropy(logits, torch.tensor([int(label)]))))
    assert (found.correct, found.count) == (correct, 21)
    assert 0 < correct < 21
    assert found.accuracy == 100 * correct / 21
    assert found.loss == pytest.approx(sum(losses) / 21, rel=1e-5)
    assert found.as_dict() == {
        "correct": correct,
        "count": 21,
        "accuracy": found.accuracy,
        "loss": found.loss,
    }


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_is_put_back_and_nothing_learns(lab, training: bool) -> None:
    network = lab.network(3, dropout=0.9).train(training)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    stream = EvaluationStream(lab.dataset, batch_size=8, device="cpu")
    first, second = (evaluate(network, stream, precision="fp32") for _ in range(2))
    assert first == second  # no dropout
    assert all(module.training is training for module in network.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize(
    ("precision", "count", "recorded", "agrees"),
    [
        ("fp32", 10_000, 70.1, True),
        ("fp32", 10_000, 70.11, False),
        ("fp32", 500, 70.4, True),  # two images
        ("bf16", 10_000, 70.3, True),
        ("bf16", 10_000, 70.31, False),
        ("bf16", 50_000, 70.3, True),
        ("bf16", 900, 71.0, True),  # 30 points over the root of 900
        ("bf16", 900, 71.01, False),
    ],
)
def test_how_far_a_record_may_be(precision: str, count: int, recorded: float, agrees: bool) -> None:
    assert Evaluation(0, count, 70.0, 1.0).agrees(recorded, precision=precision) == agrees


def test_bf16_runs_the_network_in_bf16(lab) -> None:
    seen = []
    network = lab.network(3)
    network.register_forward_hook(lambda module, inputs, output: seen.append(output.logits.dtype))
    stream = EvaluationStream(lab.dataset, batch_size=8, device="cpu")
    half, single = (evaluate(network, stream, precision=p) for p in ("bf16", "fp32"))
    assert seen == [torch.bfloat16] * 3 + [torch.float32] * 3
    assert half.loss == pytest.approx(single.loss, rel=0.02)
    assert half.loss != single.loss
