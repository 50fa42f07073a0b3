"""Completion: what is offered for a line, and the script in a real bash."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from distill.cli import VERBS
from distill.cli.arguments import FINISHED, REFUSED, parse
from distill.cli.completion import complete, main
from distill.runs.config_file import write_config

ROOT = Path(__file__).resolve().parents[2]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def store(runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two finished runs and one that is not."""
    for run_id, loss, temperature in (
        ("aaa111", "kd temperature=8", 8.0),
        ("abb222", "zscore_kd", 2.0),
        ("acc333", "ce", 1.0),
    ):
        names = {"dataset": "digits", "student": "resnet8", "teacher": "resnet20", "loss": loss, "recipe": "demo"}
        config = {
            "loss": {"_target_": "distill.losses.SoftTargets", "temperature": temperature},
            "recipe": {"epochs": 6, "schedule": {"gamma": 0.1}},
            "seed": 1,
        }
        run = runs_dir / f"resnet8-kd-s1-{run_id}"
        run.mkdir()
        content = {"run_id": run_id, "names": names, "config": config, "identity": {"seed": 1, "precision": "fp32"}}
        write_config(run, content)
        if run_id != "acc333":
            (run / "result.json").write_text("{}")
    monkeypatch.setenv("DISTILL_RUNS", str(runs_dir))
    return runs_dir


def after(line: str) -> set[str]:
    """What the last word of `distill LINE` may become."""
    return set(complete(f"distill {line}"))


