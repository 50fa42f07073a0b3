"""`hydra/launcher=cohort`: the jobs of a sweep side by side in one process."""

from collections.abc import Sequence
from dataclasses import dataclass

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@dataclass
class CohortConfig:
    """`hydra.launcher.size`: how many runs train side by side at most."""

    _target_: str = "hydra_plugins.distill_cohort.launcher.CohortLauncher"
    size: int = 8


ConfigStore.instance().store(group="hydra/launcher", name="cohort", node=CohortConfig, provider="distill")


class CohortLauncher(Launcher):
    """Runs the jobs of a sweeper of one's own; without one `distill train` starts the cohorts itself."""

    def __init__(self, size: int) -> None:
        self._size = size

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra before `launch`."""
        self._context, self._task, self._config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run all jobs; returns one result a job, in their order."""
        from distill.execution.jobs import launch  # Hydra imports every launcher, and torch takes seconds

        load = self._context.config_loader.load_sweep_config
        configs = [load(self._config, list(overrides)) for overrides in job_overrides]
        options = {key: self._task.keywords[key] for key in ("planned", "config_dir", "retry")}
        return launch(configs, size=self._size, **options)
