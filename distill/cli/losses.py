"""`distill losses`: every loss preset with its paper, terms, needs and defaults."""

from distill.cli.arguments import CONFIG_DIR, FINISHED, FORMAT, OUT, Argument, CommandLine, Verb
from distill.cli.lookup import show

VERB = Verb(
    name="losses",
    usage=("[loss=NAME,...] [--OPTION ...]",),
    about="""\
List the loss presets, one a line. The name is what `distill train loss=NAME` takes.""",
    sections=(
        (
            "Columns",
            (
                "paper       the work that the preset implements; `ours` for a combination made for this package",
                "terms       the terms of the loss as they are logged; training minimises their sum. Terms in brackets",
                "            belong to a first stage: a run of its own that is trained before this one",
                "needs       what the loss reads besides the labels. Of the teacher or of both networks: logits,",
                "            features (maps of the stages), preactivations (maps before the ReLU), final_map,",
                "            embedding, head (the linear classifier). Of the data: index (positions in the training",
                "            set), strong (a second, strongly augmented view). `no teacher`: the labels are enough",
                "defaults    the numbers of the preset; set one by its key: loss.temperature=3. `pair`: the experiment",
                "            sets it for each pair of teacher and student",
            ),
        ),
        (
            "Which presets (default: all)",
            (Argument("loss", "NAME,NAME", "these only"), Argument("runs_dir"), CONFIG_DIR),
        ),
        ("Output", (FORMAT, OUT, "csv and json also contain each preset's title, source and arXiv number")),
    ),
    examples=(
        "distill losses",
        "distill losses loss=crd,review_kd --format json",
        "distill losses | grep 'no teacher'",
    ),
    exit_codes="0 done; 2 the command was refused",
)


def run(line: CommandLine) -> int:
    """Show the loss presets; return the exit code."""
    line.check()

    from distill.cli.loss_presets import catalogue, formats

    names = line.pairs["loss"].split(",") if "loss" in line.pairs else []
    show(formats(catalogue(names, config_dir=line.config_dir)), line)
    return FINISHED
