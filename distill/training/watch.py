"""Who looks on while a cohort trains."""

from typing import Protocol

from distill.training.evaluation import Evaluation
from distill.training.member import Member


class Watch(Protocol):
    """Told of every step and epoch; must not change anything, and must not wait for the device every step."""

    def step(self, member: Member) -> None: ...
    def epoch(self, member: Member, measured: Evaluation) -> None: ...
    def stopped(self, member: Member, error: Exception) -> None: ...


class Silent:
    """Looks away: for tests and inner runs."""

    def step(self, member: Member) -> None: ...
    def epoch(self, member: Member, measured: Evaluation) -> None: ...
    def stopped(self, member: Member, error: Exception) -> None: ...
