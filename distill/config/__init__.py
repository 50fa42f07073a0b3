"""Turns presets and overrides into checked run plans. Only this package and execution/jobs.py import Hydra."""

import os
from pathlib import Path


def configs_dir() -> Path:
    """The folder of shipped presets: `distill/configs` in a wheel, the checkout's top-level `configs` otherwise."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "configs"
    if installed.is_dir():
        return installed
    checkout = package.parent
    if (checkout / "pyproject.toml").is_file() and (checkout / "configs").is_dir():
        return checkout / "configs"
    raise FileNotFoundError("the presets that belong to distill are missing: install the package again")


def preset_files(group: str, config_dir: Path | None) -> dict[str, Path]:
    """The files of a group's presets by name (`kd`, `ablation/mean_only`), shipped ones and those in `config_dir`.

    As in Hydra, a shipped file takes the place of the user's of the same name, links to folders are followed, and
    `.yml` files are left out.
    """
    found: dict[str, Path] = {}
    for folder in [each / group for each in (configs_dir(), config_dir) if each is not None]:
        paths = [Path(at, name) for at, _, names in os.walk(folder, followlinks=True) for name in names]
        for path in sorted(path for path in paths if path.suffix == ".yaml"):
            found.setdefault(path.relative_to(folder).with_suffix("").as_posix(), path)
    return found
