"""A report of made-up networks: no training, numbers known."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distill.report.measuring import files_of
from distill.report.runs import Images, Outputs, Report, ReportedRun, make_report
from distill.report.sections.embedding import shown_images
from distill.runs.store import RunRecord

CLASSES = 4
NAMES = ("ant", "bee", "cat & dog", "<dog>")


def made_run(
    run_id: str, *, loss: str, terms: tuple[str, ...] = ("ce",), seed: int = 1, **loss_node: Any
) -> ReportedRun:
    """A finished run of three epochs, of a student that was not evaluated."""
    names = {"dataset": "arrays npz=/home/somebody/data.npz", "student": "resnet8", "loss": loss, "recipe": "demo"}
    result = {
        "run_id": run_id,
        "parameters": 1234,
        "epochs": 3,
        "seconds": 1234.5,
        "split": "test",
        "classes": CLASSES,
        "last": {"epoch": 3, "accuracy": 60.0, "loss": 1.0},
        "best": {"epoch": 2, "accuracy": 61.0, "loss": 1.0},
        "weights_sha256": run_id * 4,
    }
    record = RunRecord(
        path=Path("runs", run_id),
        run_id=run_id,
        status="finished",
        names=names,
        config={"loss": {"_target_": "x", **loss_node}, "dataset": {"npz": f"/{run_id}.npz"}, "seed": seed},
        identity={"seed": seed, "precision": "fp32"},
        result=result,
        failure=None,
    )
    history = tuple(
        {
            "epoch": epoch,
            "train": {"accuracy": 20.0 * epoch, "loss": 2.0 / epoch, **dict.fromkeys(terms, 2.0 / epoch / len(terms))},
            "test": {"accuracy": accuracy, "loss": 1.5 / epoch},
            "learning_rate": 0.1,
        }
        for epoch, accuracy in enumerate((30.0, 61.0, 60.0), start=1)
    )
    return ReportedRun(record, history, {"commit": "abc", "versions": {"torch": "2.15"}})


@pytest.fixture(scope="session")
def make_run() -> Callable[..., ReportedRun]:
    """`made_run`, for tests."""
    return made_run


@pytest.fixture(scope="session")
def images() -> Images:
    """80 small images of four classes."""
    random = np.random.default_rng(0)
    labels = np.arange(80) % CLASSES
    pixels = random.integers(0, 255, (80, 8, 8, 3), dtype=np.uint8)
    return Images(pixels, labels, NAMES, "test", shown_images(labels, classes=CLASSES))


def evaluated(
    found: ReportedRun, images: Images, *, size: float, noise: float, seed: int, terms: tuple[str, ...] = ()
) -> ReportedRun:
    """A run whose network leans to the right class, with logits of about `size` and gradient norms of `terms`."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, noise, (len(images.labels), CLASSES)) + np.eye(CLASSES)[images.labels]
    embeddings = random.normal(0, 1, (len(images.embedded), 5)) + 3 * images.labels[images.embedded, None]
    history = tuple({**line, "gradient_norms": dict.fromkeys(terms, 0.5 / line["epoch"])} for line in found.history)
    outputs = Outputs((size * logits).astype(np.float32), embeddings.astype(np.float32))
    return ReportedRun(found.record, history, found.provenance, outputs)


@pytest.fixture(scope="session")
def whole(images: Images) -> Report:
    """A student by zscore_kd against ce and kd, with their teacher."""
    run = made_run("aaaa", loss="zscore_kd", terms=("ce", "kd"), temperature=2.0)
    ce, kd = made_run("bbbb", loss="ce"), made_run("cccc", loss="kd temperature=4", terms=("ce", "kd"), temperature=4.0)
    teacher = made_run("dddd", loss="ce", seed=0)
    return make_report(
        evaluated(run, images, size=0.5, noise=0.5, seed=1, terms=("ce", "kd")),
        [
            evaluated(ce, images, size=4, noise=0.7, seed=2, terms=("ce",)),
            evaluated(kd, images, size=4, noise=0.6, seed=3, terms=("ce", "kd")),
        ],
        evaluated(teacher, images, size=5, noise=0.4, seed=4),
        images=images,
    )


@pytest.fixture(scope="session")
def files(whole: Report) -> dict[str, str]:
    """The files of its report."""
    return files_of(whole)
