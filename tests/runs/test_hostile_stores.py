"""A store that others can write to: no link is followed out of it, and no record blocks or fills the memory."""

import json
import os
import shutil
import stat
import tempfile
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from distill.cli import main
from distill.exchange.folders import import_folder
from distill.runs.checkpoint import load_checkpoint, load_weights
from distill.runs.directory import Board
from distill.runs.files import LARGEST_RECORD, StorageError, append_line, parse_json, read_json, read_lines, sync
from distill.runs.layout import LOCK, PUBLISHED, SEARCHES, TABLES, up_to_store
from distill.runs.lock import RunLock, is_held
from distill.runs.store import finished_run, occupied, read_run, tables
from distill.tables.values import natural_key

STORE = Path(__file__).parents[1] / "golden" / "run"
TEACHER = STORE / "timm_network.test_resnet-cross_entropy-s0-f583dd485eca"
RUN = "timm_network.test_resnet-classifier_reuse-s1-0585b7f75629"


def test_a_lock_does_not_empty_the_target_of_a_link(tmp_path: Path) -> None:
    victim, run = tmp_path / "victim", tmp_path / "runs" / "run"
    victim.write_text("precious")
    run.mkdir(parents=True)
    (run / LOCK).symlink_to(victim)
    with pytest.raises(StorageError, match="it is a link"):
        RunLock(run).acquire()
    with pytest.raises(StorageError, match="it is a link"):
        is_held(run)
    assert victim.read_text() == "precious"


def test_prune_deletes_nothing_behind_a_link(tmp_path: Path) -> None:
    elsewhere, run = tmp_path / "elsewhere", tmp_path / "runs" / "resnet8-ce-s1-0123456789ab"
    (elsewhere / "photos").mkdir(parents=True)
    (elsewhere / "photos" / "a.jpg").write_text("precious")
    run.mkdir(parents=True)
    (run / TABLES).symlink_to(elsewhere)
    assert tables(run) == []
    assert main(["ls", "--prune", f"runs_dir={tmp_path / 'runs'}"]) == 0
    (run / TABLES).unlink()
    (run / TABLES).mkdir()
    (run / TABLES / "linked").symlink_to(elsewhere / "photos")
    assert tables(run) == []
    assert main(["ls", "--prune", f"runs_dir={tmp_path / 'runs'}"]) == 0
    assert (elsewhere / "photos" / "a.jpg").read_text() == "precious"


def test_a_table_that_cannot_be_removed_keeps_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "victim").write_text("precious")
    folder = copied(tmp_path / "runs") / TABLES
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        (folder / name / "rows.bin").write_bytes(bytes(10))
    (folder / "a" / LOCK).symlink_to(tmp_path / "victim")
    assert main(["ls", "--prune", f"runs_dir={tmp_path / 'runs'}"]) == 1
    assert "it is a link" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["a"]
    assert (tmp_path / "victim").read_text() == "precious"


@pytest.mark.parametrize("kind", ["link", "fifo", "device", "folder", "large"])
def test_only_small_regular_files_are_read_as_records(tmp_path: Path, kind: str) -> None:
    record = tmp_path / "result.json"
    if kind == "link":
        (tmp_path / "other.json").write_text("{}")
        record.symlink_to(tmp_path / "other.json")
    elif kind == "fifo":
        os.mkfifo(record)
    elif kind == "device":
        record.symlink_to("/dev/zero")
    elif kind == "folder":
        record.mkdir()
    else:
        with open(record, "wb") as file:
            file.truncate(LARGEST_RECORD + 1)
    with pytest.raises(StorageError, match=r"result\.json"):
        read_json(record)
    with pytest.raises(StorageError, match=r"result\.json"):
        read_lines(record)


