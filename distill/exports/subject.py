"""The one that a model card is about."""

import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import distill
from distill.exports.forms import FORMS
from distill.exports.normalisation import Normalisation
from distill.exports.report import Rounded, Written
from distill.exports.sample import Sample
from distill.exports.source import Source
from distill.models import Profile, profile
from distill.runs.files import StorageError, read_json
from distill.runs.layout import PROVENANCE
from distill.runs.store import RunRecord


@dataclass(frozen=True, eq=False)
class Subject:
    """An exported run with its models, and what can be asked about them."""

    source: Source
    sample: Sample
    written: tuple[Written, ...]
    rounded: Rounded | None

    @property
    def record(self) -> RunRecord:
        """The run."""
        return self.source.record

    @property
    def result(self) -> Mapping[str, Any]:
        """What the run recorded at its end."""
        assert self.record.result is not None
        return self.record.result

    @property
    def normalise(self) -> Normalisation:
        """How its images are normalised."""
        return self.source.network.normalise

    @property
    def image_size(self) -> int:
        """Pixels in height and width."""
        return self.source.image_size

    @cached_property
    def parameters(self) -> int:
        """Of the network that is exported."""
        return sum(parameter.numel() for parameter in self.source.network.parameters())

    @cached_property
    def macs(self) -> int | None:
        """Multiply-adds of one image; None for a network that cannot be counted on the meta device."""
        try:
            found: Profile = profile(self.source.network, image_size=self.image_size)
        except Exception:  # a network from anywhere
            return None
        return found.macs

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """In the order of the logits, where the data are at hand and have names."""
        names = self.sample.dataset.class_names if self.sample.dataset is not None else ()
        return names if names and names != tuple(str(number) for number in range(len(names))) else None

    @cached_property
    def trained_with(self) -> dict[str, str]:
        """Versions at the run's beginning; empty where they were not recorded."""
        try:
            recorded = (read_json(self.record.path / PROVENANCE) or {}).get("versions")
        except StorageError:
            recorded = None
        found = recorded if isinstance(recorded, Mapping) else {}
        return {str(package): str(version) for package, version in found.items() if version}

    @cached_property
    def exported_with(self) -> dict[str, str]:
        """Versions of this package and of those that wrote the models."""
        packages = {"torch", "safetensors"}.union(*(FORMS[model.form].needs for model in self.written))
        versions = {package: importlib.metadata.version(package) for package in sorted(packages)}
        return {"distill": distill.__version__, **versions}
