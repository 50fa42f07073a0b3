"""A sweep under Slurm, each run trained by two tasks.

It needs a running cluster (slurmctld, slurmd and munge on the loopback will do) and the extra `launchers`, and is run
by hand: `pytest -m slurm tests/processes/test_slurm.py`.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from process_lab import DISTILLED, environment

SLURM = ("hydra/launcher=submitit_slurm", "hydra.launcher.tasks_per_node=2", "hydra.launcher.cpus_per_task=1")


@pytest.mark.slurm
def test_a_sweep_whose_runs_are_trained_by_two_tasks_each(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "distill", *DISTILLED, "-m", *SLURM, "seed=1,2", "hydra.launcher.timeout_min=10"]
    variables = {**environment(), "SLURM_CONF": os.environ.get("SLURM_CONF", "/etc/slurm/slurm.conf")}
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 of 2 runs finished" in done.stdout
    records = [json.loads(path.read_text()) for path in tmp_path.glob("runs/*/provenance.json")]
    assert [record["step"]["processes"] for record in records] == [2, 2, 2]  # the teacher, trained once, and both runs
    assert len([*tmp_path.glob("runs/*/result.json")]) == 3
