"""Our evaluation against the peer's validation."""

from torch import nn

from distill.bench.gates.gate import Gate, within
from distill.bench.peer import Loader, PeerLoop
from distill.data import EvaluationStream
from distill.training import evaluate


def evaluation(network: nn.Module, stream: EvaluationStream, peer: PeerLoop, loader: Loader) -> Gate:
    """As many correct answers, and a mean loss equal to 1e-5, by the same weights in fp32."""
    ours = evaluate(network, stream, precision="fp32")
    correct, loss = peer.validate(loader)
    return within(
        "evaluation",
        {"more or fewer correct": (abs(ours.correct - correct), 0), "in the loss": (abs(ours.loss / loss - 1), 1e-5)},
        what=f"evaluation of {ours.count} images against the peer's",
    )
