"""Names of a library's networks: the sentence a misspelt one deserves."""

import difflib
from collections.abc import Collection


def check_name(name: str, known: Collection[str], *, library: str) -> None:
    """ValueError with the nearest names unless `name` is one of `known`."""
    if name in known:
        return
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    fix = f"did you mean {', '.join(near)}?" if near else f"see {library}'s list_models()"
    raise ValueError(f"name must be a {library} network, got {name!r}: {fix}")
