"""Makes names and texts that others may have chosen safe to show: control characters are written as escapes."""

import json
import unicodedata


def escaped(text: str, *, keep: str = "") -> str:
    r"""`text` with `\x1b`, `\n` or `\u202e` for everything but printable characters, spaces and `keep`."""
    if text.isprintable():
        return text
    return "".join(each if _harmless(each) or each in keep else _escape(each) for each in text)


def escaped_json(text: str) -> str:
    """Equivalent JSON whose strings hold printable characters only."""
    if text.replace("\n", "").isprintable():
        return text
    return "".join(each if _harmless(each) or each == "\n" else json.dumps(each)[1:-1] for each in text)


def _harmless(letter: str) -> bool:
    return letter.isprintable() or unicodedata.category(letter) == "Zs"  # a space of any width, unbreakable ones too


def _escape(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")
