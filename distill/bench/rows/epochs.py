"""Evaluation, whole epochs, and what more work costs."""

from contextlib import ExitStack

from distill.bench.lab import Lab
from distill.bench.pair import evaluation_images
from distill.bench.paused import PausedTraining
from distill.bench.rounds import Variant
from distill.bench.rows.group import Group, Ours
from distill.bench.rows.steps import LIVE, TABLE
from distill.data import ImageDataset
from distill.teachers import Teacher

WORK = (1, 2, 4)


def evaluation(lab: Lab, stack: ExitStack) -> Group:
    """The student on the evaluation images."""
    images, engine, member = len(lab.data.evaluation_labels), lab.engine(), lab.member(lab.data, None)
    peer = lab.peer(taught=False)
    return Group(
        "image",
        Variant("peer", images, lambda: peer.validate(lab.validation_loader)),
        [
            Ours(
                "evaluation",
                "evaluation",
                Variant("ours", images, lambda: engine.evaluate(member)),
                ("evaluation",),
            )
        ],
    )


def epoch(lab: Lab, stack: ExitStack) -> Group:
    """An epoch of KD over all images, with its evaluation."""
    peer, loader = lab.peer(), lab.train_loader(lab.data)

    def train_and_validate() -> None:
        peer.train(iter(loader), len(loader))
        peer.validate(lab.validation_loader)

    what = f"epoch of {len(lab.data.train_labels):,} images with evaluation"
    ours = [
        Ours("epoch.live", f"{what}, live teacher", _epochs("live", lab, lab.live(), lab.data, stack), LIVE),
        Ours("epoch.table", f"{what}, table", _epochs("table", lab, lab.table(lab.data), lab.data, stack), TABLE),
    ]
    ours = [Ours(each.key, each.label, each.variant, (*each.gates, "evaluation")) for each in ours]
    return Group("epoch", Variant("peer", 1, train_and_validate), ours)


def work(lab: Lab, stack: ExitStack) -> Group:
    """What n times the epochs or n times the images cost for each epoch and image: 1 where the cost is linear."""
    images, teacher = lab.sizes.steps * lab.batch_size, lab.live()
    held = evaluation_images(images)
    once = lab.first(images, held)
    ours = []
    for times in WORK[1:]:
        many = _epochs(f"epochs {times}", lab, teacher, once, stack, epochs=times)
        more = _epochs(f"images {times}", lab, teacher, lab.first(images * times, held * times), stack, units=times)
        ours.append(Ours(f"work.epochs{times}", f"cost of an epoch, 1 against {times} epochs", many, LIVE))
        ours.append(Ours(f"work.images{times}", f"cost of an image, 1x against {times}x images", more, LIVE))
    return Group(f"epoch of {images:,} images", _epochs("peer", lab, teacher, once, stack), ours)


def _epochs(
    name: str,
    lab: Lab,
    teacher: Teacher,
    data: ImageDataset,
    stack: ExitStack,
    *,
    epochs: int = 1,
    units: float | None = None,
) -> Variant:
    """Windows of `epochs` whole epochs of `fit`."""
    total = epochs * (lab.sizes.rounds + lab.sizes.warm_up) + 1
    member = lab.member(data, teacher, epochs=max(total, lab.plan.recipe.epochs))
    training = stack.enter_context(PausedTraining([member], engine=lab.engine()))

    def run() -> None:
        for _ in range(epochs):
            training.epoch()

    return Variant(name, units or epochs, run)
