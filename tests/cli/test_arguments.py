"""The arguments of the verbs: keys, options, and one sentence for each mistake."""

import importlib
import os
from pathlib import Path

import pytest

from distill.cli import VERBS
from distill.cli.arguments import ANY, FORMAT, OUT, RUNS_DIR, Argument, CommandLine, Verb, parse
from distill.config.faults import Refused

BASELINE = Argument("--baseline", "PRESET")
KEYS = (Argument("dataset"), Argument("student"), RUNS_DIR, Argument("precision", choices=("fp32", "bf16")))
OPTIONS = (FORMAT, BASELINE, OUT, Argument("--quiet"))


def read(*argv: str, dotted: tuple[str, ...] = (), positional: str = "") -> CommandLine:
    """A command line of a verb with these keys and options."""
    sections = (("All", (*KEYS, *OPTIONS, *([Argument(positional)] if positional else []))),)
    return parse(argv, Verb("try", ("",), "", sections, (), "", dotted=dotted, positional=positional))


def faults(*argv: str, dotted: tuple[str, ...] = ()) -> list[str]:
    """What is wrong with a command."""
    return [fault.text for fault in read(*argv, dotted=dotted).faults]


@pytest.mark.parametrize("format_words", [["--format", "csv"], ["--format=csv"]])
def test_pairs_and_options_in_any_order(format_words: list[str]) -> None:
    line = read("dataset=digits", *format_words, "student=a=b", "--quiet")
    line.check()
    assert line.pairs == {"dataset": "digits", "student": "a=b"}
    assert line.options == {"--format": "csv", "--quiet": ""}


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["datset=digits"], "unknown key 'datset' in 'datset=digits': did you mean 'dataset'?"),
        (["+student=a"], "unknown key '+student' in '+student=a': did you mean 'student'?"),
        (["zzz=1"], "unknown key 'zzz' in 'zzz=1': there are dataset, precision, runs_dir, student"),
        (["loss.temperature=4"], "unknown key 'loss.temperature' in 'loss.temperature=4': there are "),
        (["precision=b16"], "precision cannot be 'b16': did you mean 'bf16'?"),
        (["student="], "student= needs a value: write student=VALUE or leave it out"),
        (
            ["student=a", "student=b"],
            "student is given twice: keep one, or write student=A,B for any of several",
        ),
        (["studen"], "'studen' is neither key=value nor an option: write student=VALUE"),
        (["--formt", "csv"], "unknown option --formt: did you mean '--format'?"),
        (["--format", "cvs"], "--format cannot be 'cvs': did you mean 'csv'?"),
        (["--format", "--quiet"], "--format needs a value: write --format terminal|markdown|latex|csv|json|html"),
        (["--out"], "--out needs a value: write --out FILE"),
        (["--baseline="], "--baseline needs a value: write --baseline PRESET"),
        (["--baseline", "ce", "--baseline=kd"], "--baseline is given twice: keep one"),
        (["--quiet=yes"], "--quiet takes no value, got 'yes': write --quiet alone"),
        (
            ["--out", "no_such_folder/table.md"],
            "--out no_such_folder/table.md cannot be written, its folder does not exist: ",
        ),
    ],
)
def test_every_fault_is_one_sentence(argv: list[str], sentence: str) -> None:
    (found,) = faults(*argv)
    assert found.startswith(sentence)


def test_all_faults_of_a_command_at_once() -> None:
    line = read("datset=a", "--formt", "csv", "--out", "student=b", "student=c")
    with pytest.raises(Refused) as refusal:
        line.check()
    assert [fault.split(":")[0] for fault in refusal.value.sentences] == [
        "unknown key 'datset' in 'datset=a'",
        "unknown option --formt",
        "--out needs a value",  # `student=b` is a pair, not its file
        "student is given twice",
    ]
    assert line.faulty == {"dataset", "--format", "--out", "student"}


def test_an_option_may_be_followed_by_a_value_that_holds_an_equals_sign() -> None:
    line = read("--baseline", "kd (temperature=8)", "--out", "student")
    assert line.options == {"--baseline": "kd (temperature=8)", "--out": "student"}


