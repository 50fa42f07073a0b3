"""The one grammar: pairs, options, and a sentence for everything else."""

import importlib
from pathlib import Path

import pytest

from distill.cli import VERBS
from distill.cli.grammar import BASELINE, FORMAT, FORMATS, OUT, Option, UsageError, nearest, parse, wants_help

KEYS = ("dataset", "student", "runs_dir")
OPTIONS = (FORMAT, BASELINE, OUT, Option("--quiet"))


def faults(*argv: str, dotted: bool = False) -> list[str]:
    """What is wrong with a command."""
    return parse(argv, keys=KEYS, options=OPTIONS, dotted=dotted).faults


@pytest.mark.parametrize("format_words", [["--format", "csv"], ["--format=csv"]])
def test_pairs_and_options_in_any_order(format_words: list[str]) -> None:
    line = parse(["dataset=digits", *format_words, "student=a=b", "--quiet"], keys=KEYS, options=OPTIONS)
    line.check()
    assert line.pairs == {"dataset": "digits", "student": "a=b"}
    assert line.options == {"--format": "csv", "--quiet": ""}
    assert line.form == "csv"


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["datset=digits"], "unknown key 'datset' in 'datset=digits': did you mean dataset?"),
        (["+student=a"], "unknown key '+student' in '+student=a': did you mean student?"),
        (["zzz=1"], "unknown key 'zzz' in 'zzz=1': choose from dataset, student, runs_dir"),
        (["loss.temperature=4"], "unknown key 'loss.temperature' in 'loss.temperature=4': choose from "),
        (["student="], "student= needs a value: write student=VALUE or leave it out"),
        (
            ["student=a", "student=b"],
            "student is given twice: keep one, or write student=A,B for any of several",
        ),
        (["studen"], "'studen' is neither key=value nor an option: write student=VALUE"),
        (["--formt", "csv"], "unknown option --formt: did you mean --format?"),
        (["--format", "cvs"], "--format cannot be 'cvs': did you mean csv?"),
        (["--format", "--quiet"], "--format needs a value: write --format terminal|markdown|latex|csv|json|html"),
        (["--out"], "--out needs a value: write --out FILE"),
        (["--baseline="], "--baseline needs a value: write --baseline PRESET"),
        (["--baseline", "ce", "--baseline=kd"], "--baseline is given twice: keep one"),
        (["--quiet=yes"], "--quiet takes no value, got 'yes': write --quiet alone"),
        (["--out", "no_such_folder/table.md"], "--out no_such_folder/table.md has no folder to lie in: "),
    ],
)
def test_every_fault_is_one_sentence(argv: list[str], sentence: str) -> None:
    (found,) = faults(*argv)
    assert found.startswith(sentence)


def test_all_faults_of_a_command_at_once() -> None:
    line = parse(["datset=a", "--formt", "csv", "--out", "student=b", "student=c"], keys=KEYS, options=OPTIONS)
    with pytest.raises(UsageError) as refusal:
        line.check()
    assert [fault.split(":")[0] for fault in refusal.value.faults] == [
        "unknown key 'datset' in 'datset=a'",
        "unknown option --formt",
        "--out needs a value",  # `student=b` is a pair, not its file
        "student is given twice",
    ]
    assert str(refusal.value) == "\n".join(refusal.value.faults)


def test_an_option_may_be_followed_by_a_value_that_holds_an_equals_sign() -> None:
    line = parse(["--baseline", "kd (temperature=8)", "--out", "student"], keys=KEYS, options=OPTIONS)
    assert line.options == {"--baseline": "kd (temperature=8)", "--out": "student"}


def test_dotted_keys_pass_where_the_verb_checks_them() -> None:
    assert faults("loss.temperature=4", dotted=True) == []
    assert len(faults("loss.=4", "loss..x=4", dotted=True)) == 2


def test_the_folder_of_the_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DISTILL_RUNS", raising=False)
    assert parse([], keys=KEYS).runs_dir == Path("runs")
    monkeypatch.setenv("DISTILL_RUNS", str(tmp_path / "mine"))
    assert parse([], keys=KEYS).runs_dir == tmp_path / "mine"
    assert parse([f"runs_dir={tmp_path}"], keys=KEYS).runs_dir == tmp_path


def test_folders_and_files_are_not_mistaken(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert faults(f"runs_dir={file}") == [f"runs_dir must be a folder, {file} is a file: set runs_dir=DIR"]
    assert faults("--out", str(tmp_path)) == [
        f"--out must be a file, {tmp_path} is a folder: write --out {tmp_path}/FILE"
    ]


def test_help_is_asked_for_anywhere() -> None:
    assert wants_help(["dataset=x", "--help"])
    assert wants_help(["-h"])
    assert not wants_help(["dataset=help"])


def test_nearest_name_or_all_of_them() -> None:
    assert nearest("resnet80", ["resnet8", "resnet20"]) == "did you mean resnet8?"
    assert nearest("vgg", ["resnet8", "resnet20"]) == "choose from resnet8, resnet20"
    assert nearest("vgg", []) == "there is none to choose from"


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_a_verb_that_lays_out_names_every_format(verb: str) -> None:
    module = importlib.import_module(f"distill.cli.{verb}")
    if FORMAT in module.OPTIONS:
        assert f"  --format {'|'.join(FORMATS)} (default: terminal" in module.HELP
        assert "FILE.md .tex .csv .json .html choose their format" in module.HELP


def test_one_format_is_offered_by_every_verb_that_lays_out() -> None:
    modules = [importlib.import_module(f"distill.cli.{verb}") for verb in VERBS]
    offered = [option for module in modules for option in module.OPTIONS if "latex" in option.choices]
    assert len(offered) >= 6
    assert set(offered) == {FORMAT}
