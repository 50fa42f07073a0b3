"""The run whose config and result lie beside a file of weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distill.cli.grammar import UsageError
from distill.cli.importing.parts import Parts
from distill.config.identity import canonical_node
from distill.runs.identity import canonical
from distill.runs.identity import run_id as digest_of
from distill.runs.layout import CONFIG, RESULT
from distill.runs.store import RunRecord, damage, read_run


def has_run(path: Path) -> bool:
    """Whether a run's config and result lie beside the file."""
    return all((path.parent / name).is_file() for name in (CONFIG, RESULT))


def read_beside(path: Path, parts: Parts) -> RunRecord:
    """What the files beside `path` say, if it is whole and is what the command names.

    Raises:
        UsageError: they are damaged, edited, or of another network or data set than the command names.
    """
    record = read_run(path.parent)
    assert record is not None  # its config is there
    if sentence := damage(record):
        raise UsageError([f"{sentence}; put the weights into a folder of their own to import them without it"])
    faults = [
        f"{path.parent / CONFIG} says another {group} than the command: leave {group}= out"
        for group, node in parts.nodes.items()
        if not _same(record.identity.get(group), record.config[group], node)
    ]
    if "weights" not in record.identity and _digest(record) != record.run_id:
        faults.append(f"{path.parent / CONFIG} has been changed: its identity is not that of run {record.run_id}")
    if faults:
        raise UsageError(faults)
    return record


def _same(identified: Any, node: Mapping[str, Any], named: Mapping[str, Any]) -> bool:
    """Whether the network is the same, or where nothing identifies the node (data sets), its target."""
    if isinstance(identified, Mapping):
        return canonical(canonical_node(named)) == canonical(identified)
    return bool(node.get("_target_") == named["_target_"])


def _digest(record: RunRecord) -> str | None:
    try:
        return digest_of(record.identity)
    except ValueError:
        return None
