"""Turns presets and overrides into checked run plans. Only this package and execution/jobs.py import Hydra."""

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
