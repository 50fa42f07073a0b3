"""The page of a published table: its dots and bands are our runs', whatever the store lacks."""

import json
import runpy
from pathlib import Path
from statistics import fmean, stdev

import pytest

from distill.cli import main as command
from distill.cli.arguments import FINISHED, REFUSED
from distill.report.drawing import style_of

ROOT = Path(__file__).resolve().parents[2]
STORE = runpy.run_path(str(ROOT / "tests" / "tables" / "published_store.py"))
Capture = pytest.CaptureFixture[str]
KD = {1: 71.0, 2: 71.4, 3: 70.9}


@pytest.fixture
def store(runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three seeds of kd with curves, one run of zscore_kd without."""
    monkeypatch.chdir(runs_dir.parent)
    for seed, accuracy in KD.items():
        run_id = STORE["add"](runs_dir, accuracy, best=accuracy + 0.5, loss="kd", seed=seed)
        (folder,) = runs_dir.glob(f"*{run_id}")
        lines = [{"epoch": n, "test": {"accuracy": accuracy - 10 + 5 * n}} for n in (1, 2)]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        (folder / "provenance.json").write_text(json.dumps({"commit": "feedbeef" * 5, "device": "an abacus"}))
    STORE["add"](runs_dir, 71.8, loss="zscore_kd", seed=1)
    return runs_dir


def test_cells_and_curves_are_those_of_the_runs(store: Path, capsys: Capture) -> None:
    assert command(["report", "table=cifar100_same", "columns=resnet56_resnet20", "rows=kd,zscore_kd,ce"]) == FINISHED
    folder = Path("report", "cifar100_same")
    assert capsys.readouterr().out == f"wrote {folder / 'index.html'}\n"
    columns = json.loads((folder / "figures/cells.json").read_text())["columns"]
    ((kd, zscore),) = columns.values()
    assert kd["values"] == {str(seed): value for seed, value in KD.items()}
    assert kd["mean"] == pytest.approx(fmean(KD.values()))
    assert kd["deviation"] == pytest.approx(stdev(KD.values()))
    assert (kd["published"], kd["published_epochs"], kd["published_runs"]) == (70.66, "last", 5)
    assert (zscore["mean"], zscore["deviation"], zscore["preset"]) == (71.8, None, "zscore_kd")
    ((band,),) = json.loads((folder / "figures/curves.json").read_text())["columns"].values()
    assert (band["n"], band["epoch"]) == (3, [1, 2])
    assert band["mean"] == pytest.approx([fmean(KD.values()) - 5, fmean(KD.values())])
    assert band["deviation"] == pytest.approx([stdev(KD.values())] * 2)
    drawing = (folder / "figures/cells.svg").read_text().lower()
    assert style_of("kd").colour.lower() in drawing
    assert style_of("zscore_kd").colour.lower() in drawing
    page = (folder / "index.html").read_text()
    for needed in ("70.66", "feedbeeffeed", "an abacus", "seed=1,2,3,4", 'role="img"', 'aria-label="Dot charts'):
        assert needed in page, needed
    record = json.loads((folder / "report.json").read_text())
    assert record["subject"] == "table cifar100_same"
    assert [len(cell["runs"]) for cell in record["cells"]] == [3, 1]


def test_an_empty_store_still_shows_what_was_published(runs_dir: Path, tmp_path: Path) -> None:
    words = ["table=cifar100_same", "columns=vgg13_vgg8", f"runs_dir={runs_dir}", "--out", str(tmp_path / "page")]
    assert command(["report", *words]) == FINISHED
    page = (tmp_path / "page" / "index.html").read_text()
    assert "72.98" in page
    assert "None of our finished runs belongs to a cell shown here" in page
    assert not (tmp_path / "page" / "figures").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["table=cifar100_sam"], "table=cifar100_sam does not exist: did you mean 'cifar100_same'?"),
        (["table=cifar100_same", "rows=kdd"], "rows=kdd is not in table=cifar100_same"),
        (["table=cifar100_same", "run=abc"], "run= does not go with table=: leave one of them out"),
        (["table=cifar100_same", "dataset.npz=x"], "dataset.npz= does not go with table="),
        (["run=abc", "rows=kd"], "rows= does not go with run=: leave one of them out"),
    ],
)
def test_table_refusals(store: Path, capsys: Capture, words: list[str], sentence: str) -> None:
    assert command(["report", *words]) == REFUSED
    printed = capsys.readouterr()
    assert sentence in printed.err
    assert printed.out == ""
    assert not Path("report").exists()
