"""The trainer: `fit` and what it moves."""

from distill.training.captured import Captured
from distill.training.compiled import compiled, why_not_compiled
from distill.training.determinism import determinism
from distill.training.engine import Eager, Engine
from distill.training.evaluation import Evaluation, evaluate
from distill.training.finite import NonFinite
from distill.training.fit import fit
from distill.training.graphs import CudaLane
from distill.training.member import Member
from distill.training.optimizer import is_fused
from distill.training.precision import PRECISIONS, autocast, probe, resolve_precision
from distill.training.randomness import derive_seed, seeded
from distill.training.recipe import Recipe
from distill.training.recording import WARM_UP, Lane, NotCaptured
from distill.training.schedule import Cosine, Steps
from distill.training.watch import Silent, Watch

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
