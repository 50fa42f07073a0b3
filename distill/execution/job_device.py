"""Jobs of a sweep that other launchers run in processes of their own, spread over the GPUs of the machine."""

from typing import Any

import torch
from omegaconf import DictConfig

ONE_PROCESS = {"basic", "cohort"}  # launchers whose jobs come one by one, or side by side, in this process


def spread(config: DictConfig, hydra: Any) -> None:
    """Sets `engine.device=auto` of one job to the GPU of its number, where there are several.

    By number and not by CUDA_VISIBLE_DEVICES: joblib uses its processes again, and a process that has seen its GPUs
    does not look at the variable any more. Where a scheduler shows each job the GPUs it may use, there is one.
    """
    if hydra.runtime.choices.get("hydra/launcher", "basic") in ONE_PROCESS or config.engine.device != "auto":
        return
    gpus = torch.cuda.device_count()
    if gpus > 1:
        config.engine.device = f"cuda:{hydra.job.num % gpus}"
