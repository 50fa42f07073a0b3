"""`distill losses`: what every preset is, from its header, its method and one run on shapes."""

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from distill.cli import main as command
from distill.cli.arguments import FINISHED, REFUSED
from distill.cli.loss_presets import read_header
from distill.config import configs_dir

Capture = pytest.CaptureFixture[str]


def main(words: list[str]) -> int:
    """Run `distill losses` with these words; return the exit code."""
    return command(["losses", *words])


FOLDER = configs_dir() / "loss"
OWN = '''
from torch import nn

from distill.models import outline
from distill.losses import Objective
from distill.losses.networks import need_preactivations


class Margin(Objective):
    """Reads one thing in attach, and others in forward."""

    reads = ("preactivations", "final_map", "index")

    def __init__(self, *, margin: float = 0.5, widths: tuple[int, ...] = (1, 2), name: str = "x"):
        super().__init__()
        self.margin = margin

    def attach(self, student, teacher, task):
        need_preactivations(outline(student, image_size=task.image_size), of="the student")

    def forward(self, student, teacher, batch, progress):
        return {"own": student.logits.mean() + teacher.final_map.mean() + batch.index.double().mean()}


class Silent(Objective):
    """Declares nothing, so that it may read everything."""

    def forward(self, student, teacher, batch, progress):
        return {"own": student.logits.mean() + teacher.final_map.mean()}
'''
PRESET = """\
# Margins: one of ours. A second sentence.
# More about it.
# Paper: Doe et al. 2031, arXiv 3101.01234
# Source: "A Title: With Colons" (Doe, Roe and Poe, NeurIPS 2031, arXiv
# 3101.01234), Eq. 1; a number of theirs.
# Run: distill train loss=mine student=resnet8
_target_: own_losses.Margin
margin: 0.25
widths: [3, 4]
name: y
"""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder from which modules may be imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])


def listed(capsys: Capture, *words: str) -> dict[str, Any]:
    """The JSON of `distill losses`, the losses by name."""
    assert main([*words, "--format", "json"]) == FINISHED
    told = json.loads(capsys.readouterr().out)
    return {loss["name"]: loss for loss in told["losses"]} | {"notes": told["notes"]}


def test_every_preset_is_there_and_none_is_written_down(capsys: Capture) -> None:
    assert main([]) == FINISHED
    header, *lines = capsys.readouterr().out.splitlines()
    assert header == "loss\tpaper\tterms\tneeds\tdefaults"
    names = [line.split("\t")[0] for line in lines]
    assert names == sorted(path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.rglob("*.yaml"))
    rows = dict(zip(names, (line.split("\t")[1:] for line in lines), strict=True))
    assert rows["kd"] == ["Hinton 2015", "ce kd", "logits", "temperature=4 ce_weight=0.1 kd_weight=0.9"]
    assert rows["ce"] == ["-", "ce", "no teacher", "ce_weight=1"]
    assert rows["logit_mse"][0] == "Ba 2014"
    assert rows["kd_soft_only"][1] == "kd"
    assert rows["ablation/student_only"][0] == "ours"
    assert rows["zscore_kd_paper"][3] == "temperature=pair ce_weight=0.1 kd_weight=pair"
    for terms, needs in (row[1:3] for row in rows.values()):
        assert terms
        assert needs != "-"


def test_what_a_header_says(capsys: Capture) -> None:
    (kd, notes) = listed(capsys, "loss=kd").values()
    assert notes == []
    assert kd["title"] == "Vanilla knowledge distillation: 0.1 CE + 0.9 T^2 KL(teacher || student) at T = 4"
    assert (kd["paper"], kd["arxiv"], kd["teacher"]) == ("Hinton et al. 2015", "1503.02531", True)
    assert kd["source"].startswith("Hinton et al. 2015 (arXiv 1503.02531), Eq. 1 and section 2; ")
    assert kd["source"].endswith("by (1 - a) and a.")
    assert kd["defaults"] == {"temperature": 4.0, "ce_weight": 0.1, "kd_weight": 0.9}


