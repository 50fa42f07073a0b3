"""Provenance names the code and the machine's kind, and nothing personal."""

import json
import os
import platform
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from distill.runs import provenance


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """The checkout is looked up once per process; every test looks anew."""
    provenance._checkout.cache_clear()
    yield
    provenance._checkout.cache_clear()


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "init.defaultBranch=main"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    done = subprocess.run(
        ["git", *identity, *arguments],
        cwd=folder,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository that tracks a copy of the module, which now believes to lie there."""
    package = tmp_path / "distill" / "runs"
    package.mkdir(parents=True)
    (package / "provenance.py").write_text("")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "x")
    monkeypatch.setattr(provenance, "__file__", str(package / "provenance.py"))
    return tmp_path


def test_what_is_collected() -> None:
    found = provenance.collect("cpu", precision="bf16", teacher={"run_id": "abc"})
    assert found["versions"]["python"] == platform.python_version()
    assert found["versions"]["torch"] == torch.__version__
    assert {"torchvision", "timm", "numpy", "hydra"} <= found["versions"].keys()
    assert found["threads"] == torch.get_num_threads()
    assert found["isa"] == torch.backends.cpu.get_cpu_capability()
    assert found["device"] not in ("", "cpu")
    assert found["precision"] == "bf16"
    assert found["teacher"] == {"run_id": "abc"}
    assert {"commit", "dirty"} <= found.keys()


def test_nothing_personal_is_collected(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("USER", "LOGNAME", "USERNAME"):
        monkeypatch.setenv(name, "a-users-name")
    monkeypatch.setattr(socket, "gethostname", lambda: "a-hosts-name")
    monkeypatch.setattr(platform, "node", lambda: "a-hosts-name")
    text = json.dumps(provenance.collect())
    assert str(Path.home()) not in text
    assert os.sep + "work" not in text
    assert str(Path(provenance.__file__).parents[2]) not in text
    assert "a-hosts-name" not in text
    assert "a-users-name" not in text


def test_the_commit_and_the_dirty_flag_of_the_checkout(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_DIR", str(checkout / "elsewhere"))  # as inside a hook of another repository
    found = provenance.collect()
    assert found["commit"] == git(checkout, "rev-parse", "HEAD")
    assert found["dirty"] is False
    provenance._checkout.cache_clear()
    (checkout / "distill" / "new.py").write_text("")
    assert provenance.collect()["dirty"] is True


def test_an_installation_inside_somebody_elses_checkout_has_no_commit(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = checkout / ".venv" / "provenance.py"
    installed.parent.mkdir()
    installed.write_text("")
    monkeypatch.setattr(provenance, "__file__", str(installed))
    found = provenance.collect()
    assert (found["commit"], found["dirty"]) == (None, None)


def test_without_git_there_is_no_commit(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(checkout))
    found = provenance.collect()
    assert (found["commit"], found["dirty"]) == (None, None)


def test_a_resume_under_other_conditions_says_what_changed() -> None:
    then = provenance.byte_conditions("cpu", engine="eager")
    assert provenance.why_bytes_differ(then, provenance.byte_conditions("cpu", engine="eager")) is None
    now = then | {"threads": "7", "engine": "captured"}
    sentence = provenance.why_bytes_differ(json.loads(json.dumps(then)), now)
    assert sentence is not None
    assert f"threads was {then['threads']}, is 7" in sentence
    assert "engine was eager, is captured" in sentence
    assert "isa" not in sentence