def test_metrics_are_not_appended_behind_a_link(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious\n")
    (tmp_path / "metrics.jsonl").symlink_to(victim)
    with pytest.raises(StorageError, match="it is a link"):
        append_line(tmp_path / "metrics.jsonl", {"epoch": 1})
    assert victim.read_text() == "precious\n"
    append_line(tmp_path / "own.jsonl", {"epoch": 1})
    assert json.loads((tmp_path / "own.jsonl").read_text()) == {"epoch": 1}
    assert stat.S_ISREG((tmp_path / "own.jsonl").stat().st_mode)


def copied(runs_dir: Path, name: str = RUN, *, run: Path = TEACHER) -> Path:
    """A finished run in a store of the test's own."""
    shutil.copytree(run, runs_dir / name)
    return runs_dir / name


def test_a_run_folder_that_is_a_link_is_damaged_and_nothing_behind_it_is_written_or_removed(tmp_path: Path) -> None:
    runs, elsewhere = tmp_path / "runs", copied(tmp_path / "elsewhere")
    runs.mkdir()
    (elsewhere / TABLES / "table").mkdir(parents=True)
    link = runs / elsewhere.name
    link.symlink_to(elsewhere)
    record = read_run(link)
    assert record is not None
    assert (record.status, record.result) == ("damaged", None)
    assert "no link in a store is followed" in record.message
    assert tables(link) == []
    assert occupied(link) == 0
    for folder in (link, link / TABLES / "table"):
        with pytest.raises(StorageError, match="it is a link"):
            RunLock(folder).acquire()
    assert main(["ls", "--prune", f"runs_dir={runs}"]) == 0
    assert (elsewhere / TABLES / "table").is_dir()
    assert not (elsewhere / LOCK).exists()


def test_the_folders_of_a_store_end_where_it_begins() -> None:
    runs = Path("a") / "runs"
    run = runs / "run"
    assert up_to_store(run) == (run,)
    assert up_to_store(run / TABLES / "key") == (run / TABLES / "key", run / TABLES, run)
    assert up_to_store(runs / SEARCHES / "one") == (runs / SEARCHES / "one", runs / SEARCHES)
    teacher = runs / PUBLISHED / "key"
    assert up_to_store(teacher / TABLES / "t") == (teacher / TABLES / "t", teacher / TABLES, teacher, teacher.parent)


@pytest.mark.parametrize("name", ["student.safetensors", "metrics.jsonl", "provenance.json", "result.json"])
def test_a_linked_record_is_neither_imported_nor_exported(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copied(tmp_path / "runs", TEACHER.name)
    (tmp_path / "secret").write_bytes((run / name).read_bytes())
    (run / name).unlink()
    (run / name).symlink_to(tmp_path / "secret")
    sentences: list[str] = []
    import_folder(tmp_path / "runs", tmp_path / "imported", say=sentences.append, warn=sentences.append)
    assert not list(tmp_path.glob("imported/*/config.yaml"))
    assert "it is a link" in " ".join(sentences)
    if name != "student.safetensors":  # weights are not among results
        assert main(["export", "--results", f"runs_dir={tmp_path / 'runs'}", "--out", str(tmp_path / "out")]) == 1
        assert "it is a link" in capsys.readouterr().err
        assert not list(tmp_path.glob("out/*"))


def test_results_are_not_exported_behind_a_link(tmp_path: Path) -> None:
    run = copied(tmp_path / "runs", TEACHER.name)
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / run.name).symlink_to(tmp_path / "elsewhere")
    assert main(["export", "--results", f"runs_dir={tmp_path / 'runs'}", "--out", str(tmp_path / "out")]) == 1
    assert not list((tmp_path / "elsewhere").iterdir())


def test_weights_checkpoints_and_events_are_neither_read_nor_written_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "last.safetensors").symlink_to("/dev/zero")
    with pytest.raises(StorageError, match="it is a link"):
        load_checkpoint(tmp_path)
    os.unlink(tmp_path / "last.safetensors")
    os.mkfifo(tmp_path / "last.safetensors")
    with pytest.raises(StorageError, match="not a regular file"):
        load_checkpoint(tmp_path)
    (tmp_path / "student.safetensors").symlink_to(TEACHER / "student.safetensors")
    with pytest.raises(StorageError, match="it is a link"):
        load_weights(tmp_path / "student.safetensors")
    os.mkfifo(tmp_path / "metrics.jsonl")
    with pytest.raises(StorageError):  # and does not wait for a writer
        sync(tmp_path / "metrics.jsonl")
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "events.out.tfevents.0000000001").symlink_to(victim)
    Board(tmp_path).scalars({"loss": 1.0}, step=1)
    assert victim.read_text() == "precious"


def edited(name: str, change: Callable[[Any], object]) -> Callable[[Path], object]:
    """A change of the content of a record, written where the copy beside it does not hide it."""

    def edit(run: Path) -> None:
        is_yaml = name.endswith("yaml")
        content = yaml.safe_load((run / name).read_bytes()) if is_yaml else json.loads((run / name).read_bytes())
        change(content)
        (run / name).write_text(yaml.safe_dump(content) if is_yaml else json.dumps(content))

    return edit


