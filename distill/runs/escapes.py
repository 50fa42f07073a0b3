"""Names and texts that others may have chosen, safe to show: what a terminal would obey is written as an escape."""

import json
import unicodedata


def escaped(text: str, *, keep: str = "") -> str:
    r"""`text` with `\x1b`, `\n` or `\u202e` for everything but printable characters, spaces and `keep`."""
    if text.isprintable():
        return text
    return "".join(each if _harmless(each) or each in keep else _escape(each) for each in text)


def escaped_json(text: str) -> str:
    """JSON that means the same, in which strings hold printable characters alone."""
    if text.replace("\n", "").isprintable():
        return text
    return "".join(each if _harmless(each) or each == "\n" else json.dumps(each)[1:-1] for each in text)


def _harmless(letter: str) -> bool:
    return letter.isprintable() or unicodedata.category(letter) == "Zs"  # a space of any width, unbreakable ones too


def _escape(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")
