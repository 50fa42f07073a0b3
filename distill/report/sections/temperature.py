"""Softmax under temperature: real images at several temperatures, and the entropy over all images."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from distill.report.drawing import HATCHES, SMALL, Styles, drawing, line, run_styles
from distill.report.page import FAINT, INK, PAPER, Block, Figure
from distill.report.runs import Images, Report
from distill.report.softmax import Labels, Logits, entropy, log_softmax

TEMPERATURES = (1.0, 2.0, 4.0, 8.0)
ENTROPY_TEMPERATURES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
SHOWN = 5  # classes of an image
SEED = 0
_MOST = 4  # networks whose bars can be distinguished


def chosen_images(run: Logits, teacher: Logits | None, labels: Labels) -> dict[str, int]:
    """One image of each kind that exists, drawn with a seed: right and wrong predictions of teacher and student."""
    student_right = run.argmax(axis=1) == labels
    if teacher is None:
        kinds = {"right": student_right, "wrong": ~student_right}
    else:
        teacher_right = teacher.argmax(axis=1) == labels
        kinds = {
            "teacher and student are right": teacher_right & student_right,
            "only the teacher is right": teacher_right & ~student_right,
            "both are wrong": ~teacher_right & ~student_right,
        }
    random = np.random.default_rng(SEED)
    return {kind: int(random.choice(np.flatnonzero(flags))) for kind, flags in kinds.items() if flags.any()}


def softened_samples(
    networks: Mapping[str, Logits], labels: Labels, names: Sequence[str], *, rows: Mapping[str, int], by: str
) -> dict[str, Any]:
    """Probabilities of the classes that the network `by` finds most likely, for each image, network and temperature.

    `rows` are the images by their kind. The true class is always among the classes shown.
    """
    images = []
    for kind, row in rows.items():
        label = int(labels[row])
        likely = [int(k) for k in np.argsort(-networks[by][row], kind="stable")[:SHOWN]]
        classes = likely if label in likely else [*likely[: SHOWN - 1], label]
        percent = {
            name: {
                f"{t:g}": (100.0 * np.exp(log_softmax(logits[row][None], t))[0])[classes].tolist() for t in TEMPERATURES
            }
            for name, logits in networks.items()
        }
        images.append(
            {
                "kind": kind,
                "position": row,
                "true": names[label],
                "classes": [names[k] for k in classes],
                "probability": percent,
            }
        )
    return {"temperatures": list(TEMPERATURES), "images": images}


def entropies(networks: Mapping[str, Logits]) -> dict[str, Any]:
    """Mean entropy of the softmax at each temperature in nats; `most` is that of a uniform one, log K."""
    classes = next(iter(networks.values())).shape[1]
    return {
        "temperatures": list(ENTROPY_TEMPERATURES),
        "entropy": {name: [entropy(z, temperature=t) for t in ENTROPY_TEMPERATURES] for name, z in networks.items()},
        "most": float(np.log(classes)),
    }


def draw_samples(numbers: Mapping[str, Any], styles: Styles, pixels: NDArray[np.uint8]) -> str:
    """A row for each image: the picture, then bars of the likeliest classes, a panel for every temperature.

    `pixels` (images, H, W, 3) are the pictures in the order of the numbers.
    """
    images, temperatures = numbers["images"], numbers["temperatures"]
    across = 1 + len(temperatures)
    size = {"margin": 0.7, "height": 2.35, "width": 8.6}
    ratios = [1.15, *[1.0] * len(temperatures)]
    with drawing(len(images) * across, across, **size, width_ratios=ratios) as drawn:
        for row, image, picture in zip(drawn.rows, images, pixels, strict=True):
            row[0].imshow(picture, interpolation="none")
            row[0].set_axis_off()
            row[0].set_title(textwrap.fill(image["kind"], 18), fontsize=SMALL)
            names = [f"● {name}" if name == image["true"] else name for name in image["classes"]]
            for n, (axes, temperature) in enumerate(zip(row[1:], temperatures, strict=True)):
                _bars(axes, image, f"{temperature:g}", styles)
                axes.set_title(f"T = {temperature:g}")
                axes.set_yticks(range(len(names)), [""] * len(names) if n else names)
        for axes in drawn.lowest[1:]:
            axes.set_xlabel("probability (%)")
        drawn.legend(axes=drawn.panels[1])
        return drawn.svg()


def _bars(axes: Axes, image: Mapping[str, Any], temperature: str, styles: Styles) -> None:
    networks = image["probability"]
    thick = 0.84 / len(networks)
    for n, (name, shares) in enumerate(networks.items()):
        heights = [index + (n - (len(networks) - 1) / 2) * thick for index in range(len(image["classes"]))]
        kind = {"color": styles[name].colour, "hatch": HATCHES[n % len(HATCHES)], "label": name}
        axes.barh(heights, shares[temperature], thick, **kind, edgecolor=PAPER, linewidth=0.3)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlim(left=0)
    axes.locator_params(axis="x", nbins=3)


def draw_entropy(numbers: Mapping[str, Any], styles: Styles) -> str:
    """Mean entropy over the temperature."""
    temperatures, most = numbers["temperatures"], numbers["most"]
    with drawing(1, 1, height=3.4, width=5.2) as drawn:
        (axes,) = drawn.panels
        for name, values in numbers["entropy"].items():
            line(axes, temperatures, values, styles[name], name)
        axes.axhline(most, color=FAINT, linewidth=1)
        axes.text(temperatures[0], most, "uniform", va="bottom", color=INK, fontsize=SMALL)
        axes.set_xscale("log", base=2)
        axes.set_xticks(temperatures, [f"{t:g}" for t in temperatures])
        axes.minorticks_off()
        axes.set_ylim(0, most * 1.1)
        axes.set_xlabel("temperature T")
        axes.set_ylabel("entropy of the softmax (nats)")
        drawn.legend()
        return drawn.svg()


def blocks(report: Report, images: Images) -> list[Block]:
    """One image of each kind at four temperatures, and the entropy over temperature."""
    logits, run, styles = report.logits, report.run.label, run_styles(report)
    teacher = report.teacher.label if report.teacher and report.teacher.outputs else None
    rows = chosen_images(logits[run], logits[teacher] if teacher else None, images.labels)
    first = [*list(logits)[: _MOST - 1], run]
    shown = {name: logits[name] for name in (logits if len(logits) <= _MOST else first)}
    by = teacher or run
    numbers = softened_samples(shown, images.labels, images.class_names, rows=rows, by=by)
    kinds = "; ".join(f"{each['kind']}: {each['true']}" for each in numbers["images"])
    softened = entropies(logits)
    at_one = ", ".join(f"{name} {values[3]:.2f} nats at T = 1" for name, values in softened["entropy"].items())
    left_out = [name for name in logits if name not in shown]
    more = f" Not shown for lack of room: {', '.join(left_out)}." if left_out else ""
    return [
        Figure(
            "temperature",
            f"One {images.split} image of each kind, drawn with a seed: the classes that {by} finds most likely (a dot "
            f"marks the true one) and their probability at four temperatures; student is {run}.{more}",
            f"Bar charts of class probabilities, for temperatures 1, 2, 4 and 8. Images: {kinds}.",
            numbers,
            draw_samples(numbers, styles, images.pixels[list(rows.values())]),
        ),
        Figure(
            "entropy",
            "Mean entropy of the softmax over all images: how soft the predictions of a network are at a temperature.",
            f"Line chart of entropy over temperature: {at_one}.",
            softened,
            draw_entropy(softened, styles),
        ),
    ]
