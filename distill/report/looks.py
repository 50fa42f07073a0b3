"""How each method looks: the same colour, dash and marker in every figure.

Colours are those of Okabe and Ito ("Color Universal Design", 2008), which people tell apart whatever cones they have;
black is the ink of the page, and their yellow, too pale for a line, is left out for a grey.
"""

import re
from dataclasses import dataclass, replace
from zlib import crc32

BLUE, VERMILLION, GREEN, ORANGE, SKY, PURPLE = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#CC79A7"
GREY = "#7F7F7F"
# Not colours but places for them: a page fills them in as its reader has it light or dark.
INK, FAINT, GRID, PAPER = "#010101", "#020202", "#030303", "#FDFDFD"

COLOURS = (GREY, BLUE, VERMILLION, GREEN, ORANGE, SKY, PURPLE)
DASHES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "h")

# Add new ones at the end: the place of a name is its look.
_LISTED = (
    "ce kd zscore_kd kd_w9_t2 zscore_kd_w09 kd_w09_t2 dkd",
    "label_smoothing kd_soft_only zscore_dkd mlkd ctkd dist nkd",
    "logit_mse soft_ce zscore_dist zscore_mlkd zscore_ctkd ctkd_instance mlkd_public",
    "tf_kd ttm wttm wsld crd review_kd fitnet",
    "at rkd sp cc pkt vid nst",
    "ofd ab ft fsp simkd cat_kd mixture",
    "ablation/mean_only ablation/deviation_only ablation/population_deviation",
    "ablation/student_only ablation/teacher_only",
)
_PRESETS = " ".join(_LISTED).split()


@dataclass(frozen=True)
class Look:
    """A colour (#RRGGBB, or one of the page's), a dash and a marker, as matplotlib writes them."""

    colour: str
    dash: str
    marker: str


TEACHER = Look(INK, "--", "s")


def look_of(preset: str, *, occurrence: int = 0) -> Look:
    """How a loss preset looks; its `_paper` variant has the same colour. Unlisted names get a look by their letters.

    `occurrence` counts the runs of one preset in a figure: further ones keep the colour and change dash and marker.
    """
    method = re.sub(r"_paper$", "", preset)
    place = _PRESETS.index(method) if method in _PRESETS else len(_PRESETS) + crc32(method.encode()) % 1000
    rows = place // len(COLOURS)
    look = Look(COLOURS[place % len(COLOURS)], DASHES[rows % len(DASHES)], MARKERS[(place + rows) % len(MARKERS)])
    shift = occurrence + (method != preset)
    if not shift:
        return look
    dash, marker = DASHES.index(look.dash) + shift, MARKERS.index(look.marker) + shift
    return replace(look, dash=DASHES[dash % len(DASHES)], marker=MARKERS[marker % len(MARKERS)])