def test_keys_with_a_dot() -> None:
    assert faults("loss.temperature=4", dotted=ANY) == []
    assert len(faults("loss.=4", "loss..x=4", dotted=ANY)) == 2
    assert faults("student.depth=4", "+student.width=2", dotted=("student",)) == []
    assert read("++student.width=2", dotted=("student",)).pairs == {"student.width": "2"}
    (found,) = faults("loss.temperature=4", dotted=("student",))
    assert found.startswith(
        "unknown key 'loss.temperature' in 'loss.temperature=4': there are dataset, precision, runs_dir, student"
    )


def test_a_positional_word_is_a_path(tmp_path: Path) -> None:
    file = tmp_path / "a=b"
    file.touch()
    for word in ("file.pth", "save/KD,T=4/student_best", str(file)):
        line = read(word, "dataset=digits", positional="file")
        assert (line.pairs, line.faults) == ({"file": word, "dataset": "digits"}, [])
    (found,) = read("a.pth", "b.pth", positional="file").faults
    assert found.text.startswith("b.pth is a second file")


def test_a_missing_key_is_named_once() -> None:
    line = read("studnt=a")
    line.require("student", "add student=NAME")
    line.require("dataset", "add dataset=NAME")
    assert [fault.text for fault in line.faults] == [
        "unknown key 'studnt' in 'studnt=a': did you mean 'student'?",
        "add dataset=NAME",
    ]


def test_the_folder_of_the_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DISTILL_RUNS", raising=False)
    assert read().runs_dir == Path("runs")
    monkeypatch.setenv("DISTILL_RUNS", str(tmp_path / "mine"))
    assert read().runs_dir == tmp_path / "mine"
    assert read(f"runs_dir={tmp_path}").runs_dir == tmp_path


def test_folders_and_files_are_not_mistaken(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert faults(f"runs_dir={file}") == [f"runs_dir must be a folder, {file} is a file: set runs_dir=DIR"]
    assert faults("--out", str(tmp_path)) == [
        f"--out must be a file, {tmp_path} is a folder: write --out {tmp_path}/FILE"
    ]
    os.mkfifo(tmp_path / "pipe")
    assert faults("--out", str(tmp_path / "pipe"), "--format", "csv") == [
        f"--out {tmp_path / 'pipe'} is no regular file, and would be replaced by one: leave --out away to print"
    ]


def test_every_verb_offers_the_same_output_options() -> None:
    options = [importlib.import_module(f"distill.cli.{verb}").VERB.options for verb in VERBS]
    formats = [each["--format"] for each in options if "latex" in getattr(each.get("--format"), "choices", ())]
    assert len(formats) >= 5
    assert set(formats) == {FORMAT}


def test_the_home_folder_in_paths(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    line = read("runs_dir=~/runs", "--out=~/table.md", "student=~/x")
    assert line.runs_dir == tmp_path / "runs"
    assert line.out == tmp_path / "table.md"
    assert line.pairs["student"] == "~/x"  # no path
    for verb in ("evaluate", "export", "report"):
        declared = importlib.import_module(f"distill.cli.{verb}").VERB
        found = parse(["run=~/a (1)", "dataset.npz=~/b=c.npz"], declared).pairs
        assert found == {"run": f"{tmp_path}/a (1)", "dataset.npz": f"{tmp_path}/b=c.npz"}
    found = parse(["~/é #1.pth"], importlib.import_module("distill.cli.import").VERB).pairs
    assert found == {"file": f"{tmp_path}/é #1.pth"}


def test_an_option_without_its_value() -> None:
    for verb in ("train", "losses", "models", "import", "fill", "report"):
        declared = importlib.import_module(f"distill.cli.{verb}").VERB
        for words in (["--config-dir"], ["--config-dir", "--help"], ["--config-dir="]):
            assert "--config-dir needs a value: write --config-dir DIR" in [
                f.text for f in parse(words, declared).faults
            ]
