"""The conformance suite tests a method of one's own, as docs/extending.md says."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PRESET = """# Absolute differences of the logits.
# Paper: ours
# Run: distill train --config-dir my_presets loss=mine
_target_: distill.losses.SoftTargets
divergence: {_target_: my_losses.my_divergence, _partial_: true}
temperature: 4.0
ce_weight: 0.1
kd_weight: 0.9
alpha: null
"""
LOSS = """
def my_divergence(student_logits, teacher_logits, *, temperature):
    return (student_logits - teacher_logits).abs().mean() * temperature
"""
REFERENCE = """
from kd import cross_entropy


def reference(case):
    distance = abs(case.student.logits.numpy() - case.teacher.logits.numpy()).mean()
    return {"ce": 0.1 * cross_entropy(case), "kd": 0.9 * FACTOR * distance}
"""


@pytest.mark.slow
@pytest.mark.parametrize("factor", [4, 5])
def test_a_method_of_ones_own_is_held_against_its_reference(tmp_path: Path, factor: int) -> None:
    for name, text in (
        ("my_presets/loss/mine.yaml", PRESET),
        ("my_presets/references/mine.py", REFERENCE.replace("FACTOR", str(factor))),
        ("my_losses.py", LOSS),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    suite = Path(__file__).parent / "conformance"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", str(suite), "-q", "-k", "mine", "-p", "no:cacheprovider"],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "DISTILL_TEST_PRESETS": str(tmp_path / "my_presets"), "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == (0 if factor == 4 else 1), done.stdout + done.stderr
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    assert all("test_conformance_references.py" in line for line in failed)
    assert " passed" in done.stdout
