"""The wheel stands on its own: built without isolation, installed out of sight of the checkout, run there."""

import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def build(kind: str, root: Path, out: Path) -> Path:
    """Build a wheel or sdist of the project in `root` with the backend installed here; no index is asked."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(out)]
    built = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60)
    assert built.returncode == 0, built.stdout + built.stderr
    (archive,) = out.iterdir()
    return archive


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("sdist", ROOT, tmp_path_factory.mktemp("sdist"))


@dataclass(frozen=True)
class Installation:
    """The wheel in an environment of its own, and a folder to work in that has an unrelated configs/."""

    bin: Path
    folder: Path

    def run(self, program: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment in the folder, with nothing of this process's Python settings."""
        hidden = ("PYTHON", "DISTILL", "HYDRA", "VIRTUAL_ENV")
        env = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
        command = [str(self.bin / program), *words]
        return subprocess.run(command, cwd=self.folder, env=env, capture_output=True, text=True, timeout=120)

    def files(self) -> set[str]:
        """The files in the folder."""
        return {path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """Installed here means visible there, by path alone: no .pth file among them (the checkout's) is read."""
    top = tmp_path_factory.mktemp("installed")
    folder = top / "elsewhere"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(top / "env")], check=True, timeout=60)
    python = top / "env/bin/python"
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "--no-deps",
        "--no-index",
        str(wheel),
    ]
    subprocess.run(pip, check=True, capture_output=True, timeout=60)
    (own,) = (top / "env/lib").glob("python*/site-packages")
    packages = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (own / "installed_packages.pth").write_text("\n".join(packages))
    for poisoned in ("configs/train.yaml", "configs/loss/kd.yaml", "configs/loss/stray.yaml"):
        (folder / poisoned).parent.mkdir(parents=True, exist_ok=True)
        (folder / poisoned).write_text("poisoned: true\n")
    return Installation(top / "env/bin", folder)


def test_the_wheel_holds_every_module_and_preset(wheel: Path) -> None:
    packages = (ROOT / "distill", ROOT / "hydra_plugins")
    paths = [
        path for top in packages for path in top.rglob("*") if path.suffix in (".py", ".css", ".js", ".html", ".md")
    ]
    modules = {path.relative_to(ROOT).as_posix() for path in paths}
    presets = {f"distill/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "configs").rglob("*.yaml")}
    assert "distill/configs/train.yaml" in presets
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        assert any(name.endswith(".dist-info/licenses/LICENSE") for name in archive.namelist())
    assert names == modules | presets


def test_the_sdist_builds_the_same_wheel(wheel: Path, sdist: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (tree,) = tmp_path.iterdir()
    for needed in ("Makefile", "README.md", "LICENSE", ".ci/constraints.txt", "tests/conftest.py"):
        assert (tree / needed).is_file(), needed
    again = build("wheel", tree, tmp_path / "dist")
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(again) as other:
        assert sorted(one.namelist()) == sorted(other.namelist())


def test_the_installed_package_is_not_the_checkout(installed: Installation) -> None:
    code = "import os, distill; print(os.path.dirname(distill.__file__), distill.__version__, sep='\\n')"
    told = installed.run("python", "-c", code)
    assert told.returncode == 0, told.stderr
    package, version = told.stdout.splitlines()
    assert Path(package).is_relative_to(installed.bin.parent)
    assert (Path(package) / "configs/train.yaml").is_file()
    assert f'version = "{version}"' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize("call", [("distill",), ("python", "-m", "distill")], ids=" ".join)
def test_both_entries_give_help(installed: Installation, call: tuple[str, ...]) -> None:
    told = installed.run(*call, "--help")
    assert told.returncode == 0, told.stderr
    assert "train" in told.stdout
    assert "table" in told.stdout


COMPOSE = """
import contextlib, io, json, sys
from distill.cli import main
told = []
for words in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        told.append([main(words), out.getvalue()])
print(json.dumps(told))
"""


def compose(installed: Installation, *commands: tuple[str, ...]) -> list[tuple[int, str]]:
    """Code and output of `distill train ... --cfg job` for each command, all in one process."""
    words = json.dumps([["train", *command, "--cfg", "job"] for command in commands])
    told = installed.run("python", "-c", COMPOSE, words)
    assert told.returncode == 0, told.stderr
    return [(code, out) for code, out in json.loads(told.stdout)]


def test_presets_are_those_of_the_package_and_of_config_dir_and_not_of_the_current_folder(
    installed: Installation, tmp_path: Path
) -> None:
    preset = (ROOT / "configs/loss/kd.yaml").read_text()
    mine, changed = re.subn(r"^temperature: .*$", "temperature: 3.25", preset, flags=re.MULTILINE)
    assert changed == 1
    (tmp_path / "loss").mkdir()
    (tmp_path / "loss/mine.yaml").write_text(mine)
    before = installed.files()
    own = ("--config-dir", str(tmp_path), "loss=mine")
    (code, plain), (refused, nothing), (ours, composed) = compose(installed, (), ("loss=stray",), own)
    assert (code, refused, ours) == (0, 2, 0)
    assert "poisoned" not in plain
    assert "resnet8" in plain
    assert nothing == ""
    assert "temperature: 3.25" in composed
    assert installed.files() == before
