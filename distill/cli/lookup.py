"""Finds what a command line names: finished runs, runs by filter, published tables, places of data."""

import re
import sys
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from distill.cli.arguments import FILTERS, PLACES, Argument, CommandLine
from distill.config.faults import Refused, nearest
from distill.runs.files import StorageError
from distill.runs.store import RunRecord, finished_run, scan
from distill.tables import rendering
from distill.tables.data import UnknownColumn, arranged
from distill.tables.filters import Selection, read_filters, unknown
from distill.tables.published import DamagedTable, PublishedTable, UnknownTable, load, table_names
from distill.tables.rendering import Content
from distill.tables.values import preset_name, split_list

if TYPE_CHECKING:
    from distill.tables.cells import MeasuredTable

DEFAULT_SEEDS = 4  # as for the means in the literature
MOST_SEEDS = 100  # more is a typing mistake
TABLE = Argument(
    "table", "NAME", "a table of configs/table: cifar100_same, imagenet, ablation, ...\n(a wrong name lists them all)"
)
ROWS = Argument("rows", "KEY,KEY", "only these rows, for example rows=kd,zscore_kd")
COLUMNS = Argument("columns", "KEY,KEY", "only these columns of the published table, for example columns=vgg13_vgg8")
SEEDS = Argument(
    "seeds",
    "N",
    f"seeds per cell: a number (default {DEFAULT_SEEDS}: 1 to {DEFAULT_SEEDS}) or a list, seeds=1,2,5;\n"
    "a comma at the end means one seed: seeds=7,",
)
STATUS = Argument("status", "failed,...", "finished, failed, running, unfinished or damaged")
SORT = Argument(
    "--sort",
    "KEY",
    "by a column of the CSV, for example loss.temperature;\na leading minus sorts descending: -last.mean",
)
CHOSEN = Argument("--columns", "KEY,KEY", "show only these columns, by their names in the CSV (in every format)")
OF_TABLE = (TABLE, ROWS, COLUMNS, SEEDS)


@dataclass(frozen=True)
class TableRequest:
    """A published table, the rows and columns of it that the command names, and the seeds wanted in every cell."""

    table: PublishedTable
    shown: PublishedTable
    seeds: tuple[int, ...]


def find_finished(line: CommandLine) -> RunRecord:
    """The finished run that `run=` names.

    Raises:
        Refused: no run or several match, or the run is not finished.
        StorageError: its files are damaged.
    """
    try:
        return finished_run(line.runs_dir, line.pairs["run"])
    except ValueError as error:
        raise Refused([str(error)]) from error


def data_places(line: CommandLine, record: RunRecord | None = None) -> dict[str, Any]:
    """The places of the data that the command gives: `npz`, `root`, `shards` and `download`.

    Raises Refused if the data set of `record` has no such place.
    """
    names = {argument.name: argument.name.partition(".")[2] for argument in PLACES}
    places: dict[str, Any] = {key: line.pairs[name] for name, key in names.items() if name in line.pairs}
    if "download" in places:
        places["download"] = places["download"] == "true"
    for key in places:
        if record is not None and key not in record.config["dataset"]:
            name = preset_name(str(record.names.get("dataset", "its data set")))
            raise Refused([f"dataset.{key} is not a key of {name}: leave it out"])
    return places


def select(line: CommandLine) -> Selection:
    """The runs in `runs_dir` that pass the command's filters: its keys among `FILTERS` and those with a dot.

    Raises `Refused` with every fault found so far, and one for each filter whose key no run has.
    """
    names = {argument.name for argument in FILTERS if isinstance(argument, Argument)} | {STATUS.name}
    try:
        records = scan(line.runs_dir) if line.runs_dir.is_dir() else []
    except StorageError as error:
        raise Refused([*line.faults, str(error)]) from error
    filters = read_filters({key: value for key, value in line.pairs.items() if key in names or "." in key})
    for each, keys in unknown(filters, records):
        line.fault(f"no run has the key {each.key!r} of '{each}'{nearest(each.key, keys)}", of=each.key)
    line.check()
    return Selection(line.runs_dir, tuple(records), tuple(filters))


