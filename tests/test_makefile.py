"""What `make` promises on a fresh machine: one installation, a sentence for an old Python, offline tests."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Stands for python3: passes the version check and makes an environment whose programs only log their calls.
FAKE_PYTHON = """#!/bin/sh
log() { printf '#!/bin/sh\\necho "%s $*" >> "$LOG"\\n' "$1" > ".venv/bin/$1"; chmod +x ".venv/bin/$1"; }
case "$1" in
  -c) exit "${TOO_OLD:-0}" ;;
  -m) mkdir -p .venv/bin; for program in python pytest distill ruff mypy; do log "$program"; done ;;
esac
"""


class Checkout:
    """A folder with the project's Makefile and a python3 that installs nothing."""

    def __init__(self, path: Path) -> None:
        self.path, self.log = path, path / "log"
        for name in ("Makefile", "pyproject.toml", ".ci/constraints.txt"):
            (path / name).parent.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, path / name)
        self.python = path / "fake-python"
        self.python.write_text(FAKE_PYTHON)
        self.python.chmod(0o755)

    def make(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run make in the checkout."""
        keep = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "ARGS", "PYTHON")}
        return subprocess.run(
            ["make", *words, f"PYTHON={self.python}"],
            cwd=self.path,
            env=keep | {"LOG": str(self.log)} | env,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def calls(self) -> list[str]:
        """What the environment's programs were asked to do since the last question."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return lines


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    if shutil.which("make") is None:
        pytest.skip("needs make")
    return Checkout(tmp_path)


def test_bare_make_lists_every_target(checkout: Checkout) -> None:
    listed = checkout.make().stdout
    (phony,) = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {"demo", "test", "bench"} < set(phony.split())
    for target in phony.split():
        assert f"make {target} " in listed
    assert checkout.calls() == []


def test_the_second_call_installs_nothing(checkout: Checkout) -> None:
    assert checkout.make("env").returncode == 0
    (install,) = checkout.calls()
    assert "pip install" in install
    assert "-c .ci/constraints.txt" in install
    assert checkout.make("test").returncode == 0
    assert checkout.calls() == ["pytest -n 2 --dist loadfile"]


def test_new_constraints_install_again(checkout: Checkout) -> None:
    checkout.make("env")
    checkout.calls()
    later = time.time() + 10
    os.utime(checkout.path / ".ci/constraints.txt", (later, later))
    checkout.make("env")
    assert len(checkout.calls()) == 1


def test_a_broken_installation_is_taken_up_again(checkout: Checkout) -> None:
    checkout.python.write_text(FAKE_PYTHON.replace("esac", "esac; rm -f .venv/bin/python"))
    assert checkout.make("env").returncode != 0
    checkout.python.write_text(FAKE_PYTHON)
    assert checkout.make("env").returncode == 0
    assert len(checkout.calls()) == 1


def test_the_demo_is_two_commands(checkout: Checkout) -> None:
    assert checkout.make("demo").returncode == 0
    assert checkout.calls()[1:] == ["distill train sweep=demo", "distill table dataset=digits"]


def test_arguments_reach_pytest(checkout: Checkout) -> None:
    checkout.make("env")
    checkout.calls()
    checkout.make("test", "ARGS=-k wheel -x")
    assert checkout.calls() == ["pytest -n 2 --dist loadfile -k wheel -x"]


def test_an_old_python_is_refused_in_a_sentence(checkout: Checkout) -> None:
    refused = checkout.make("env", TOO_OLD="1")
    assert refused.returncode != 0
    assert "needs Python 3.11 or newer" in refused.stderr
    assert not (checkout.path / ".venv").exists()


def test_the_tests_have_no_network() -> None:
    with pytest.raises(BaseException, match="offline"):
        socket.create_connection(("192.0.2.1", 80), timeout=1)
    with pytest.raises(BaseException, match="offline"):
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open("http://example.org", timeout=1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname(), timeout=5).close()


def test_a_child_process_has_no_network() -> None:
    code = "import urllib.request as r; r.urlopen('http://example.org', timeout=5)"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert child.returncode != 0
    assert "refused" in child.stderr
