"""export.json: the same as the card says, for programs; it also marks a folder as an export of ours."""

import json

from distill.exports.subject import Subject
from distill.runs.files import finite


def as_json(subject: Subject) -> str:
    """The text of export.json."""
    size, normalise, rounded = subject.image_size, subject.normalise, subject.rounded
    content = {
        "run_id": subject.record.run_id,
        "weights_sha256": subject.result["weights_sha256"],
        "input": {
            "name": "images",
            "shape": ["batch", 3, size, size],
            "channels": "RGB",
            "mean": normalise.mean,
            "std": normalise.std,
        },
        "output": {"name": "logits", "shape": ["batch", subject.result["classes"]]},
        "class_names": subject.class_names,
        "parameters": subject.parameters,
        "macs": subject.macs,
        "checked_on": subject.sample.told,
        "files": {model.file: {"sha256": model.sha256, **model.facts} for model in subject.written},
        "rounded": None if rounded is None else vars(rounded),
        "versions": subject.exported_with,
    }
    return json.dumps(finite(content), indent=2, ensure_ascii=False) + "\n"
