"""Agreement with the teacher: top-1 agreement, divergence, and class-mean logits compared.

The maps of class-mean logits are those of figure 3 of "Logit Standardization in Knowledge Distillation" (Sun et al.,
CVPR 2024, arXiv 2403.01427): for every true class the mean of the K logits over its test images, student minus
teacher, in magnitude, with the diagonal set to 0.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from distill.report.drawing import SMALL, Styles, drawing, heat, run_styles
from distill.report.page import Block, Figure, PageTable, number_columns, text_columns
from distill.report.runs import Images, Report
from distill.report.softmax import Flags, Labels, Logits, Reals, accuracy, divergence, standardized
from distill.tables.values import number

TEMPERATURES = (1.0, 4.0)
_KL = (
    "KL is that of the softened softmax, teacher to student, mean over the images, without the factor T squared. A "
    "student trained with the z-score has small logits by design: compare it with the teacher after the z-score."
)
_MAPS = (
    "For every true class (row) the mean of the logits over its images, student minus teacher, in magnitude; the "
    "diagonal is set to 0. Above each map are its mean over all entries and its maximum; colours are on a square-root "
    "scale. This is figure 3 of the Z-score paper, with the unbiased standard deviation."
)
_PANELS: tuple[tuple[str, str, Callable[[Mapping[str, Any]], float]], ...] = (
    ("top-1 agreement (%)", ".1f", lambda each: each["agreement"]),
    ("KL, T = 1 (nats)", ".3f", lambda each: each["kl"]["1"]),
    ("KL, T = 4 (nats)", ".3f", lambda each: each["kl"]["4"]),
    ("KL after z-score,\nT = 1 (nats)", ".3f", lambda each: each["kl_after_zscore"]["1"]),
)


def fidelity(teacher: Logits, students: Mapping[str, Logits], labels: Labels) -> dict[str, Any]:
    """Of each student: top-1 agreement with the teacher in percent, on all images, and on those the teacher gets right
    and wrong (None where there are none); KL(teacher || student) in nats at T 1 and 4, raw and after the z-score.
    """
    right = teacher.argmax(axis=1) == labels
    return {"students": {name: _fidelity(teacher, logits, labels, right) for name, logits in students.items()}}


def _fidelity(teacher: Logits, student: Logits, labels: Labels, right: Flags) -> dict[str, Any]:
    def share(flags: Flags) -> float | None:
        return 100.0 * float(flags.mean()) if len(flags) else None

    equal = student.argmax(axis=1) == teacher.argmax(axis=1)
    z_teacher, z_student = standardized(teacher), standardized(student)
    return {
        "accuracy": accuracy(student, labels),
        "agreement": share(equal),
        "agreement_where_teacher_is_right": share(equal[right]),
        "agreement_where_teacher_is_wrong": share(equal[~right]),
        "kl": {f"{t:g}": divergence(student, teacher, temperature=t) for t in TEMPERATURES},
        "kl_after_zscore": {f"{t:g}": divergence(z_student, z_teacher, temperature=t) for t in TEMPERATURES},
    }


def class_means(teacher: Logits, students: Mapping[str, Logits], labels: Labels) -> dict[str, Any]:
    """Of each student the maps `raw` and `standardised`: K x K distances (row: true class), their mean and maximum.

    The mean is over all K^2 entries, zeros of the diagonal included. A class without images has a row of zeros.
    """
    teachers = {"raw": teacher, "standardised": standardized(teacher)}
    maps = {name: {"raw": logits, "standardised": standardized(logits)} for name, logits in students.items()}
    return {
        "students": {
            name: {kind: _distances(values, teachers[kind], labels) for kind, values in each.items()}
            for name, each in maps.items()
        }
    }


def _distances(student: Logits, teacher: Logits, labels: Labels) -> dict[str, Any]:
    found = np.abs(_means(student, labels) - _means(teacher, labels))
    np.fill_diagonal(found, 0.0)
    return {"mean": float(found.mean()), "max": float(found.max()), "map": np.round(found, 4).tolist()}


def _means(logits: Logits, labels: Labels) -> Reals:
    """(K, K): row k is the mean of the logits of the images of class k."""
    classes = logits.shape[1]
    sums = np.zeros((classes, classes))
    np.add.at(sums, labels, logits.astype(np.float64))
    counts = np.bincount(labels, minlength=classes)[:, None]
    return sums / np.maximum(counts, 1)


def draw_fidelity(numbers: Mapping[str, Any], styles: Styles) -> str:
    """Bars for every student, a panel for every measure."""
    students = numbers["students"]
    size = {"margin": 1.25, "height": 0.42 * len(students), "width": 8.6}
    with drawing(len(_PANELS), len(_PANELS), **size, sharey=True) as drawn:
        for axes, (label, digits, measure) in zip(drawn.panels, _PANELS, strict=True):
            values = [measure(each) for each in students.values()]
            bars = axes.barh(range(len(values)), values, 0.62, color=[styles[name].colour for name in students])
            axes.bar_label(bars, labels=[f"{value:{digits}}" for value in values], padding=3, fontsize=SMALL)
            axes.set_yticks(range(len(values)), list(students))
            axes.set_xlim(0, 1.42 * max(*values, 1e-9))
            axes.grid(axis="y", visible=False)
            axes.locator_params(axis="x", nbins=3)
            axes.set_xlabel(label)
        drawn.panels[0].invert_yaxis()
        return drawn.svg()


def draw_class_means(numbers: Mapping[str, Any]) -> str:
    """A column for every student; raw above standardised, each row on one scale."""
    students = numbers["students"]
    width = max(4.6, min(9.0, 1.6 + 2.4 * len(students)))
    size = {"margin": 0.5, "height": (width - 1.6) / len(students) + 0.5, "width": width}
    with drawing(2 * len(students), len(students), **size, sharex=True, sharey=True) as drawn:
        rows = zip(drawn.rows, (("raw", "raw logits"), ("standardised", "after the z-score")), strict=True)
        for row, (kind, label) in rows:
            most = max(each[kind]["max"] for each in students.values()) or 1.0
            for axes, (name, each) in zip(row, students.items(), strict=True):
                image = heat(axes, each[kind]["map"], most=most)
                title = f"{name}\nmean {each[kind]['mean']:.3f}, max {each[kind]['max']:.2f}"
                axes.set_title(title, fontsize=SMALL)
            row[0].set_ylabel(f"{label}\ntrue class")
            drawn.figure.colorbar(image, ax=list(row), label="|student - teacher|", fraction=0.05)
        for axes in drawn.lowest:
            axes.set_xlabel("logit of class")
        return drawn.svg()


def blocks(report: Report, images: Images) -> list[Block]:
    """Agreement and KL, drawn and as a table, then the maps of class-mean logits."""
    assert report.teacher is not None
    students = dict(report.logits)
    teacher = students.pop(report.teacher.label)
    numbers, maps = fidelity(teacher, students, images.labels), class_means(teacher, students, images.labels)
    agreement = ", ".join(f"{name} {each['agreement']:.1f} %" for name, each in numbers["students"].items())
    means = ", ".join(
        f"{name} mean {each['raw']['mean']:.3f} raw, {each['standardised']['mean']:.3f} standardised"
        for name, each in maps["students"].items()
    )
    shares = {
        "accuracy": "accuracy (%)",
        "agreement": "agreement (%)",
        "agreement_where_teacher_is_right": "where the teacher is right (%)",
        "agreement_where_teacher_is_wrong": "where it is wrong (%)",
    }
    divergences = {
        (kind, t): f"{label}, T = {t}"
        for kind, label in (("kl", "KL"), ("kl_after_zscore", "KL after z-score"))
        for t in ("1", "4")
    }
    rows = [
        (name, *(number(each[key]) for key in shares), *(number(each[kind][t], 4) for kind, t in divergences))
        for name, each in numbers["students"].items()
    ]
    columns = [*text_columns("student"), *number_columns(*shares.values(), *divergences.values())]
    return [
        Figure(
            "fidelity",
            f"Share of images for which student and teacher predict one class, and divergence from the teacher. {_KL}",
            f"Bar charts. Agreement with the teacher: {agreement}.",
            numbers,
            draw_fidelity(numbers, run_styles(report)),
        ),
        PageTable("The same in numbers; KL in nats.", columns, rows),
        Figure(
            "class_means",
            f"Class-mean logits of student and teacher compared. {_MAPS}",
            f"Heat maps of classes by classes. {means}.",
            maps,
            draw_class_means(maps),
        ),
    ]
