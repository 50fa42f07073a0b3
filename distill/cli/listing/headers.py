"""What the comment at the head of a preset says: its title, and where it comes from."""

import re
from dataclasses import dataclass
from pathlib import Path

# "Sun et al., CVPR 2024" "Hinton et al. 2015" "Jin, Wang and Lin, CVPR 2023" "Sun et al. (CVPR 2024"
_CITED = re.compile(
    r"(?P<first>[A-Z][a-z][\w-]*)(?:(?P<more> et al\.|, [A-Z][a-z][\w-]*,? (?:and )?[A-Z][a-z][\w-]*)|"
    r" and (?P<second>[A-Z][a-z][\w-]*))?,? \(?(?:[A-Z][A-Za-z]*[A-Z],? )?(?P<year>(?:19|20)\d\d)\b"
)


@dataclass(frozen=True)
class Header:
    """A preset's title (the first sentence of its header), its source, and what is cited there first, if anything."""

    title: str
    source: str
    paper: str
    arxiv: str


def read_header(path: Path) -> Header:
    """The header of a preset's file; what it does not say is empty."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("#").strip())
    text = "\n".join(lines)
    # what follows the source are commands: `Run: distill train`, `Pairs: distill train`
    about, _, rest = re.split(r"^[A-Z][^:\n]*: +distill ", text, maxsplit=1, flags=re.M)[0].partition("Source: ")
    source = " ".join(rest.split())
    title = re.split(r"(?<=[a-z0-9)])\.\s", " ".join(about.split()) + " ", maxsplit=1)[0]
    arxiv = re.search(r"arXiv (\d{4}\.\d{4,5})", source)
    return Header(title.strip(), source, _paper(source), arxiv[1] if arxiv else "")


def _paper(source: str) -> str:
    """`Sun et al. 2024`; `ours` where the source begins so; `-` where it cites nothing."""
    if source.startswith("ours"):
        return "ours"
    cited = _CITED.search(source)
    if cited is None:
        return "-"
    others = " et al." if cited["more"] else f" and {cited['second']}" if cited["second"] else ""
    return f"{cited['first']}{others} {cited['year']}"
