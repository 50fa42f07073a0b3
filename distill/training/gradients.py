"""Gradient norms of each loss term, measured between two epochs."""

import copy
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from distill.data import UnreadableImage
from distill.losses import Objective
from distill.models import on_both_views
from distill.training.device import autocast
from distill.training.randomness import OwnRandomness
from distill.training.world import ProcessLost, World

if TYPE_CHECKING:
    from distill.training.member import Member

_log = logging.getLogger(__name__)


def gradient_norms(member: "Member") -> dict[str, float]:
    """The 2-norm of each weighted term's gradient over the student's parameters, by the term's name.

    Those of the next step: the first batch of the following epoch, in training mode, with the draws that this step
    will make; after the last epoch, of the one that would come. It is carried out on copies, so the run goes on as if
    nothing had been measured. What a method learned (a projection, CTKD's temperature) or remembers (CRD's banks) is
    copied as it stands; the norms are over the student alone, which for SimKD is the network that is trained in its
    place.

    It costs one batch: a forward of student and teacher, and a backward for each term; for that time, memory for
    student and objective once more. Waits for the device once.

    Returns:
        Empty where student or objective cannot be copied or run an extra time: that must not end a run.
    """
    try:
        return _measured(member)
    except Exception as error:  # of a user's network or objective: the run goes on without the norms
        if member.world.size > 1 and isinstance(error, ProcessLost | UnreadableImage | torch.OutOfMemoryError):
            raise  # the others would wait for this process
        if member.epoch <= member.norms_every:  # the first time
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            _log.info("%s: the gradients of its terms are not recorded (%s)", member.name, reason)
        return {}


def _measured(member: "Member") -> dict[str, float]:
    student, objective = _copies(member)
    draws = OwnRandomness(0, member.device)
    draws.state = member.randomness.state
    batch = next(member.stream.epoch(member.epoch + 1))
    with draws:
        count, world = member.batch_count(0), member.world
        with world.whole_batch(count, rows=len(batch.labels)):
            target = None if member.teacher is None else member.teacher(batch)
        with world.whole_batch(count, rows=len(batch.labels)), autocast(member.precision, member.device):
            output = on_both_views(student, batch.images, batch.strong, taps=member.taps)
        output = output.with_full_logits()
        terms = world.terms(objective, output, target, batch, member.progress.clone(), count)
        parameters = [each for each in student.parameters() if each.requires_grad]
        norms = torch.stack([_norm(term, parameters, world) for term in terms.values()])
    return dict(zip(terms, norms.tolist(), strict=True))


def _copies(member: "Member") -> tuple[nn.Module, Objective]:
    """Student and objective, copied together: the copies share what the originals share.

    What an objective merely points at in the teacher's network, which never changes, stays where it is.
    """
    own = {id(each) for module in (member.student, member.objective) for each in _parts(module)}
    network = None if member.teacher is None else member.teacher.network
    kept = {id(each): each for each in _parts(network) if id(each) not in own}
    student, objective = copy.deepcopy((member.student, member.objective), kept)
    return student.train(), objective.train()


def _parts(module: nn.Module | None) -> list[object]:
    return [] if module is None else [*module.modules(), *module.parameters(), *module.buffers()]


def _norm(term: Tensor, parameters: Sequence[nn.Parameter], world: World) -> Tensor:
    """0-d, float64; 0 where the term does not reach the student."""
    found: Sequence[Tensor | None] = ()
    if term.requires_grad:
        found = torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True)
    whole = [each if world.size == 1 else world.sum(each.contiguous()) for each in found if each is not None]
    sizes = [torch.linalg.vector_norm(each, dtype=torch.float64) for each in whole]
    return torch.linalg.vector_norm(torch.stack(sizes)) if sizes else term.new_zeros((), dtype=torch.float64)
