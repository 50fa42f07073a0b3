"""What each row is called: its preset, and whatever else tells it from the other rows."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from distill.tables.grouping import Row
from distill.tables.replicates import replicate_of
from distill.tables.values import dataset_name, flatten, preset_changes, to_text

DIGEST = 4  # hexadecimal characters of a digest that are shown, more where these are not enough


@dataclass(frozen=True)
class Named:
    """A row with the words of its cells."""

    row: Row
    method: str
    teacher: str

    @property
    def called(self) -> tuple[str, str, str]:
        """The names by which the row can be asked for as baseline, the most exact first."""
        return self.method, self.row.loss, self.row.preset


def name_rows(rows: Sequence[Row]) -> list[Named]:
    """Name every row so that whatever differs between rows is said: no two rows read the same."""
    qualifiers = _qualifiers(rows)
    teachers = teacher_names(rows)
    named = [
        Named(row, method=_join(row.preset, words), teacher=teacher)
        for row, words, teacher in zip(rows, qualifiers, teachers, strict=True)
    ]
    return [_distinct(each, named) for each in named]


def _join(preset: str, words: Sequence[str]) -> str:
    return f"{preset} ({', '.join(words)})" if words else preset


def _distinct(named: Named, others: Sequence[Named]) -> Named:
    # A teacher taken by name and the same taken by run give equal words: what is left is the run id.
    if sum(_reads(named) == _reads(other) for other in others) == 1:
        return named
    return Named(named.row, f"{named.method} [run {named.row.first.run_id}]", named.teacher)


def _reads(named: Named) -> Hashable:
    return dataset(named.row), student(named.row), named.method, named.teacher


def dataset(row: Row) -> str:
    """The name of the row's data set, wherever it lies."""
    return dataset_name(row.first.names["dataset"])


def student(row: Row) -> str:
    """The name of the row's student."""
    return row.first.names["student"]


def recipe(row: Row) -> str:
    """The name of the row's recipe."""
    return row.first.names["recipe"]


def _qualifiers(rows: Sequence[Row]) -> list[list[str]]:
    """The words in brackets after each row's preset."""
    described = [
        [[f"replicate of {each.of}"] if (each := replicate_of(row)) else [] for row in rows],
        _loss_changes(rows),
        _differing(rows, section="student", scope=lambda row: (dataset(row), student(row))),
        [[recipe(row)] if _varies(rows, recipe) else [] for row in rows],
        _differing(rows, section="recipe", scope=lambda row: (dataset(row), recipe(row))),
        _differing(rows, section="data", scope=dataset),
        [[f"holdout {row.first.holdout}"] if _varies(rows, holdout) and holdout(row) else [] for row in rows],
        [[precision(row)] if _varies(rows, precision) else [] for row in rows],
        _differing(rows, section="numerics", scope=lambda row: None),
    ]
    return [[word for words in of_row for word in words] for of_row in zip(*described, strict=True)]


def unlike(rows: Sequence[Row]) -> list[list[str]]:
    """What tells rows of one method apart, beside seeds and teachers: the precision, and leaves of their identities."""
    described = [
        [[precision(row)] if _varies(rows, precision) else [] for row in rows],
        *(_differing(rows, section=each, scope=lambda row: None) for each in ("student", "recipe", "data", "numerics")),
    ]
    return [[word for words in of_row for word in words] for of_row in zip(*described, strict=True)]


def _loss_changes(rows: Sequence[Row]) -> list[list[str]]:
    """What sets a row apart from the others of its preset, then what else was changed in the preset."""
    differing = _differing(rows, section="objective", scope=lambda row: (dataset(row), row.preset))
    told = [{words.partition("=")[0] for words in of_row} for of_row in differing]
    return [
        [*words, *(change for change in preset_changes(row.loss) if _key(change) not in keys)]
        for row, words, keys in zip(rows, differing, told, strict=True)
    ]