def replaced(name: str, make: Callable[[Path], object]) -> Callable[[Path], object]:
    def replace(run: Path) -> None:
        (run / name).unlink()
        make(run / name)

    return replace


def put(*keys: str, value: Any) -> Callable[[Any], object]:
    def change(content: Any) -> None:
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return change


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


ODD = {
    "a list for a mapping": (edited("result.json", put("last", value=[1])), "'last'"),
    "a list for a number": (edited("result.json", put("seconds", value=[1])), "'seconds'"),
    "a list for a digest": (edited("result.json", put("weights_sha256", value=["a"])), "'weights_sha256'"),
    "a boolean for a number": (edited("result.json", put("last", "accuracy", value=True)), "'last.accuracy'"),
    "a text for a number": (edited("result.json", put("parameters", value="many")), "'parameters'"),
    "an accuracy above 100": (edited("result.json", put("best", "accuracy", value=101)), "'best.accuracy'"),
    "400 digits": (edited("result.json", put("epochs", value=10**400)), "64 bits"),
    "400 digits in a place of no importance": (edited("result.json", put("x", value=10**400)), "64 bits"),
    "5000 digits": (replaced("result.json", lambda path: path.write_text(f'{{"epochs": {"1" * 5000}}}')), "64 bits"),
    "NaN": (edited("result.json", put("last", "loss", value=float("nan"))), "JSON"),
    "infinite by its exponent": (
        replaced("result.json", lambda path: path.write_text('{"seconds": 1e999}')),
        "'seconds'",
    ),
    "deep JSON": (edited("result.json", put("x", value=nested(200))), "nested"),
    "deeper JSON": (replaced("result.json", lambda path: path.write_text("[" * 99999)), "nested"),
    "half a character": (replaced("result.json", lambda path: path.write_text('{"x": "\\ud800"}')), "character"),
    "a list as a result": (replaced("result.json", lambda path: path.write_text("[]")), "mapping"),
    "no UTF-8": (replaced("result.json", lambda path: path.write_bytes(b'{"a": "\xff"}')), "JSON"),
    "a failure at a list": (
        replaced("result.json", lambda path: path.with_name("failed.json").write_text('{"epoch": [1]}')),
        "'epoch'",
    ),
    "a teacher that is a text": (edited("result.json", put("teacher", value="resnet20")), "'teacher'"),
    "a number for a name": (edited("config.yaml", put("names", "student", value=7)), "'names'"),
    "names that are a list": (edited("config.yaml", put("names", value=["a"])), "'names'"),
    "a loss that is a list": (edited("config.yaml", put("config", "loss", value=["a"])), "'config.loss'"),
    "a target that is a list": (edited("config.yaml", put("config", "loss", "_target_", value=["a"])), "_target_"),
    "epochs that are a text": (edited("config.yaml", put("config", "recipe", "epochs", value="9")), "epochs"),
    "a seed that is a list": (edited("config.yaml", put("identity", "seed", value=[1])), "'identity.seed'"),
    "numbers as keys": (edited("config.yaml", put("config", value={1: 2})), "a key must be a string"),
    "a date": (edited("config.yaml", put("config", "student", "when", value=date(2020, 1, 1))), "date"),
    "deep YAML": (edited("config.yaml", put("config", "x", value=nested(200))), "nested"),
    "400 digits in YAML": (edited("config.yaml", put("config", "x", value=10**400)), "64 bits"),
    "a FIFO": (replaced("result.json", os.mkfifo), "regular"),
    "a FIFO as configuration": (replaced("config.yaml", os.mkfifo), "regular"),
    "a link to a device": (replaced("config.yaml", lambda path: path.symlink_to("/dev/zero")), "it is a link"),
    "a folder": (replaced("result.json", Path.mkdir), "is a directory"),
}


