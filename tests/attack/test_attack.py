"""Kills, damaged records, odd commands and hostile folders, drawn with a fixed seed until the time is up.

Whatever is drawn: no trace, nothing that hangs, nothing outside the store read into it or changed, and numbers only
from records that are sound. `DISTILL_ATTACK_SECONDS` is the time of each of the three tests, 250 by default.
"""

import contextlib
import io
import json
import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import yaml
from process_lab import BASELINE, DATA, Lab, Server, contents, timeless

from distill.cli import main
from distill.runs.records import sealed

pytestmark = pytest.mark.slow

SECONDS = float(os.environ.get("DISTILL_ATTACK_SECONDS", "250"))
PATIENCE = 300  # seconds for one command: a machine may be shared with many others
GOLDEN = Path(__file__).parents[1] / "golden" / "run"
RECORDS = ("config.yaml", "result.json", "metrics.jsonl", "provenance.json", "timing.jsonl", ".config.json", "lock")
FILES = (*RECORDS, "student.safetensors", "last.safetensors", "failed.json", "evaluations.json", *["tables"] * 3)


def nested(levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


ODD: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        0,
        -1,
        1.5,
        float("nan"),
        float("inf"),
        10**400,
        -(10**20),
        1e308,
        "",
        "a\x1b[2J\nb",
        "\u202e",
    ),
    *("1" * 5000, [], {}, [1], ["a"], {"a": 1}, {1: 2}, [[]], nested(40), nested(300), "é", "=1+1", "../../outside"),
)


class Hung(BaseException):
    """A command took longer than `PATIENCE`."""


def command(*words: str) -> tuple[int, str, str]:
    """The exit code of a command in this process, and what it printed. AssertionError for a trace, Hung."""

    def alarm(number: int, frame: FrameType | None) -> None:
        raise Hung(" ".join(words))

    out, err = io.StringIO(), io.StringIO()
    before = signal.signal(signal.SIGALRM, alarm)
    signal.alarm(PATIENCE)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(list(words))
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    told = out.getvalue() + err.getvalue()
    traces = "".join(path.read_text(encoding="utf-8") for path in Path().glob("distill-error-*"))
    assert not traces, (words, traces)
    assert "internal error" not in told, (words, told)
    assert "Traceback" not in told, (words, told)
    assert "\x1b" not in told, (words, told)
    assert code in (0, 1, 2, 3), (words, code)
    return code, out.getvalue(), err.getvalue()


def rounds() -> Iterator[tuple[int, random.Random]]:
    """Numbered draws until the time is up, each with a generator of its own: one that fails can be repeated alone."""
    end, number = time.monotonic() + SECONDS, int(os.environ.get("DISTILL_ATTACK_FROM", "0"))
    while time.monotonic() < end:
        yield number, random.Random(number)
        number += 1


