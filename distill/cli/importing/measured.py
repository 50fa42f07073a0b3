"""Accuracies of imported weights: measured where the data are at hand, else what the file claims."""

import torch
from torch import nn

from distill.cli.grammar import UsageError
from distill.data import EvaluationStream, ImageDataset
from distill.execution.teacher import EVALUATION_BATCH
from distill.training import Evaluation, evaluate


def measure(network: nn.Module, dataset: ImageDataset, *, device: torch.device, precision: str) -> Evaluation:
    """Accuracy and loss on the data set's evaluation images; the network ends up on `device`.

    Raises:
        UsageError: the device has too little memory.
    """
    stream = EvaluationStream(dataset, batch_size=EVALUATION_BATCH, device=device)
    try:
        return evaluate(network.to(device), stream, precision=precision)
    except torch.OutOfMemoryError as error:
        raise UsageError([f"{device} has too little free memory to measure it: set engine.device=cpu"]) from error


def counted(found: Evaluation) -> str:
    """`72.41 % (7241 of 10000)`."""
    return f"{found.accuracy:.2f} % ({found.correct} of {found.count})"
