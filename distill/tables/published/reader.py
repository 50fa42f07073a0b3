"""YAML of tables and presets as Hydra reads it: `5e-4` is a number, where YAML 1.1 has only `5.0e-4`."""

import re
from typing import Any

import yaml

_Safe: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Safe):  # type: ignore[misc]  # of PyYAML, which has no types
    pass


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9][0-9_]*(?:\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def parse(text: str | bytes) -> Any:
    """The value of a document. Raises yaml.YAMLError."""
    return yaml.load(text, Loader=_Loader)