class Store:
    """A store with sound runs, and a folder outside it to which links lead."""

    def __init__(self, folder: Path, draw: random.Random) -> None:
        self.runs, self.outside, self.draw = folder / "runs", folder / "outside", draw
        for place in (self.runs, self.outside):
            for run in sorted(GOLDEN.iterdir()):
                _seal(Path(shutil.copytree(run, place / run.name)))
        for folder_of_tables in (self.outside, *(self.outside / run.name for run in GOLDEN.iterdir())):
            (folder_of_tables / "tables" / "one").mkdir(parents=True)
        (self.outside / "victim").write_text("precious")
        self.names = sorted(run.name for run in self.runs.iterdir())
        self.accuracies = {
            run.name[-12:]: json.loads((run / "result.json").read_text())["last"]["accuracy"]
            for run in self.runs.iterdir()
            if (run / "result.json").exists()
        }
        self.was = _everything(self.outside)

    def damage(self) -> set[str]:
        """Damage one or two runs; returns the names of all that were touched."""
        touched = set()
        for _ in range(self.draw.randint(1, 2)):
            name = self.draw.choice(self.names)
            touched.add(name)
            run = self.runs / name
            kind = self.draw.random()
            if kind < 0.1:
                shutil.rmtree(run) if not run.is_symlink() else run.unlink()
                run.symlink_to(self.outside / name)
            elif not run.is_symlink():
                self._damage_file(run / self.draw.choice(FILES), odd_file=kind < 0.35)
        return touched

    def _damage_file(self, path: Path, *, odd_file: bool) -> None:
        is_file = path.is_file() and not path.is_symlink()
        if odd_file or not is_file:
            _remove(path)
            make = self.draw.choice(("fifo", "zero", *["link"] * 4, "folder", "empty", "zeros", "large", "gone"))
            if make == "fifo":
                os.mkfifo(path)
            elif make in ("zero", "link"):
                beside = self.outside / path.parent.name / path.name
                target = beside if beside.exists() else self.outside / ("tables" if path.name == "tables" else "victim")
                path.symlink_to("/dev/zero" if make == "zero" else target)
            elif make == "folder":
                (path / "inner").mkdir(parents=True)
            elif make != "gone":
                path.write_bytes(b"\0" * 100 if make == "zeros" else b"")
                os.truncate(path, 2**30) if make == "large" else None
            return
        data = bytearray(path.read_bytes())
        kind = self.draw.random()
        if kind < 0.2 and data:
            data[self.draw.randrange(len(data))] ^= 1 << self.draw.randrange(8)
        elif kind < 0.3:
            del data[self.draw.randint(0, len(data)) :]
        elif path.suffix in (".yaml", ".json"):
            data = bytearray(self._edited(path, bytes(data)))
        elif path.suffix == ".jsonl" and data:
            line, *rest = bytes(data).split(b"\n", 1)
            data = bytearray(b"\n".join([self._edited(path.with_suffix(".json"), line), *rest]))
        path.write_bytes(data)

    def _edited(self, path: Path, data: bytes) -> bytes:
        """The record with one value replaced, or removed."""
        try:
            content = json.loads(data) if path.suffix == ".json" else yaml.safe_load(data)
        except (ValueError, yaml.YAMLError):
            return data
        places = [
            (node, key) for node in _nodes(content) for key in (node if isinstance(node, dict) else range(len(node)))
        ]
        if places:
            node, key = self.draw.choice(places)
            node[key] = self.draw.choice(ODD)
        try:
            text = json.dumps(content, indent=1) if path.suffix == ".json" else yaml.safe_dump(content)
        except (ValueError, TypeError):
            return data
        return text.replace("\n", " ").encode() if path.suffix == ".json" else text.encode()


def _seal(run: Path) -> None:
    if (run / "result.json").exists():
        files = {name: (run / name).read_bytes() for name in ("config.yaml", "metrics.jsonl")}
        (run / "result.json").write_text(json.dumps(sealed(json.loads((run / "result.json").read_text()), files)))


