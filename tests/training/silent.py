"""Callbacks of `fit` that do nothing."""

from distill.training import Evaluation, Member


class Silent:
    """Watches without a word."""

    def step(self, member: Member) -> None: ...
    def epoch(self, member: Member, measured: Evaluation) -> None: ...
    def stopped(self, member: Member, error: Exception) -> None: ...
