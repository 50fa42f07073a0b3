"""Every verb's help: a screenful, at once, true; and what any command does with a misspelt verb or a closed pipe."""

import dataclasses
import importlib
import os
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from distill.cli import VERBS, main
from distill.cli.arguments import FINISHED, REFUSED, parse
from distill.cli.evaluate import VERB as EVALUATE
from distill.cli.export import VERB as EXPORT

ROOT = Path(__file__).resolve().parents[2]
Capture = pytest.CaptureFixture[str]

NEEDED = {
    "train": "experiment= loss= seed= loss.temperature= loss.alpha= recipe.epochs= teacher.run= precision= runs_dir= "
    "dataset.npz= dataset.download= dataset.limit= dataset.holdout= engine.device= sweep= sweep.select= "
    "hydra.launcher.size= student.name= student._target_= --cfg "
    "--multirun",
    "table": "loss=kd loss.temperature= DISTILL_RUNS",
    "ls": "loss.temperature=",
    "models": "student.name=",
    "losses": "loss.temperature=",
    "fill": "dataset.npz= engine.threads=",
    "import": "config.yaml student.name= student.pretrained= student.weights= teacher.run=",
    "report": "index.html",
    "export": "README.md",
}


def help_of(verb: str, capsys: Capture) -> str:
    """What `distill VERB --help` prints."""
    assert main([verb, "--help"]) == FINISHED
    return capsys.readouterr().out


def examples(text: str, verb: str) -> list[list[str]]:
    """The commands that a help shows, as words after the verb; a remark stands two blanks behind, or a pipe."""
    lines = re.findall(rf"^  distill {verb}\b(.*)$", text, re.MULTILINE)
    return [shlex.split(re.split(r"\s{2,}| \| ", line)[0]) for line in lines]


@pytest.mark.parametrize("verb", VERBS)
def test_a_help_is_a_screenful_with_every_argument(verb: str, capsys: Capture) -> None:
    text = help_of(verb, capsys)
    lines = text.splitlines()
    assert len(lines) <= (60 if verb == "train" else 50)
    assert max(map(len, lines)) <= 120
    assert lines[0].startswith(f"distill {verb} ")
    declared = importlib.import_module(f"distill.cli.{verb}").VERB
    hidden = {
        "file",
        "seed",
        "precision",
        "runs_dir",
        "recipe",
        "experiment",
        "sweep",
        "teacher",
        "student",
        "loss",
        "dataset",
    }
    for name, argument in declared.arguments.items():
        shown = f"{name}=" if not argument.is_option else name
        assert shown in text or name in hidden, name
    for needed in NEEDED.get(verb, "").split():
        assert needed in text, needed
    assert examples(text, verb)
    assert "\nExit codes: 0 " in text


def test_the_first_help_shows_the_verbs_and_the_way_on(capsys: Capture) -> None:
    for words in ([], ["--help"], ["-h"], ["help"]):
        assert main(words) == FINISHED
        text = capsys.readouterr().out
        assert len(text.splitlines()) <= 45
        assert all(re.search(rf"^  {verb} ", text, re.MULTILINE) for verb in VERBS)
        assert "0 finished, 1 a run failed, 2 the command was refused, 3 another process is working on a run" in text
        assert "distill --completion bash" in text


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "train"])
def test_the_examples_are_commands(verb: str, capsys: Capture) -> None:
    declared = importlib.import_module(f"distill.cli.{verb}").VERB
    shown = examples(help_of(verb, capsys), verb)
    assert shown
    for words in shown:
        assert parse(words, declared).faults == []


