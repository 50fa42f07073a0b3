"""The trainer: `fit` and what it moves."""

from distill.training.captured import Captured
from distill.training.device import PRECISIONS, autocast, determinism, probe, resolve_precision
from distill.training.engine import Eager, Engine, compiled, why_not_compiled
from distill.training.evaluation import Evaluation, evaluate
from distill.training.fit import Silent, Watch, fit
from distill.training.graphs import WARM_UP, CudaLane, Lane, NotCaptured
from distill.training.member import Member
from distill.training.meters import NonFinite
from distill.training.optimizer import is_fused
from distill.training.randomness import derive_seed, seeded
from distill.training.recipe import Cosine, Recipe, Steps

__all__ = [
    "PRECISIONS",
    "WARM_UP",
    "Captured",
    "Cosine",
    "CudaLane",
    "Eager",
    "Engine",
    "Evaluation",
    "Lane",
    "Member",
    "NonFinite",
    "NotCaptured",
    "Recipe",
    "Silent",
    "Steps",
    "Watch",
    "autocast",
    "compiled",
    "derive_seed",
    "determinism",
    "evaluate",
    "fit",
    "is_fused",
    "probe",
    "resolve_precision",
    "seeded",
    "why_not_compiled",
]
