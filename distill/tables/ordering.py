"""The order people expect of names that hold numbers."""

import re


def natural(text: str) -> list[tuple[int, str]]:
    """A sort key that counts: resnet8 comes before resnet20, temperature=2 before temperature=16."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.findall(r"\d+|\D+", text)]
