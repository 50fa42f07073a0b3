"""The model card: what the network is, how good, what it reads, and how to load it."""

from collections.abc import Mapping
from typing import Any

from distill.exports.how_to_load import loading
from distill.exports.scores import scores
from distill.exports.subject import Subject
from distill.tables.values import dataset_name, flatten, preset_name, to_text

_HEAD = """\
---
library_name: pytorch
pipeline_tag: image-classification
tags:
- knowledge-distillation
---
"""


def card(subject: Subject) -> str:
    """The text of README.md."""
    names = subject.record.names
    student, loss = (preset_name(str(names.get(key, "?"))) for key in ("student", "loss"))
    title = f"# {_cell(student)} on {_cell(_dataset(subject))} ({_cell(loss)})"
    parts = [title, _facts(subject), _input(subject), _files(subject), loading(subject), _versions(subject)]
    return _HEAD + "\n" + "\n\n".join(parts) + "\n"


def _facts(subject: Subject) -> str:
    result, config, names = subject.result, subject.record.config, subject.record.names
    accuracies, how_to_read = scores(result)
    rows = {
        "run": f"{subject.record.run_id} (the digest of everything that can change its numbers)",
        "network": f"{names.get('student', '?')} (`{config['student'].get('_target_')}`)",
        "parameters": f"{subject.parameters:,}",
        "multiply-adds of one image": "not counted" if subject.macs is None else f"{subject.macs:,}",
        "data set": f"{_dataset(subject)}, {result['classes']} classes",
        "loss": _described(names.get("loss"), config.get("loss")),
        "teacher": _teacher(subject),
        "recipe": _described(names.get("recipe"), config.get("recipe")),
        "seed": str(config.get("seed", "?")),
        "precision of training": str(subject.record.identity["precision"]),
        **accuracies,
        "sha256 of the run's weights": f"`{result['weights_sha256']}`",
    }
    if subject.rounded is not None:
        rows["fp16 in model.safetensors"] = f"{subject.rounded}"
    table = "\n".join(f"| {key} | {_cell(value)} |" for key, value in rows.items())
    return f"| | |\n|---|---|\n{table}\n\n{how_to_read}"


def _dataset(subject: Subject) -> str:
    return dataset_name(str(subject.record.names.get("dataset", "?")))


def _described(name: Any, node: Any) -> str:
    values = flatten(node) if isinstance(node, Mapping) else {}
    told = [
        f"{key} {to_text(value)}"
        for key, value in values.items()
        if value is not None and not key.rpartition(".")[2].startswith("_")
    ]
    return f"{preset_name(str(name or '?'))}: {', '.join(told)}" if told else preset_name(str(name or "?"))


def _teacher(subject: Subject) -> str:
    facts = subject.result.get("teacher")
    if not isinstance(facts, Mapping):
        return "none"
    name = preset_name(str(subject.record.names.get("teacher", "?")))
    accuracy = facts.get("accuracy")
    told = f", {accuracy:.2f} %" if isinstance(accuracy, int | float) else ""
    return f"{name} (run {facts.get('run_id')}{told}, weights `{facts.get('weights_sha256')}`)"


def _input(subject: Subject) -> str:
    size, normalise, names = subject.image_size, subject.normalise, subject.class_names
    text = (
        "## Input and output\n\n"
        f"`images`, float32 (batch, 3, {size}, {size}): RGB pixels 0..255 as `(pixels / 255 - mean) / std` with mean "
        f"{list(normalise.mean)} and std {list(normalise.std)} per channel, whatever the batch size. `logits`, float32 "
        f"(batch, {subject.result['classes']}): the largest is the predicted class."
    )
    listed = "" if names is None else "\n\nThe classes, from 0: " + ", ".join(_cell(name) for name in names) + "."
    return text + listed


def _files(subject: Subject) -> str:
    sample = subject.sample
    reason = f" ({_cell(sample.reason)})" if sample.reason else ""
    rows = "\n".join(
        f"| {model.file} | {model.title} | {model.check} | `{model.sha256}` |" for model in subject.written
    )
    return (
        "## Files\n\n"
        f"Each model was read back and compared with the network it was made of on {sample.told}{reason}.\n\n"
        f"| file | what | check | sha256 |\n|---|---|---|---|\n{rows}\n\n"
        "`config.yaml` and `result.json` are those of the run; `export.json` says the same as this card to programs."
    )


def _versions(subject: Subject) -> str:
    told = {"trained with": subject.trained_with, "exported with": subject.exported_with}
    lines = [
        f"- {when}: {', '.join(f'{package} {version}' for package, version in found.items()) or 'not recorded'}"
        for when, found in told.items()
    ]
    return "## Versions\n\n" + "\n".join(lines)


def _cell(text: str) -> str:
    """Text from a run's files as one harmless cell of a table."""
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())