def test_odd_folders_are_listed_as_damaged_and_hide_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs"
    copied(runs, TEACHER.name)
    folders = {what: f"odd-{number:012d}" for number, what in enumerate(ODD)}
    for what, (tamper, _) in ODD.items():
        tamper(copied(runs, folders[what]))
    assert main(["ls", f"runs_dir={runs}", "--format", "json"]) == 0
    listed = {Path(each["path"]).name: each for each in json.loads(capsys.readouterr().out)["runs"]}
    assert listed[TEACHER.name]["status"] == "finished"
    for what, (_, reason) in ODD.items():
        assert listed[folders[what]]["status"] == "damaged", what
        assert reason in listed[folders[what]]["detail"], what
    assert len(listed) == len(ODD) + 1
    for form in ("text", "csv", "json"):
        assert main(["table", f"runs_dir={runs}", *(["--format", form] if form != "text" else [])]) == 0
        assert f"{len(ODD)} damaged not shown" in "".join(capsys.readouterr())
    assert finished_run(runs, TEACHER.name[-12:]).path == runs / TEACHER.name
    with pytest.raises(StorageError, match="'last'"):
        finished_run(runs, folders["a list for a mapping"])


def test_a_result_without_an_accuracy_is_listed_as_damaged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edited("result.json", lambda result: result.pop("last"))(copied(tmp_path / "runs"))
    assert main(["ls", f"runs_dir={tmp_path / 'runs'}", "status=damaged", "--format", "json"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)["runs"]
    assert listed["status"] == "damaged"
    assert "'last.epoch'" in listed["detail"]


@pytest.mark.parametrize(
    "line", ['{"epoch": 1, "test": [1]}', '{"epoch": [1]}', '{"epoch": 1, "test": {"accuracy": true}}']
)
def test_odd_metrics_of_an_unfinished_run_are_damage(
    tmp_path: Path, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copied(tmp_path / "runs")
    (run / "result.json").unlink()
    (run / "metrics.jsonl").write_text(line + "\n")
    assert main(["ls", f"runs_dir={tmp_path / 'runs'}", "--format", "json"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)["runs"]
    assert listed["status"] == "damaged"
    assert "metrics.jsonl" in listed["detail"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("closed", ["result.json", "config.yaml", "."])
def test_what_may_not_be_read_is_damaged_and_hides_no_other(closed: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        runs = Path(name) / "runs"
        os.chmod(name, 0o755)
        copied(runs, TEACHER.name)
        shut = copied(runs) / closed
        shut.chmod(0)
        os.seteuid(65534)
        try:
            record = read_run(runs / RUN)
            assert finished_run(runs, TEACHER.name[-12:]).status == "finished"
        finally:
            os.seteuid(0)
        assert record is not None
        assert record.status == "damaged"
        assert "permission denied" in record.message


def test_json_of_our_own_passes_and_keeps_its_values() -> None:
    value = {"a": [1, 2.5, None, True, "é\n"], "n": -(2**63), "deep": nested(50), "many": [[1]] * 200}
    assert parse_json(json.dumps(value).encode()) == value


def test_names_sort_by_their_numbers_however_long() -> None:
    long, longer = f"x{'9' * 5000}", f"x1{'0' * 5000}"
    assert sorted([longer, "x10", "²", long, "x9"], key=natural_key) == ["x9", "x10", long, longer, "²"]
    assert sorted(["r20", "r8", "r100"], key=natural_key) == ["r8", "r20", "r100"]


def test_names_that_a_terminal_would_obey_are_shown_as_escapes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, name = tmp_path / "runs", "a\x1b[31m\nb"
    run = copied(runs, f"{name}-{RUN[-12:]}")
    edited("config.yaml", put("names", "loss", value=f"kd {name}"))(run)
    edited("config.yaml", put("names", "dataset", value=f"arrays npz={name}.npz"))(run)
    edited("config.yaml", put("names", "student", value=f"resnet8 {name}"))(run)
    edited("config.yaml", put("config", "loss", name, value=name))(run)
    edited("config.yaml", put("config", "loss", value=[name]))(copied(runs, f"{name}-0123456789ab"))
    for words in (
        ["ls"],
        ["table"],
        ["table", "loss=none"],
        ["evaluate", f"run={name}"],
        ["export", f"run={name}-0123456789ab"],
    ):
        for form in ("text", "csv", "json", "markdown", "html", "latex") if words in (["ls"], ["table"]) else ("text",):
            code = main([*words, f"runs_dir={runs}", *(["--format", form] if form != "text" else [])])
            shown = "".join(capsys.readouterr())
            assert shown.replace("\n", "").replace("\t", "").isprintable(), (words, form)
            if words[0] in ("ls", "table"):
                assert code == 0, words
            if words in (["ls"], ["table"]) and form != "latex":
                assert r"\x1b[31m" in shown or r"\u001b[31m" in shown, form