@pytest.mark.parametrize(
    ("line", "candidates"),
    [
        ("", {*VERBS, "--help", "--version", "--completion"}),
        ("t", {"train", "table"}),
        ("--completion ", {"bash"}),
        ("tran ", set()),
        ("train los", {"loss="}),
        ("train loss=zscore_k", {"loss=zscore_kd", "loss=zscore_kd_paper", "loss=zscore_kd_w09"}),
        (
            "train -m loss=ce,kd,zscore_k",
            {"loss=ce,kd,zscore_kd", "loss=ce,kd,zscore_kd_paper", "loss=ce,kd,zscore_kd_w09"},
        ),
        ("train loss=ce,ce", set()),  # chosen already
        ("train experiment=cifar100/resnet110_resnet2", {"experiment=cifar100/resnet110_resnet20"}),
        ("train experiment=d", {"experiment=demo"}),
        ("train dataset.npz=", set()),  # bash completes file names then
        ("train --c", {"--cfg", "--config-dir"}),
        ("train --cfg ", {"job"}),
        ("ls --format ", {"terminal", "markdown", "latex", "csv", "json", "html"}),
        ("ls loss=zscore_kd_", {"loss=zscore_kd_paper", "loss=zscore_kd_w09"}),
        ("table --format=l", {"--format=latex"}),
        ("table --b", {"--baseline"}),
        ("table table=cifar100_s", {"table=cifar100_same", "table=cifar100_small"}),
        ("fill table=cifar100_sm", {"table=cifar100_small"}),
        ("fill b", {"budget="}),
        ("fill --", {"--config-dir", "--plan", "--retry", "--help"}),
        ("models student=resnet8x", {"student=resnet8x4"}),
        ("models dataset=cifar10", {"dataset=cifar10", "dataset=cifar100"}),
        ("import resnet8.pth student=resnet8x", {"student=resnet8x4"}),
        ("losses loss=kd,zscore_dist", {"loss=kd,zscore_dist"}),
        ("evaluate pre", {"precision="}),
        ("export --format=o", {"--format=onnx"}),
        ("export --dtype ", {"fp32", "fp16"}),
        ("report ag", {"against="}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_verbs_keys_options_and_presets(line: str, candidates: set[str]) -> None:
    assert after(line) == candidates


@pytest.mark.parametrize(
    ("line", "candidates"),
    [
        ("evaluate run=a", {"run=aaa111", "run=abb222"}),
        ("evaluate run=resnet8-kd-s1-ab", {"run=resnet8-kd-s1-abb222"}),
        ("report run=aaa111 against=aaa111,ab", {"against=aaa111,abb222"}),
        ("export run=a", {"run=aaa111", "run=abb222"}),
        ("train teacher.run=ab", {"teacher.run=abb222"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_finished_runs(store: Path, line: str, candidates: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert after(line) == candidates
    monkeypatch.setenv("DISTILL_RUNS", str(store / "nowhere"))
    assert after(line) == set()
    verb, _, rest = line.partition(" ")
    assert after(f"{verb} runs_dir={store} {rest}") == candidates


def test_presets_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "loss").mkdir()
    (tmp_path / "loss" / "mine.yaml").write_text("_target_: distill.losses.CrossEntropy\nown_weight: 1.0\n")
    assert after(f"train --config-dir {tmp_path} loss=min") == {"loss=mine"}
    assert after(f"train --config-dir={tmp_path} loss=min") == {"loss=mine"}


@pytest.mark.parametrize("verb", ["ls", "table", "evaluate", "models", "export", "report"])
def test_every_key_and_option_offered_is_taken(store: Path, verb: str) -> None:
    from importlib import import_module

    declared = import_module(f"distill.cli.{verb}").VERB
    words = [f"{key}x" for key in after(f"{verb} ") if key.endswith("=") and not declared.arguments[key[:-1]].choices]
    assert len(words) >= 3
    assert not [fault for fault in parse(words, declared).faults if "two places" not in fault.text]
    assert after(f"{verb} --") == {*declared.options, "--help"}


def test_every_option_offered_is_taken_by_train() -> None:
    from distill.cli.train import VERB

    offered = after("train -")
    assert {"--cfg", "--config-dir", "--retry", "--multirun", "-m", "--help"} <= offered
    values = {"--cfg": "--cfg=job", "-c": "-c=job", "--config-dir": "--config-dir=."}
    assert not parse([values.get(word, word) for word in offered if word != "--help"], VERB).faults


BASH = r"""
eval "$(distill --completion bash)"
complete -p distill
ask() {  # the line, then the words as bash splits them, the last one being completed
    COMP_LINE=$1; COMP_POINT=${#1}; shift
    COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 ))
    COMPREPLY=(); _distill
    echo "$COMP_LINE -> ${COMPREPLY[*]}"
}
ask "distill tr" distill tr
ask "distill train experiment=cifar100/resnet110_resnet2" distill train experiment = cifar100/resnet110_resnet2
ask "distill train -m loss=ce,kd_s" distill train -m loss = ce,kd_s
ask "distill train recipe=cifar_s" distill train recipe = cifar_s
ask "distill evaluate run=ab" distill evaluate run = ab
COMP_WORDBREAKS=${COMP_WORDBREAKS//=}
ask "distill table --format=ma" distill table --format=ma
COMP_LINE="distill ls --form | wc"; COMP_POINT=17; COMP_WORDS=(distill ls --form); COMP_CWORD=2
_distill distill --form ls; echo "${COMPREPLY[*]}"
"""


def test_the_script_in_bash(store: Path, tmp_path: Path) -> None:
    program = tmp_path / "bin" / "distill"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m distill "$@"\n')
    program.chmod(0o755)
    search = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": search, "PYTHONPATH": str(ROOT), "STORE": str(store)}
    command = ["bash", "--norc", "-c", BASH]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == textwrap.dedent("""\
        complete -o default -F _distill distill
        distill tr -> train
        distill train experiment=cifar100/resnet110_resnet2 -> cifar100/resnet110_resnet20
        distill train -m loss=ce,kd_s -> ce,kd_soft_only
        distill train recipe=cifar_s -> cifar_short
        distill evaluate run=ab -> abb222
        distill table --format=ma -> --format=markdown
        --format
    """)


def test_completion_imports_neither_torch_nor_hydra() -> None:
    script = """
        import sys
        from distill.cli.completion import complete
        assert complete("distill train loss=z")
        assert complete("distill table --format ") and complete("distill models student=re")
        heavy = {"torch", "hydra", "omegaconf", "scipy", "numpy"} & set(sys.modules)
        sys.exit(str(heavy) if heavy else 0)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("words", [["--completion"], ["--completion", "bsh"]])
def test_another_shell_is_refused(words: list[str], capsys: Capture) -> None:
    assert main(words) == REFUSED
    assert "bash" in capsys.readouterr().err


def test_the_script_says_how_to_install_it(capsys: Capture) -> None:
    assert main(["--completion", "bash"]) == FINISHED
    assert 'eval "$(distill --completion bash)"' in capsys.readouterr().out
