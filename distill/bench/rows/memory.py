"""Peak memory: a process of its own for every variant, since a peak cannot be told apart from an earlier one's."""

import json
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import asdict

from distill.bench.figure import Figure, Note
from distill.bench.lab import Lab
from distill.bench.pair import plan_pair
from distill.bench.rows.steps import LIVE, TABLE, of_steps
from distill.bench.settings import Settings
from distill.teachers import Teacher
from distill.training import evaluate
from distill.training.memory import forget_peak, peak_memory

PEER = "peer"
# key: students, whether they read a table, what it is
OURS = {
    "memory.live": (1, False, "peak memory, live teacher"),
    "memory.table": (1, True, "peak memory, table"),
    "memory.cohort4": (4, False, "peak memory of 4 students, live teacher"),
}
STEPS = 3
LIMIT = 600  # seconds


def peaks(lab: Lab, note: Note) -> list[Figure]:
    """Steps of KD and an evaluation: resident memory of the process on a CPU, torch's peak on a GPU."""
    peak = {variant: _of_child(variant, lab.settings) for variant in (PEER, *OURS)}
    missing = [variant for variant, found in peak.items() if found is None]
    if missing:
        note(f"this system does not tell the peak memory of {', '.join(missing)}")
        return []
    found = {variant: float(value) for variant, value in peak.items() if value is not None}
    return [
        Figure(key, label, "process", TABLE if table else LIVE, (found[key],), (found[PEER],), "bytes")
        for key, (_, table, label) in OURS.items()
    ]


def peak_of(variant: str, settings: Settings) -> int | None:
    """Bytes at the peak of a few steps and an evaluation in this process."""
    lab = Lab(plan_pair(settings), settings)
    if variant == PEER:
        peer = lab.peer()
        forget_peak(lab.device)
        peer.train(iter(lab.train_loader(lab.pool)), STEPS)
        peer.validate(lab.validation_loader)
        return peak_memory(lab.device)
    students, reads_table, _ = OURS[variant]
    data = lab.steps(STEPS)
    teacher: Teacher = lab.table(data) if reads_table else lab.live()
    members = lab.cohort(data, teacher, students)
    with ExitStack() as stack:
        window = of_steps("ours", members, STEPS, stack, lab=lab)
        forget_peak(lab.device)
        window.prepare()
        window.run()
        evaluate(members[0].student, lab.evaluation(lab.data), precision=lab.precision)
        return peak_memory(lab.device)


def _of_child(variant: str, settings: Settings) -> int | None:
    command = [sys.executable, "-m", "distill.bench.child", variant, json.dumps(asdict(settings))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise RuntimeError(f"the process that measures the memory of {variant} failed: {reason}")
    peak: int | None = json.loads(done.stdout.splitlines()[-1])
    return peak
