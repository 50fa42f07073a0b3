"""Networks compiled by torch.compile: the students' forward and backward in training, and what teachers run.

Objectives stay as they are. Next to a network their few operations on logits cost nothing, and outside of what is
compiled no weight, temperature, learning rate or schedule can be a reason to compile again; what a method remembers
is written where it always was. Members with equal networks share what was compiled for the first of them. There are
two shapes, the full batch and the remainder. Evaluation is not compiled: an accuracy is measured as `distill evaluate`
measures it.
"""

import importlib.util
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from distill.training.member import Member

COMPILERS = ("g++", "clang++", "c++", "cl")
VARIANTS = 256  # compiled forms of networks that one process may hold: two shapes each, and architectures


@contextmanager
def compiled(members: Sequence[Member]) -> Iterator[None]:
    """Compile for the members of a cohort inside the block; compiling itself happens at their first steps."""
    for member in members:
        member.forward = torch.compile(member.student, dynamic=False)
        # a teacher that runs a network can compile it; a table has nothing to compile
        compile_teacher = getattr(member.teacher, "compile", None)
        if compile_teacher is not None:
            compile_teacher()
    with torch._dynamo.config.patch(recompile_limit=VARIANTS, accumulated_recompile_limit=VARIANTS):
        try:
            yield
        finally:
            for member in members:
                member.forward = member.student


def why_not_compiled(device: torch.device) -> str | None:
    """What torch.compile lacks on this machine to make code for `device`; None where nothing is missing."""
    if device.type == "cuda":
        return None if importlib.util.find_spec("triton") else "triton is not installed"
    names = [name for name in (os.environ.get("CXX"), *COMPILERS) if name]
    return None if any(map(shutil.which, names)) else f"there is no C++ compiler ({', '.join(names)})"