def _nodes(content: Any) -> Iterator[Any]:
    if isinstance(content, dict | list):
        yield content
        for item in content.values() if isinstance(content, dict) else content:
            yield from _nodes(item)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _everything(folder: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


def test_damaged_records_and_hostile_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, draw in rounds():
        folder = tmp_path / "round"
        folder.mkdir()
        monkeypatch.chdir(folder)
        store = Store(folder, draw)
        touched = store.damage()
        runs_dir = f"runs_dir={store.runs}"
        _, listed, _ = command("ls", "--format", "json", runs_dir)
        entries = {Path(entry["path"]).name: entry for entry in json.loads(listed)["runs"]}
        for name in set(store.names) - touched:
            assert entries[name]["status"] == ("finished" if name[-12:] in store.accuracies else "unfinished"), number
        _, table, _ = command("table", "--runs", "--format", "json", runs_dir)
        for row in json.loads(table)["rows"] if table.startswith("{") else ():
            assert row["last"] == store.accuracies[row["run"]], (number, row)
        chosen = draw.choice(store.names)
        for words in (
            ["ls", "--size"],
            ["table"],
            ["table", "--format", draw.choice(("csv", "html", "latex", "markdown")), "--sort", "-last"],
            ["table", "table=cifar100_small"],
            ["ls", f"loss.temperature={draw.choice(ODD)}"],
            ["export", "--results", "--out", "out"],
            ["evaluate", f"run={chosen[-12:]}", "engine.device=cpu"],
            ["export", f"run={chosen}", "--format", "safetensors", "--out", "model"],
            ["ls", "--prune"],
        ):
            command(*words, runs_dir)
        command("import", str(store.runs), "runs_dir=ours")
        assert _everything(store.outside) == store.was, number
        monkeypatch.chdir(tmp_path)
        shutil.rmtree(folder)


VERBS = ("ls", "table", "evaluate", "report", "export", "import", "fill", "losses", "models", "train")
KEYS = (
    *("run", "against", "table", "rows", "columns", "seeds", "loss", "student", "teacher", "dataset", "recipe", "seed"),
    *("loss.temperature", "recipe.epochs", "recipe.optimizer.lr", "dataset.holdout", "teacher.run", "student.weights"),
    *(
        "sweep",
        "status",
        "precision",
        "engine.device",
        "engine.threads",
        "budget",
        "dataset.npz",
        "accuracy",
        "x.y",
        "",
    ),
)
VALUES = (
    *(
        "",
        "a",
        "kd",
        "ce",
        "resnet8",
        "none",
        "0",
        "-1",
        "1e999",
        "9" * 400,
        "1,2",
        "[1",
        "{",
        "}",
        "${x}",
        "~",
        "null",
    ),
    *(
        "a\x1b[31mb",
        "a\nb",
        "\u202e",
        "é",
        "=",
        "a=b",
        "'",
        '"',
        "range(1,inf)",
        "interval(1,2)",
        "nan",
        "outside",
        ".",
    ),
    *("/dev/null", "/dev/zero", "..", "cifar100_small", "failed", "finished", "timm", "os.system", "ID"),
)
OPTIONS = (
    *("--format", "--out", "--sort", "--columns", "--runs", "--cost", "--baseline", "--size", "--results", "--plan"),
    *("--config-dir", "--of", "--dtype", "--help", "-m", "--retry", "--retyr", "-", "--", "json", "csv"),
)


def test_odd_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for number, draw in rounds():
        if number % 50 == 0 or not Path("runs").exists():
            shutil.rmtree("runs", ignore_errors=True)
            shutil.rmtree("outside", ignore_errors=True)
            store = Store(tmp_path, draw)
        verb = draw.choice(VERBS)
        words = [f"{draw.choice(KEYS)}={draw.choice(VALUES)}" for _ in range(draw.randint(0, 3))]
        words += [draw.choice(OPTIONS) for _ in range(draw.randint(0, 2))]
        draw.shuffle(words)
        words = [word.replace("ID", draw.choice(store.names)[-12:]) for word in words]
        if verb == "train":  # composed and checked, not trained
            words = [*DATA, "student=resnet8", "loss=ce", "recipe.epochs=1", *words, "--cfg", "job"]
        elif verb == "fill":
            words = ["table=cifar100_small", *words, "--plan"]
        if "/dev/zero" in " ".join(words) and verb in (
            "import",
            "fill",
            "train",
        ):  # the user's own files may be devices
            continue
        command(verb, *words)
        assert _everything(store.outside) == store.was, (number, verb, words)


def test_kills_and_damage_between_them(tmp_path: Path) -> None:
    server = Server()
    try:
        reference = Lab(server, tmp_path)
        assert reference.run(*BASELINE).code == 0
        expected = reference.run_of("Tiny-ce-s1")
        for number, draw in rounds():
            (tmp_path / f"{number}").mkdir()
            lab = Lab(server, tmp_path / f"{number}")
            changed = False
            for _ in range(draw.randint(1, 4)):
                ended = lab.start(*BASELINE, checkpoints="every step", die={"count": draw.randint(1, 40)}).end()
                assert ended.code in (0, 1, -9), ended
                assert ended.traceless, ended
                killed = list(lab.runs.glob("Tiny-ce-s1*")) if ended.code == -9 else []
                if killed and draw.random() < 0.4:
                    changed |= _vandalise(killed[0], draw)
            ended = lab.run(*BASELINE)
            assert ended.traceless, (number, ended)
            if ended.code == 0:
                found, whole = contents(lab.run_of("Tiny-ce-s1")), contents(expected)
                for name in ("metrics.jsonl", "student.safetensors"):
                    assert found[name] == whole[name], (number, name)
                assert timeless(found["result.json"]) == timeless(whole["result.json"]), number
            else:
                assert ended.code == 1, (number, ended)
                assert changed, (number, ended)
                assert "delete" in ended.err, (number, ended)
            shutil.rmtree(tmp_path / f"{number}")
    finally:
        server.close()


def _vandalise(run: Path, draw: random.Random) -> bool:
    """Damage what lies in the folder of a killed run; returns whether the run may be refused for it."""
    path = run / draw.choice(
        ("last.safetensors", "metrics.jsonl", "config.yaml", "timing.jsonl", "provenance.json", "lock")
    )
    if not path.is_file() or not (data := bytearray(path.read_bytes())):
        return False
    if draw.random() < 0.3:
        path.unlink()
    else:
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        path.write_bytes(data)
    return True