def test_the_help_of_train_names_only_what_there_is(capsys: Capture) -> None:
    from distill.cli.train import VERB
    from distill.config.compose.presets import Presets
    from distill.config.schema import TeacherNode

    text = help_of("train", capsys)
    presets = Presets()
    words = ["dataset=cifar100", "student=timm", "loss=kd", "sweep=temperature", "hydra/launcher=cohort"]
    composed = presets.compose(words)
    config = {**composed.config, "hydra": composed.launching}
    commands = [*examples(main_help(capsys), "train"), *examples(text, "train")]
    assert len(commands) >= 8
    for words in commands:
        command = parse(words, VERB)
        assert not command.faults
        assert not presets.parse(command.overrides)[1]
    keys = set(re.findall(r"(?<![\w./-])([a-z_]+(?:\.[a-z_]+)*)=", text))
    assert {"seed", "loss.alpha", "recipe.optimizer.lr", "teacher.recipe.epochs", "engine.threads"} <= keys
    optional = {
        f"teacher.{field.name}" for field in dataclasses.fields(TeacherNode) if field.default is not dataclasses.MISSING
    }
    for key in keys - set(presets.groups) - optional - {"student.weights"}:  # of every student, in no preset
        node = config
        for part in key.split("."):
            assert part in node, key
            node = node[part]
    assert set(re.findall(r"(?<!\S)--?[a-z][a-z-]*", text)) <= {*VERB.options, "--help"}
    listed = text[text.index("Presets") :]
    for group, options in presets.groups.items():
        shown = options if group != "teacher" else ["none"]
        assert all(re.search(rf"(?<![\w/]){re.escape(option)}(?![\w/])", listed) for option in shown), group


def main_help(capsys: Capture) -> str:
    """What `distill --help` prints."""
    main(["--help"])
    return capsys.readouterr().out


def test_helps_and_listings_import_no_torch(runs_dir: Path) -> None:
    script = f"""
        import sys
        from distill.cli import VERBS, main
        commands = [["--help"], ["--version"], *([verb, "--help"] for verb in VERBS)]
        commands += [[verb, "runs_dir={runs_dir}"] for verb in ("ls", "table")]
        for command in commands:
            assert main(command) == 0, command
            loaded = {{"torch", "torchvision", "timm", "hydra", "scipy", "numpy"}} & set(sys.modules)
            assert not loaded, (command, loaded)
        for command in (["evaluate"], ["evaluate", "run=abc", "runs_dir={runs_dir}"], ["models", "datset=x"]):
            assert main(command) == 2, command
        sys.exit("torch" if "torch" in sys.modules else 0)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["trian"], "did you mean 'train'?"),
        (["tabel", "--help"], "did you mean 'table'?"),
        (["xyz"], "the verbs are train, evaluate, ls, "),
        (["dataset=digits"], "the verbs are"),
    ],
)
def test_an_unknown_verb_is_refused(words: list[str], hint: str, capsys: Capture) -> None:
    assert main(words) == REFUSED
    told = capsys.readouterr()
    assert (told.out, told.err.splitlines()) == ("", [told.err.strip()])
    assert f"distill {words[0]}: there is no such verb: " in told.err
    assert hint in told.err


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["--completion", "bash"]], ids=" ".join)
def test_a_reader_that_has_gone_is_no_accident(words: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "distill", *words]
    try:
        done = subprocess.run(command, cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


class Closed:
    """A stdout whose reader has gone."""

    def write(self, text: str) -> int:
        raise BrokenPipeError

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return False


def test_training_stops_without_a_trace_when_its_reader_has_gone(
    runs_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    words = [
        "train",
        "dataset=synthetic",
        "dataset.train_size=20",
        "dataset.image_size=8",
        "student=resnet8",
        "loss=ce",
    ]
    monkeypatch.setattr(sys, "stdout", Closed())
    with pytest.raises(SystemExit) as stopped:
        main([*words, "recipe.epochs=1", f"runs_dir={runs_dir}"])
    assert stopped.value.code == 1
    assert capsys.readouterr().err == ""


def test_evaluate_and_export_take_a_folder_with_classes_of_ones_own(tmp_path: Path) -> None:
    for verb in (EVALUATE, EXPORT):
        line = parse(["run=abc", "--config-dir", str(tmp_path)], verb)
        assert (line.config_dir, line.faults) == (tmp_path, [])
