"""Objectives: a method's weights and modules around the pure losses; named, already weighted terms."""

from distill.objectives.cross_entropy import CrossEntropy
from distill.objectives.logit_regression import LogitRegression
from distill.objectives.objective import Objective, Task
from distill.objectives.soft_targets import SoftTargets

__all__ = ["CrossEntropy", "LogitRegression", "Objective", "SoftTargets", "Task"]
