"""How far the students say what the teacher says."""

from distill.report.blocks import Chapter, Figure, Table, Text, columns, number
from distill.report.chapters.missing import no_answers
from distill.report.figures.fidelity import draw_fidelity
from distill.report.figures.matrices import draw_class_means
from distill.report.numbers.class_means import class_means
from distill.report.numbers.fidelity import fidelity
from distill.report.subjects import Compared

TITLE = "Agreement with the teacher"
_KL = (
    "KL is that of the softened softmax, teacher to student, mean over the images, without the factor T squared. A "
    "student trained after the z-score has small logits by design: what it learned of the teacher shows after the "
    "z-score."
)
_MAPS = (
    "For every true class (row) the mean of the logits over its images, student minus teacher, in magnitude; the "
    "diagonal is set to 0. Above each map its mean, over all entries, and its maximum; colours are on a square-root "
    "scale. This is figure 3 of the Z-score paper, with the unbiased deviation."
)


def chapter(compared: Compared) -> Chapter:
    """Agreement, KL, and maps of class-mean logits."""
    if reason := no_answers(compared, with_teacher=True):
        return Chapter("fidelity", TITLE, (Text(reason, missing=True),))
    assert compared.images is not None
    assert compared.teacher is not None
    logits = dict(compared.logits)
    teacher, labels = logits.pop(compared.teacher.label), compared.images.labels
    numbers, maps = fidelity(teacher, logits, labels), class_means(teacher, logits, labels)
    agreement = ", ".join(f"{name} {each['agreement']:.1f} %" for name, each in numbers["students"].items())
    means = ", ".join(
        f"{name} mean {each['raw']['mean']:.3f} raw, {each['standardised']['mean']:.3f} standardised"
        for name, each in maps["students"].items()
    )
    headers, numeric = columns(
        {
            "student": False,
            "accuracy (%)": True,
            "agreement (%)": True,
            "where the teacher is right (%)": True,
            "where it is wrong (%)": True,
            "KL, T = 1": True,
            "KL, T = 4": True,
            "KL after z-score, T = 1": True,
            "KL after z-score, T = 4": True,
        }
    )
    rows = tuple(
        (
            name,
            number(each["accuracy"]),
            number(each["agreement"]),
            number(each["agreement_where_teacher_is_right"]),
            number(each["agreement_where_teacher_is_wrong"]),
            *(number(each[kind][t], 4) for kind in ("kl", "kl_after_zscore") for t in ("1", "4")),
        )
        for name, each in numbers["students"].items()
    )
    return Chapter(
        "fidelity",
        TITLE,
        (
            Figure(
                "fidelity",
                "Share of images on which student and teacher name the same class, and divergence from the teacher. "
                f"{_KL}",
                f"Bar charts. Agreement with the teacher: {agreement}.",
                numbers,
                draw_fidelity(numbers, compared.looks),
            ),
            Table("The same in numbers; KL in nats.", headers, rows, numeric),
            Figure(
                "class_means",
                f"Class-mean logits of student and teacher compared. {_MAPS}",
                f"Heat maps of classes by classes. {means}.",
                maps,
                draw_class_means(maps),
            ),
        ),
    )
