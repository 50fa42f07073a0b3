"""`distill report`: a web page with figures, of runs, of a published table or of a sweep."""

from importlib.util import find_spec

from distill.cli.arguments import (
    ANY,
    CONFIG_DIR,
    DEVICE,
    FILTERS,
    FINISHED,
    OWN_NETWORK,
    PLACES,
    RUN,
    RUNS_DIR,
    Argument,
    CommandLine,
    Verb,
)
from distill.cli.lookup import COLUMNS, ROWS, SEEDS, TABLE
from distill.runs.escapes import escaped

AGAINST = Argument("against", "ID,PATH,...", "other finished runs to compare it with, the baseline first")
ACCURACY = Argument(
    "accuracy", "40,45", "for each accuracy in percent, the first epoch that reaches it (default: shares of\n"
    "the last accuracy of the baseline)"
)  # fmt: skip
SWEEP = Argument("sweep", "NAME", "a sweep preset: temperature, tau_weight, optuna, ...")
OUT = Argument(
    "--out", "DIR", "default: report/RUN_FOLDER, report/TABLE or report/sweep-NAME.\n"
    "An older report of the same is replaced; any other folder that is not empty is refused"
)  # fmt: skip
OF_RUN = (RUN, AGAINST, ACCURACY, DEVICE, *PLACES, OWN_NETWORK)
OF_TABLE = (TABLE, ROWS, COLUMNS, SEEDS)
VERB = Verb(
    name="report",
    usage=(
        "run=ID|PATH [against=ID,...] [KEY=VALUE ...] [--OPTION ...]",
        "table=NAME [rows=...] [columns=...] [seeds=...] [--OPTION ...]",
        "sweep=NAME [KEY=VALUE ...] [--OPTION ...]",
    ),
    about="""\
Write index.html, one page that works offline, with each figure also as a drawing (SVG) and as numbers (JSON).
Needs matplotlib: pip install 'distill[report]'.""",
    sections=(
        (
            "A run: curves, agreement with its teacher, calibration, errors, embeddings, gradients, settings",
            (
                RUN,
                AGAINST,
                ACCURACY,
                DEVICE,
                "Networks are evaluated in fp32 on the evaluation images of the run. Sections whose weights or",
                "data are missing are left out, and the page says so.",
            ),
        ),
        ("Data and code of the run", (*PLACES, OWN_NETWORK)),
        ("A published table, with your runs in its cells", OF_TABLE),
        (
            "A sweep: accuracy for each value, the value chosen on held-out images, and its accuracy on the test set",
            (SWEEP, *FILTERS),
        ),
        ("Folders", (RUNS_DIR, OUT, CONFIG_DIR)),
    ),
    examples=(
        "distill report run=3f2a against=77b0",
        "distill report table=cifar100_small",
        "distill report sweep=tau_weight --out tuned",
    ),
    exit_codes="0 done, or no runs of the sweep yet; 1 damaged files; 2 the command was refused",
    dotted=ANY,
)


def run(line: CommandLine) -> int:
    """Write the page; return the exit code."""
    if not find_spec("matplotlib"):
        line.fault('report draws with matplotlib, which is not installed: pip install "distill[report]"')
    subject = next((key for key in ("sweep", "table", "run") if key in line.pairs), "")
    if not subject:
        if not line.faulty & {"sweep", "table", "run"}:
            line.fault("report needs a subject: add run=ID (`distill ls` lists them), table=NAME or sweep=NAME")
        line.check()
    allowed = {argument.name for argument in {"run": OF_RUN, "table": OF_TABLE, "sweep": (SWEEP,)}[subject]}
    others = {argument.name for argument in (*OF_RUN, *OF_TABLE, SWEEP)} - allowed
    keys = [key for key in line.pairs if key not in others] if subject == "sweep" else [*allowed, RUNS_DIR.name]
    line.allow(keys, known=VERB.keys, otherwise=f"does not go with {subject}=: leave one of them out")

    from distill.cli.report_pages import report_runs, report_sweep, report_table

    folder = {"run": report_runs, "table": report_table, "sweep": report_sweep}[subject](line)
    if folder is not None:
        print(escaped(f"wrote {folder / 'index.html'}"))
    return FINISHED
