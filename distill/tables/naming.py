"""Names of rows: the preset, and every value in which the row differs from others. Linear in the number of rows."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from distill.tables.rows import Row
from distill.tables.values import flatten, preset_changes, to_text

DIGEST = 4  # hexadecimal characters of a digest that are shown, more where these are ambiguous

Words = list[list[str]]  # some words for each row


def name_rows(rows: Sequence[Row]) -> list[Row]:
    """Name every row so that whatever differs between rows is stated: no two rows have the same name."""
    described: list[Words] = [
        [[f"replicate of {each.of}"] if (each := row.replicate) else [] for row in rows],
        _loss_changes(rows),
        _differing(rows, section="student", scope=lambda row: (row.dataset, row.student)),
        _if_varied(rows, lambda row: row.recipe),
        _differing(rows, section="recipe", scope=lambda row: (row.dataset, row.recipe)),
        _differing(rows, section="data", scope=lambda row: row.dataset),
        _if_varied(rows, lambda row: f"holdout {row.holdout}" if row.holdout else ""),
        _if_varied(rows, lambda row: row.precision),
        _differing(rows, section="numerics", scope=lambda row: None),
    ]
    named = [
        replace(row, method=f"{row.preset} ({', '.join(words)})" if words else row.preset, teacher_name=teacher)
        for row, words, teacher in zip(rows, _joined(described), teacher_names(rows), strict=True)
    ]

    def full_name(row: Row) -> Hashable:
        return row.dataset, row.student, row.method, row.teacher_name

    count = Counter(map(full_name, named))
    # a teacher chosen by name and the same teacher chosen by run give equal words: the run id remains
    return [
        row if count[full_name(row)] == 1 else replace(row, method=f"{row.method} [run {row.first.run_id}]")
        for row in named
    ]


def qualifiers(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """What differs between rows of one method, besides seeds and teachers: precision and leaves of their identities."""
    sections = ("student", "recipe", "data", "numerics")
    differing = [_differing(rows, section=section, scope=lambda row: None) for section in sections]
    return [tuple(words) for words in _joined([_if_varied(rows, lambda row: row.precision), *differing])]


def teacher_names(rows: Sequence[Row]) -> list[str]:
    """Each row's teacher: `resnet20`, with the start of its weights' digest and its source where these differ, and the
    precision of one that has another than its students.
    """
    weights: dict[Hashable, set[str]] = defaultdict(set)
    for row in rows:
        if row.teacher:
            weights[row.dataset, row.teacher.name].add(str(row.teacher.weights))
    digests = {key: short_digests(same) for key, same in weights.items() if len(same) > 1}
    show_source = len({row.teacher.source for row in rows if row.teacher}) > 1
    names = []
    for row in rows:
        words = [row.teacher.name] if row.teacher else ["none"]
        if row.teacher and (short := digests.get((row.dataset, row.teacher.name))):
            words.append(short[str(row.teacher.weights)])
        if row.teacher and show_source:
            words.append(str(row.teacher.source))
        if precision := (row.first.identity.get("teacher") or {}).get("precision"):
            words.append(str(precision))
        names.append(" ".join(words))
    return names


def short_digests(digests: Iterable[str]) -> dict[str, str]:
    """The first characters of each digest, as many as distinguish it from the others."""
    ordered = sorted(set(digests))
    short = {}
    for place, digest in enumerate(ordered):
        # the longest prefix that a text shares with any other is one that it shares with a neighbour in this order
        neighbours = [*ordered[max(place - 1, 0) : place], *ordered[place + 1 : place + 2]]
        shared = max((_shared(digest, other) for other in neighbours), default=0)
        short[digest] = digest[: max(DIGEST, shared + 1)]
    return short


def _shared(first: str, second: str) -> int:
    """The length of the common prefix."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(first), len(second)))


def _joined(described: Sequence[Words]) -> Words:
    return [[word for words in of_row for word in words] for of_row in zip(*described, strict=True)]


def _if_varied(rows: Sequence[Row], fact: Callable[[Row], str]) -> Words:
    """The fact of each row, where it is not the same for all; an empty one is left out."""
    facts = [fact(row) for row in rows]
    return [[each] if each else [] for each in facts] if len(set(facts)) > 1 else [[] for _ in rows]


def _loss_changes(rows: Sequence[Row]) -> Words:
    """What differs from other rows of the same preset, then what else was changed in the preset."""
    differing = _differing(rows, section="objective", scope=lambda row: (row.dataset, row.preset))
    found = []
    for row, words in zip(rows, differing, strict=True):
        stated = {each.partition("=")[0] for each in words}
        found.append([*words, *(change for change in preset_changes(row.loss) if _key(change) not in stated)])
    return found


def _key(change: str) -> str:
    parts = [part for part in change.partition("=")[0].split(".") if part != "_target_"]
    return parts[-1] if parts else "_target_"


def _differing(rows: Sequence[Row], *, section: str, scope: Callable[[Row], Hashable]) -> Words:
    """For each row the leaves of one section of its identity that vary among the rows of its scope."""
    peers: dict[Hashable, list[dict[str, str]]] = defaultdict(list)
    facts = []
    for row in rows:
        facts.append((scope(row), _facts(row, section)))
        peers[facts[-1][0]].append(facts[-1][1])
    texts = {each: _texts(others) for each, others in peers.items()}
    return [
        [text[mine[path]] for path, text in texts[of].items() if path in mine] if texts[of] else []
        for of, mine in facts
    ]


def _facts(row: Row, section: str) -> dict[str, str]:
    """One section of a row's identity as text by dotted path."""
    facts: dict[str, Any] = flatten(row.first.identity.get(section), prefix=section)
    facts.pop("data.holdout", None)  # has words of its own, which also explain why there is no test digest
    if facts.get("data.test", "") is None:
        del facts["data.test"]
    return {path: to_text(value) for path, value in facts.items()}


def _texts(peers: Sequence[Mapping[str, str]]) -> dict[str, dict[str, str]]:
    """The paths that vary among peers, each with the text `key=value` for every value.

    A path that some peers lack varies too, except the test set's digest: runs on held-out images never read it.
    """
    values: dict[str, set[str]] = defaultdict(set)
    count: Counter[str] = Counter()
    for facts in peers:
        count.update(facts.keys())
        for path, value in facts.items():
            values[path].add(value)
    varying = [
        path
        for path, found in sorted(values.items())
        if len(found) > 1 or (count[path] < len(peers) and path != "data.test")
    ]
    ends = Counter(path.split(".")[-1] for path in varying)
    texts = {}
    for path in varying:
        # a target is named by the key that holds it
        parts = [part for part in path.split(".") if part not in ("target", "_target_")] or [path]
        taken = ends[parts[-1]] - (path.split(".")[-1] == parts[-1])
        key = ".".join(parts) if taken else parts[-1]
        texts[path] = {value: f"{key}={short}" for value, short in _short_values(values[path]).items()}
    return texts


def _short_values(values: Iterable[str]) -> dict[str, str]:
    """Digests by their first characters, dotted targets by their last name, other values as they are."""
    digests = short_digests(values)

    def short(text: str) -> str:
        if re.fullmatch(r"[0-9a-f]{12,}", text):
            return digests[text]
        return text.split(".")[-1] if re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", text) else text

    return {value: short(value) for value in digests}