def _key(change: str) -> str:
    parts = [part for part in change.partition("=")[0].split(".") if part != "_target_"]
    return parts[-1] if parts else "_target_"


def holdout(row: Row) -> int:
    """How many held-out images the row's accuracies were measured on, 0 for the test set."""
    return row.first.holdout


def precision(row: Row) -> str:
    """The resolved precision of the row's runs."""
    return row.first.precision


def _varies(rows: Iterable[Row], fact: Callable[[Row], Hashable]) -> bool:
    return len({fact(row) for row in rows}) > 1


def _differing(rows: Sequence[Row], *, section: str, scope: Callable[[Row], Hashable]) -> list[list[str]]:
    """For each row the leaves of one section of its identity that vary among the rows of its scope."""
    facts = [_facts(row, section) for row in rows]
    peers: dict[Hashable, list[dict[str, str]]] = defaultdict(list)
    for row, mine in zip(rows, facts, strict=True):
        peers[scope(row)].append(mine)
    varying = {each: _varying(others) for each, others in peers.items()}
    return [_words(mine, varying[scope(row)]) for row, mine in zip(rows, facts, strict=True)]


def _facts(row: Row, section: str) -> dict[str, str]:
    """One section of a row's identity as words by dotted path."""
    facts = flatten(row.first.identity.get(section), prefix=section)
    facts.pop("data.holdout", None)  # has words of its own, which also explain why there is no test digest
    if facts.get("data.test", "") is None:
        del facts["data.test"]
    return {path: to_text(value) for path, value in facts.items()}


def _varying(peers: Sequence[Mapping[str, str]]) -> dict[str, set[str]]:
    """The paths that vary among peers, each with all its values; to lack a path is a variation too."""
    values: dict[str, set[str]] = defaultdict(set)
    count: Counter[str] = Counter()
    for facts in peers:
        count.update(facts.keys())
        for path, value in facts.items():
            values[path].add(value)
    partial = {path for path in values if count[path] < len(peers)}
    partial.discard("data.test")  # runs on a hold-out never read it
    return {path: found for path, found in sorted(values.items()) if len(found) > 1 or path in partial}


def _words(facts: Mapping[str, str], varying: Mapping[str, set[str]]) -> list[str]:
    shown = [path for path in varying if path in facts]
    return [f"{_short(path, list(varying))}={_value(facts[path], varying[path])}" for path in shown]


def _short(path: str, paths: Sequence[str]) -> str:
    """The last word of a path unless another shown path ends in it; a target is named by what it is for."""
    parts = [part for part in path.split(".") if part not in ("target", "_target_")] or [path]
    last = parts[-1]
    same = [other for other in paths if other != path and other.split(".")[-1] == last]
    return ".".join(parts) if same else last


def _value(text: str, values: Iterable[str]) -> str:
    if re.fullmatch(r"[0-9a-f]{12,}", text):
        return shorten(text, values)
    if re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", text):
        return text.split(".")[-1]  # a dotted target
    return text


def shorten(digest: str, digests: Iterable[str]) -> str:
    """The first characters of a digest, as many as tell it from the others."""
    others = [other for other in digests if other != digest]
    size = DIGEST
    while size < len(digest) and any(other.startswith(digest[:size]) for other in others):
        size += 1
    return digest[:size]


def teacher_names(rows: Sequence[Row]) -> list[str]:
    """Each row's teacher: `resnet20`, with the head of its weights' digest and its source where rows differ in them."""
    teachers = [(dataset(row), row.teacher) for row in rows]
    sources = {teacher.source for _, teacher in teachers if teacher}
    names = []
    for where, teacher in teachers:
        if teacher is None:
            names.append("none")
            continue
        same = {str(t.weights) for there, t in teachers if t and (there, t.name) == (where, teacher.name)}
        digest = [shorten(str(teacher.weights), same)] if len(same) > 1 else []
        source = [str(teacher.source)] if len(sources) > 1 else []
        names.append(" ".join([teacher.name, *digest, *source]))
    return names
