"""Evaluation captured once for each batch size, and replayed."""

from collections.abc import Callable

import torch
from torch import Tensor

from distill.data import Batch
from distill.training.evaluation import Evaluation, Tally, evaluating
from distill.training.member import Member
from distill.training.recording import Lane, Recording, Work


class CapturedEvaluation:
    """A member's student on its evaluation stream, as `evaluate` has it; lanes as in `Captured`."""

    def __init__(self, member: Member, lane: Lane, *, declined: Callable[[str], None]) -> None:
        self._member, self._lane, self._declined = member, lane, declined
        self._tally = Tally(member.device)
        self._order = torch.arange(len(member.evaluation.dataset.evaluation_labels), device=member.device)
        self._rows: dict[int, Tensor] = {}
        self._recordings: dict[int, Recording] = {}

    def __call__(self) -> Evaluation:
        """The student as it is now. One host read, at the end."""
        self._tally.clear()
        with evaluating(self._member.student):
            for rows in torch.split(self._order, self._member.evaluation.batch_size):
                recording = self._recording(rows)
                self._rows[len(rows)].copy_(rows)
                recording()
                self._lane.join()
        return self._tally.read(len(self._order))

    def _recording(self, rows: Tensor) -> Recording:
        size = len(rows)
        if size not in self._recordings:
            self._rows[size] = rows.clone()
            name = f"the evaluation of {self._member.name}, {size} images,"
            self._recordings[size] = Recording(
                self._work(self._rows[size]), self._lane, name=name, declined=self._declined
            )
        return self._recordings[size]

    def _work(self, rows: Tensor) -> Work:
        member, source = self._member, self._member.evaluation.source

        def work() -> None:
            view = torch.zeros_like(rows)  # the only one there is
            batch = Batch(source.images(rows, view), source.labels.index_select(0, rows), rows, view)
            self._tally.add(member.student, batch, precision=member.precision)

        return work
