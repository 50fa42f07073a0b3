"""The training loop `fit`, and the objects it uses."""

from distill.training.captured import Captured
from distill.training.device import PRECISIONS, autocast, determinism, probe, resolve_precision
from distill.training.engine import (
    WORTH_COMPILING,
    Eager,
    Engine,
    compiled,
    compiled_surroundings,
    compiled_trial,
    why_not_compiled,
)
from distill.training.evaluation import Evaluation, evaluate
from distill.training.fit import Watch, fit
from distill.training.graphs import WARM_UP, CudaLane, Lane, NotCaptured
from distill.training.member import Member
from distill.training.meters import NonFinite
from distill.training.optimizer import is_fused
from distill.training.randomness import derive_seed, seeded
from distill.training.recipe import Cosine, Recipe, Steps
from distill.training.whole_batch import NotAcross
from distill.training.world import ALONE, ProcessLost, World, this_world
