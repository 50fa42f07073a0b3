"""The trainer: `fit` and what it moves."""

from distill.training.evaluation import Evaluation, evaluate
from distill.training.finite import NonFinite
from distill.training.fit import fit
from distill.training.member import Member
from distill.training.precision import PRECISIONS, autocast, resolve_precision
from distill.training.randomness import derive_seed, seeded
from distill.training.recipe import Recipe
from distill.training.schedule import Cosine, Steps
from distill.training.watch import Silent, Watch

__all__ = [
    "PRECISIONS",
    "Cosine",
    "Evaluation",
    "Member",
    "NonFinite",
    "Recipe",
    "Silent",
    "Steps",
    "Watch",
    "autocast",
    "derive_seed",
    "evaluate",
    "fit",
    "resolve_precision",
    "seeded",
]
