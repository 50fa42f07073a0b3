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
    """`hydra.launcher.size`: how many runs train side by side at most; null: as many as the memory allows, up to 16."""

    _target_: str = "hydra_plugins.distill_cohort.launcher.CohortLauncher"
    size: int | None = None


ConfigStore.instance().store(group="hydra/launcher", name="cohort", node=CohortConfig, provider="distill")


class CohortLauncher(Launcher):
    """Hands a sweep's jobs to `distill.execution.cohort`."""

    def __init__(self, size: int | None) -> None:
        self._size = size

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra before `launch`."""
        self._context, self._task, self._config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run all jobs; one return a job, in their order."""
        from distill.execution.cohort import launch

        load = self._context.config_loader.load_sweep_config
        configs = [load(self._config, list(overrides)) for overrides in job_overrides]
        return launch(configs, self._task, size=self._size)
