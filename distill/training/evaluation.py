"""Accuracy and cross-entropy of a network on an evaluation stream."""

from dataclasses import asdict, dataclass

import torch
from torch import nn
from torch.nn import functional as F

from distill.data import EvaluationStream
from distill.training.precision import autocast


@dataclass(frozen=True)
class Evaluation:
    """Exact counts on an evaluation set; `accuracy` is in percent, `loss` the mean cross-entropy in nats."""

    correct: int
    count: int
    accuracy: float
    loss: float

    def as_dict(self) -> dict[str, float]:
        """Plain numbers for metrics.jsonl and result.json."""
        return asdict(self)


@torch.no_grad()
def evaluate(network: nn.Module, stream: EvaluationStream, *, precision: str) -> Evaluation:
    """Run `network` in eval mode over `stream` and leave it in the mode it was in. One host read, at the end."""
    was_training = network.training
    network.eval()
    correct = torch.zeros((), dtype=torch.int64, device=stream.device)
    loss = torch.zeros((), dtype=torch.float64, device=stream.device)
    count = 0
    for batch in stream:
        with autocast(precision, stream.device):
            logits = network(batch.images).logits
        logits = logits.float()
        correct += (logits.argmax(dim=1) == batch.labels).sum()
        loss += F.cross_entropy(logits, batch.labels, reduction="sum").double()
        count += len(batch.labels)
    network.train(was_training)
    hits = int(correct)
    return Evaluation(hits, count, 100.0 * hits / count, float(loss) / count)
