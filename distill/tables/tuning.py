"""What was tried before a row was trained: the rows of its method that were measured on held-out images."""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from distill.tables.grouping import Row
from distill.tables.naming import Named, dataset, holdout, name_rows, precision, recipe, student
from distill.tables.values import preset_name


@dataclass(frozen=True)
class Tuning:
    """The configurations tried for one method, the best first, judged on `images` held-out images."""

    method: str
    student: str
    images: int
    tried: tuple[Named, ...]


def apart(rows: Sequence[Row]) -> tuple[list[Row], list[Tuning]]:
    """The rows of a table, and what was tried for them.

    Rows measured on held-out images are a tuning where there are several of one method (loss preset, student, teacher,
    recipe and precision, whatever values were changed in them) that also has a row measured on the test set.
    """
    measured = {_method(row) for row in rows if not holdout(row)}
    trials: dict[Hashable, list[Row]] = defaultdict(list)
    for row in rows:
        if holdout(row) and _method(row) in measured:
            trials[_method(row), holdout(row)].append(row)
    tunings = [each for each in trials.values() if len(each) > 1]
    gone = {id(row) for each in tunings for row in each}
    return [row for row in rows if id(row) not in gone], [_tuning(each) for each in tunings]


def tuning_notes(tunings: Sequence[Tuning]) -> list[str]:
    """One line a method with all that was tried, and one where methods were given unlike budgets."""
    told = [
        f"{each.method} on {each.student}: tuned over {len(each.tried)} configurations on {each.images:,} held-out "
        "images: " + ", ".join(f"{named.method} {named.row.last.mean:.2f}" for named in each.tried)
        for each in tunings
    ]
    budgets: dict[tuple[str, int], dict[str, int]] = defaultdict(dict)
    for each in tunings:
        budgets[each.student, each.images][each.method] = len(each.tried)
    unlike = [
        f"unlike budgets on {name}: " + ", ".join(f"{method} {count}" for method, count in counts.items())
        for (name, _), counts in budgets.items()
        if len(set(counts.values())) > 1
    ]
    return [*told, *unlike]


def _tuning(rows: Sequence[Row]) -> Tuning:
    ranked = sorted(name_rows(rows), key=lambda named: -named.row.last.mean)
    first = rows[0]
    return Tuning(first.preset, student(first), holdout(first), tuple(ranked))


def _method(row: Row) -> Hashable:
    teacher = row.teacher.name if row.teacher else None
    return (
        dataset(row),
        student(row),
        preset_name(teacher or "none"),
        row.preset,
        preset_name(recipe(row)),
        precision(row),
    )
