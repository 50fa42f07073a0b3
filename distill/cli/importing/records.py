"""The files of a run made of somebody else's weights."""

from typing import Any

from distill.cli.importing.folder import now
from distill.cli.importing.imported import METHOD, PRECISION, Imported
from distill.runs.provenance import collect
from distill.training import Evaluation

CLAIMED = f"{METHOD} accuracy=claimed"  # what tables and listings call a run of which nothing is measured


def config_of(made: Imported, found: Evaluation | None) -> dict[str, Any]:
    """`config.yaml`; there is no objective and no recipe that anybody here could know of."""
    names = {**made.parts.names, "teacher": "none", "loss": CLAIMED if found is None else METHOD, "recipe": METHOD}
    config = {
        "seed": 0,
        "precision": PRECISION,
        "teacher": None,
        "dataset": made.parts.nodes["dataset"],
        "student": made.parts.nodes["student"],
        "loss": None,
        "recipe": None,
    }
    return {"run_id": made.run_id, "names": names, "config": config, "identity": made.identity}


def provenance_of(made: Imported, found: Evaluation | None) -> dict[str, Any]:
    """`provenance.json`: this process, the file and what it says of itself."""
    measured = None if found is None else found.accuracy
    source = {**made.checkpoint.metadata, "measured": measured}
    return {
        **collect(made.device, precision=PRECISION, teacher=None, imported=source),
        "started": now(),
        "sessions": [],
    }


def result_of(made: Imported, found: Evaluation | None) -> dict[str, Any]:
    """`result.json` as training writes it: the weights there are stand for the last epoch and for the best."""
    claim = made.checkpoint.claim
    epoch = made.checkpoint.epoch or 0
    claimed = {} if claim is None else {"accuracy": claim.accuracy}
    accuracy = {"epoch": epoch, **(claimed if found is None else found.as_dict())}
    return {
        "run_id": made.run_id,
        "finished": now(),
        "seconds": 0.0,
        "parameters": sum(parameter.numel() for parameter in made.network.parameters()),
        "epochs": epoch,
        "split": "test",
        "last": accuracy,
        "best": accuracy,
        "precision": PRECISION,
        "classes": made.classes,
        "image_size": made.image_size,
        "teacher": None,
        "imported": {
            "accuracy": "claimed" if found is None else "measured",
            "claimed": None if claim is None else claim.accuracy,
            "claimed_as": None if claim is None else claim.key,
        },
        "weights_sha256": made.sha256,
    }