@pytest.mark.parametrize(
    ("line", "paper", "arxiv"),
    [
        ("# Paper: Zagoruyko and Komodakis 2017, arXiv 1612.03928\n", "Zagoruyko and Komodakis 2017", "1612.03928"),
        ("# Paper: Jin et al. 2023\n", "Jin et al. 2023", ""),
        ("# Paper: ours\n", "ours", ""),
        ("", "-", ""),
    ],
)
def test_the_paper_is_a_line_of_its_own(line: str, paper: str, arxiv: str, tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(f"# What it is.\n{line}# Source: Sun et al. 2024,\n# Eq. 1.\n# Run: distill train loss=x\nkey: 2\n")
    header = read_header(file)
    assert (header.title, header.source) == ("What it is", "Sun et al. 2024, Eq. 1.")
    assert (header.paper, header.arxiv) == (paper, arxiv)


@pytest.mark.parametrize("file", sorted(FOLDER.rglob("*.yaml")), ids=lambda file: file.stem)
def test_the_paper_of_a_shipped_preset_is_cited_by_its_source(file: Path) -> None:
    header = read_header(file)
    if header.paper in ("-", "ours"):
        return
    authors, _, year = header.paper.rpartition(" ")
    for cited in (authors.split()[0], year, header.arxiv):
        assert cited in header.source


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Presets of one's own, one that cannot be read and two that cannot be run."""
    folder = tmp_path / "mine" / "loss"
    folder.mkdir(parents=True)
    Path("own_losses.py").write_text(OWN)
    (folder / "mine.yaml").write_text(PRESET)
    (folder / "misspelt.yaml").write_text(PRESET.replace("margin:", "magrin:"))
    (folder / "refusing.yaml").write_text("defaults: [kd]\ntemperature: -1\n")
    (folder / "staged.yaml").write_text(
        "_target_: distill.losses.CrossEntropy\nfirst_stage:\n  network: student\n  epochs: 30\n  loss:\n"
        "    _target_: own_losses.Margin\n"
    )
    (folder / "silent.yaml").write_text("_target_: own_losses.Silent\n")
    (folder / "broken.yaml").write_text("a: [\n")
    (folder / "warm.yaml").write_text("defaults: [kd]\ntemperature: 8\n")
    return folder.parent


def test_presets_of_ones_own(own: Path, capsys: Capture) -> None:
    told = listed(capsys, "--config-dir", str(own))
    mine = told["mine"]
    assert (mine["terms"], mine["teacher"]) == (["own"], True)
    assert mine["needs"] == ["preactivations", "final_map", "index"]  # as it declares
    assert mine["defaults"] == {"margin": 0.25, "widths": [3, 4]}
    assert mine["title"] == "Margins: one of ours"
    assert (mine["paper"], mine["arxiv"]) == ("Doe et al. 2031", "3101.01234")
    assert mine["source"].endswith("Eq. 1; a number of theirs.")
    assert told["warm"]["defaults"]["temperature"] == 8
    assert told["kd"]["defaults"]["temperature"] == 4
    staged = told["staged"]
    assert (staged["terms"], staged["needs"], staged["teacher"]) == (["first_stage/own", "ce"], mine["needs"], True)
    assert staged["defaults"] == {"first_stage.epochs": 30}
    assert main(["--config-dir", str(own), "loss=staged"]) == FINISHED
    assert "\t(own) ce\t" in capsys.readouterr().out
    assert told["silent"]["needs"] == ["not declared"]
    assert set(told) >= {"kd", "mine", "ce"}
    broken, misspelt, refusing = told["notes"]
    assert "broken: a preset is not valid YAML" in broken
    assert misspelt.startswith("misspelt: loss.magrin is not a key of own_losses.Margin: did you mean 'margin'?")
    assert refusing.startswith("refusing: temperature must be > 0, got -1")


def test_presets_in_a_linked_folder(own: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "hot.yaml").write_text("defaults: [/loss/kd@_here_]\ntemperature: 9\n")
    (own / "loss" / "team").symlink_to(tmp_path / "shared", target_is_directory=True)
    told = listed(capsys, "--config-dir", str(own), "loss=team/hot")
    assert told["team/hot"]["defaults"]["temperature"] == 9


def test_a_broken_file_hides_no_other(own: Path, capsys: Capture) -> None:
    told = listed(capsys, "--config-dir", str(own), "loss=kd,mine")
    assert list(told) == ["kd", "mine", "notes"]


def test_formats(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["loss=zscore_kd,ablation/population_deviation,zscore_kd"]
    assert main([*words, "--format", "csv"]) == FINISHED
    zscore, ablation = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (zscore["name"], ablation["name"]) == ("zscore_kd", "ablation/population_deviation")
    assert (zscore["terms"], zscore["needs"], zscore["teacher"]) == ("ce kd", "logits", "true")
    assert zscore["defaults"] == "temperature=2 ce_weight=0.1 kd_weight=9"
    assert main([*words, "--out", "losses.md"]) == FINISHED
    assert Path("losses.md").read_text().startswith("| loss | paper | terms | needs | defaults |\n")
    assert main([*words, "--out", "losses.html"]) == FINISHED
    assert "<td>ce kd</td>" in Path("losses.html").read_text()
    capsys.readouterr()
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    assert main(words) == FINISHED
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    # what does not fit stands below, beside the name again
    assert [line.split()[0] for line in lines if line.startswith("zscore_kd ")] == ["zscore_kd"] * 2


@pytest.mark.parametrize(
    ("words", "sentences"),
    [
        (["loss=zscore_k"], ["loss=zscore_k does not exist: did you mean 'zscore_kd'?"]),
        (["loss=kd,xx,yy"], ["loss=xx does not exist", "loss=yy does not exist"]),
        (["--config-dir", "nowhere"], ["--config-dir 'nowhere' is not a folder"]),
        (["los=kd", "--fromat", "csv"], ["unknown key 'los'", "unknown option --fromat: did you mean '--format'?"]),
        (["loss=refusing", "--config-dir", "mine"], ["refusing: temperature must be > 0, got -1"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_refusals(words: list[str], sentences: list[str], own: Path, capsys: Capture) -> None:
    assert main(words) == REFUSED
    told = capsys.readouterr()
    assert told.out == ""
    assert len(told.err.splitlines()) == len(sentences)
    for sentence in sentences:
        assert sentence in told.err
