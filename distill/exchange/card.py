"""The model card of an export: what the network is, how accurate, what it reads, and how to load it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from distill.config.build import build_network
from distill.config.check import resolve, signature
from distill.config.faults import Refused
from distill.config.rebuild import NETWORKS, WITHOUT_DOWNLOAD
from distill.exchange.forms import Source
from distill.runs.escapes import escaped
from distill.runs.files import StorageError, read_json
from distill.runs.layout import PROVENANCE, STUDENT_EMA
from distill.tables.values import dataset_name, flatten, preset_name, to_text

TEMPLATE = Path(__file__).with_name("card.md")
_LAST_EPOCH = (
    "The exported weights are those of the last epoch. The best epoch was chosen on the images that measure it, so its "
    "accuracy is too high by construction."
)
_AVERAGED = (
    "The exported weights are the exponential moving average of those of training, after the last epoch; the run's own "
    "accuracy is that of its last weights."
)
_CLAIMED = "The accuracy was stated by the file that these weights were imported from. It has not been measured here."
_IMPORTED = "The weights were imported; the accuracy was measured with them."
_RESTORED = (
    "The run was restored from weights that differ from those it recorded (rounded, as a rule). Its accuracies are the "
    "recorded ones; they were not measured again."
)


def card(source: Source, facts: Mapping[str, Any], written: Sequence[Any], rounded: object, *, reason: str) -> str:
    """The text of README.md.

    Args:
        source: the run and its network.
        facts: the content of export.json.
        written: the models, each with `form`, `file`, `title`, `agreement` and `sha256`.
        rounded: what rounding to fp16 changed, None if nothing was rounded.
        reason: why the images of the checks are synthetic, empty if they are not.
    """
    record, normalise = source.record, source.network.normalise
    assert record.result is not None
    names, config, result = record.names, record.config, record.result
    dataset = dataset_name(str(names.get("dataset", "?")))
    accuracies, how_to_read = scores(result)
    if record.weights == STUDENT_EMA:
        accuracies, how_to_read = {"accuracy, averaged weights": next(iter(accuracies.values()))}, _AVERAGED
    rows = {
        "run": f"{record.run_id} (the digest of everything that can change its numbers)",
        "network": f"{names.get('student', '?')} (`{config['student'].get('_target_')}`)",
        "parameters": f"{facts['parameters']:,}",
        "multiply-adds of one image": "not counted" if facts["macs"] is None else f"{facts['macs']:,}",
        "data set": f"{dataset}, {result['classes']} classes",
        "loss": _described(names.get("loss"), config.get("loss")),
        "teacher": _teacher(names, result),
        "recipe": _described(names.get("recipe"), config.get("recipe")),
        "seed": str(config.get("seed", "?")),
        "precision of training": str(record.identity["precision"]),
        **accuracies,
        "sha256 of the run's weights": f"`{result['weights_sha256']}`",
        **({} if rounded is None else {"fp16 in model.safetensors": str(rounded)}),
    }
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters["cell"] = _cell
    return environment.from_string(TEMPLATE.read_text()).render(
        student=preset_name(str(names.get("student", "?"))),
        loss=preset_name(str(names.get("loss", "?"))),
        dataset=dataset,
        rows=rows,
        how_to_read=how_to_read,
        averaged=record.weights == STUDENT_EMA,
        size=source.image_size,
        resize=record.identity["data"].get("resize"),
        mean=list(normalise.mean),
        std=list(normalise.std),
        classes=result["classes"],
        facts=facts,
        written=written,
        reason=reason,
        call=_constructor(source, result["classes"]),
        trained_with=_versions(_trained_with(record.path)),
        exported_with=_versions(facts["versions"]),
    )


def scores(result: Mapping[str, Any]) -> tuple[dict[str, str], str]:
    """Rows of the card's table from a run's `result.json`, and how to read them."""
    last, best = result["last"], result["best"]
    split = "held-out" if result["split"] == "holdout" else "test"
    counts = f" ({last['correct']} of {last['count']} {split} images)" if {"correct", "count"} <= last.keys() else ""
    accuracy = f"**{last['accuracy']:.2f} %**{counts}"
    imported = result.get("imported")
    if isinstance(imported, Mapping) and imported.get("accuracy") == "claimed":
        return {"accuracy": f"{accuracy}, not measured"}, _CLAIMED
    if isinstance(imported, Mapping):
        return {"accuracy": accuracy}, _IMPORTED
    rows = {
        "accuracy, last epoch": accuracy,
        "accuracy, best epoch": f"{best['accuracy']:.2f} % in epoch {best['epoch']}, chosen on the {split} images",
    }
    return rows, f"{_LAST_EPOCH} {_RESTORED}" if _only_recorded(result) else _LAST_EPOCH


def _only_recorded(result: Mapping[str, Any]) -> bool:
    """Whether a run was restored from other bytes than it recorded, without measuring their accuracy."""
    restored = result.get("restored")
    if not isinstance(restored, Mapping) or restored.get("measured") is not None:
        return False
    recorded = restored.get("recorded")
    return not isinstance(recorded, Mapping) or recorded.get("weights_sha256") != result["weights_sha256"]


def _described(name: Any, node: Any) -> str:
    """A preset's name and the values of its node."""
    values = flatten(node) if isinstance(node, Mapping) else {}
    shown = [
        f"{key} {to_text(value)}"
        for key, value in values.items()
        if value is not None and not key.rpartition(".")[2].startswith("_")
    ]
    return ": ".join([preset_name(str(name or "?")), *([", ".join(shown)] if shown else [])])


def _teacher(names: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    facts = result.get("teacher")
    if not isinstance(facts, Mapping):
        return "none"
    measured = facts.get("accuracy")
    accuracy = f", {measured:.2f} %" if isinstance(measured, int | float) else ""
    name = preset_name(str(names.get("teacher", "?")))
    run = facts.get("run_id")
    source = "published weights" if run is None else f"run {run}"
    return f"{name} ({source}{accuracy}, weights `{facts.get('weights_sha256')}`)"


def _constructor(source: Source, classes: int) -> str:
    """The call that builds the network; empty if it would not build the network that was trained."""
    node = source.record.config["student"]
    if node["_target_"] not in NETWORKS or any(isinstance(value, Mapping) for value in node.values()):
        return ""
    node = {**node, **{key: value for key, value in WITHOUT_DOWNLOAD.items() if key in node}}
    try:
        built = build_network(node, num_classes=classes, seed=0).state_dict()
    except Refused:
        return ""
    trained = source.network.state_dict()
    if {name: tensor.shape for name, tensor in built.items()} != {name: t.shape for name, t in trained.items()}:
        return ""
    takes = signature(resolve(str(node["_target_"])))
    arguments = {key: value for key, value in node.items() if key not in ("_target_", "_partial_")}
    if "num_classes" in takes.annotations or takes.open_ended:
        arguments.setdefault("num_classes", classes)
    return f"{node['_target_']}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"


def _trained_with(path: Path) -> Mapping[str, Any]:
    """Versions of packages when the run began; empty if they were not recorded."""
    try:
        recorded = (read_json(path / PROVENANCE) or {}).get("versions")
    except StorageError:
        return {}
    return recorded if isinstance(recorded, Mapping) else {}


def _versions(packages: Mapping[str, Any]) -> str:
    return ", ".join(f"{package} {version}" for package, version in packages.items() if version)


def _cell(text: object) -> str:
    """Text from a run's files as one harmless cell of a table."""
    return escaped(" ".join(str(text).replace("|", "\\|").replace("<", "&lt;").split()))