def read_table(line: CommandLine) -> TableRequest | None:
    """The published table of the command; None without `table=` or where it is wrong. Faults are added to the line."""
    if TABLE.name not in line.pairs:
        for key in (ROWS.name, COLUMNS.name, SEEDS.name):
            if key in line.pairs:
                line.fault(f"{key}= chooses from a published table: add table=NAME", of=key)
        return None
    before = len(line.faults)
    name = line.pairs[TABLE.name]
    seeds = _seeds(line)
    try:
        table = load(name, config_dir=line.config_dir)
    except UnknownTable:
        names = table_names(config_dir=line.config_dir)
        line.fault(f"table={name} does not exist{nearest(name, names)}", of=TABLE.name)
        return None
    except DamagedTable as error:
        line.fault(str(error), of=TABLE.name)
        return None
    rows = _chosen(line, ROWS.name, {row.key: row.label for row in table.rows})
    columns = _chosen(line, COLUMNS.name, {column.key: column.label for column in table.columns})
    return TableRequest(table, table.only(rows=rows, columns=columns), seeds) if len(line.faults) == before else None


def measure(
    request: TableRequest, records: Sequence[RunRecord], line: CommandLine, *, chosen: Container[str] | None = None
) -> "MeasuredTable":
    """The request's table with the runs in its cells; `records` and `chosen` as for `measure_table`. Raises Refused."""
    from distill.tables.cells import measure_table  # most verbs need none of it

    try:
        return measure_table(
            request.table,
            records,
            chosen=chosen,
            shown=request.shown,
            seeds=request.seeds,
            runs_dir=line.pairs.get("runs_dir"),
            config_dir=line.config_dir,
        )
    except ValueError as error:
        raise Refused([f"table={request.table.name}: {error}"]) from error


def whole_numbers(text: str) -> tuple[int, ...] | None:
    """`0`, or `0,1,2`, each number once; None where the text is anything else."""
    words = [word for word in split_list(text) if word]
    if not words or not all(re.fullmatch(r"[0-9]{1,9}", word) for word in words):
        return None
    return tuple(dict.fromkeys(map(int, words)))


def show(content: Content, line: CommandLine) -> None:
    """Print a result, or write it to `--out`, in the format of the command. Raises `Refused` if it cannot."""
    sort, columns = line.options.get(SORT.name), split_list(line.options.get(CHOSEN.name, ""))
    try:
        content = (
            arranged(content, sort=sort, columns=[name for name in columns if name])
            if sort or any(columns)
            else content
        )
    except UnknownColumn as error:
        raise Refused([f"{error}{nearest(error.name, error.known)}"]) from error
    try:
        rendering.deliver(content, form=line.options.get("--format"), out=line.out, stream=sys.stdout, aside=sys.stderr)
    except StorageError as error:
        cause = error.__cause__
        reason = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(error)
        sentence = f"could not write {line.out}: {reason.lower()}; choose another --out FILE"
        raise Refused([sentence]) from error


def _chosen(line: CommandLine, key: str, labels: Mapping[str, str]) -> list[str]:
    """The keys of the rows or columns that the command names by key or label; empty for all."""
    found = []
    known = {name.casefold(): one for one, label in labels.items() for name in (label, one)}
    for name in filter(None, split_list(line.pairs.get(key, ""))):
        if name.casefold() in known:
            found.append(known[name.casefold()])
        else:
            line.fault(f"{key}={name} is not in table={line.pairs[TABLE.name]}{nearest(name, labels)}", of=key)
    return found


def _seeds(line: CommandLine) -> tuple[int, ...]:
    """`seeds=4` are 1 to 4, `seeds=1,2,5` are these, and `seeds=7,` is 7 alone."""
    text = line.pairs.get(SEEDS.name, str(DEFAULT_SEEDS))
    numbers = whole_numbers(text)
    if numbers is None or ("," not in text and not 1 <= numbers[0] <= MOST_SEEDS):
        line.fault(
            f"seeds={text} must be a number of seeds (1 to {MOST_SEEDS}) or a list of seeds: seeds={DEFAULT_SEEDS}, "
            "or seeds=1,2,5",
            of=SEEDS.name,
        )
        return ()
    return numbers if "," in text else tuple(range(1, numbers[0] + 1))
