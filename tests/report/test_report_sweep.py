"""The page of a sweep: its curves and maps are the finished runs', held-out and test never mixed."""

import json
import re
import runpy
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest

from distill.cli import main as command
from distill.cli.arguments import FINISHED, REFUSED
from distill.report.drawing import style_of
from distill.report.sweep_runs import load_sweep, sweep_names
from distill.tables.statistics import blocks

ROOT = Path(__file__).resolve().parents[2]
add_run = runpy.run_path(str(ROOT / "tests" / "tables" / "store_files.py"))["add_run"]
Capture = pytest.CaptureFixture[str]
KD = {1.0: (60.0, 62.0), 2.0: (65.0, 66.5), 4.0: (64.0, 64.5)}
ZSCORE = {1.0: (66.0,), 2.0: (63.0,)}
TESTED = (71.0, 71.5, 70.25)


@pytest.fixture
def runs_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DISTILL_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


def tried(runs_dir: Path, loss: str, grid: dict[Any, tuple[float, ...]], **run: Any) -> None:
    for value, accuracies in grid.items():
        overrides = value if isinstance(value, dict) else {"temperature": value}
        for seed, accuracy in enumerate(accuracies, start=1):
            add_run(runs_dir, loss=loss, seed=seed, overrides=overrides, accuracy=accuracy, **run)


@pytest.fixture
def store(runs_dir: Path) -> Path:
    """Temperatures of kd (three, two seeds) and zscore_kd (two) on 5,000 images; kd's best on the test set."""
    tried(runs_dir, "kd", KD, holdout=5000)
    tried(runs_dir, "zscore_kd", ZSCORE, holdout=5000)
    tried(runs_dir, "kd", {2.0: TESTED, 4.0: (99.0,)}, teacher={**TEACHER, "weights_sha256": "cc" * 32})
    add_run(runs_dir, loss="ce", holdout=5000, accuracy=50.0)
    add_run(runs_dir, loss="kd", overrides={"temperature": 8.0}, holdout=5000, accuracy=None, epochs_done=1)
    return runs_dir


TEACHER = {"run_id": "7eac4e700000", "accuracy": 97.0, "source": "live"}


def panels(folder: Path, figure: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / f"figures/{figure}.json").read_text())["panels"]
    return found


def test_one_key_is_a_curve_for_each_method(store: Path, capsys: Capture) -> None:
    assert command(["report", "sweep=temperature"]) == FINISHED
    folder = Path("report", "sweep-temperature")
    assert capsys.readouterr().out == f"wrote {folder / 'index.html'}\n"
    (panel,) = panels(folder, "tuning")
    assert (panel["student"], panel["dataset"], panel["holdout"]) == ("resnet8", "digits", 5000)
    kd, zscore = panel["curves"]
    assert [cell["values"] for cell in kd["cells"]] == [[value] for value in KD]
    for cell, accuracies in zip(kd["cells"], KD.values(), strict=True):
        assert (cell["n"], cell["mean"]) == (2, pytest.approx(fmean(accuracies)))
        assert cell["deviation"] == pytest.approx(stdev(accuracies))
        assert cell["by_seed"] == {"1": accuracies[0], "2": accuracies[1]}
        assert len(cell["runs"]) == 2
    assert [cell["chosen"] for cell in kd["cells"]] == [False, True, False]
    assert [(cell["mean"], cell["deviation"], cell["chosen"]) for cell in zscore["cells"]] == [
        (66.0, None, True),
        (63.0, None, False),
    ]
    assert not (folder / "figures/test.json").exists()  # two of three values on the test set are no grid
    drawing = (folder / "figures/tuning.svg").read_text()
    for words in ("accuracy on 5,000 held-out images, %", "loss.temperature", "kd, n = 2", "zscore_kd, n = 1"):
        assert words in drawing, words
    assert all(style_of(name).colour.lower() in drawing.lower() for name in ("kd", "zscore_kd"))


def test_the_band_of_a_curve_is_pooled_over_curves_that_were_trained_alike(runs_dir: Path) -> None:
    zscore = {1.0: (61.0, 62.5), 2.0: (63.0, 63.5), 4.0: (60.0,)}
    tried(runs_dir, "kd", KD, holdout=5000)
    tried(runs_dir, "zscore_kd", zscore, holdout=5000)
    longer = {1.0: (71.0, 79.0), 2.0: (79.0, 71.0)}
    tried(runs_dir, "kd", longer, holdout=5000, recipe="cifar_short")
    assert command(["report", "sweep=temperature"]) == FINISHED
    folder = Path("report", "sweep-temperature")
    (panel,) = panels(folder, "tuning")
    pairs = [dict(enumerate(each, start=1)) for each in (*KD.values(), zscore[1.0], zscore[2.0])]
    shared, apart = blocks(pairs), blocks([dict(enumerate(each, start=1)) for each in longer.values()])
    assert shared is not None
    assert apart is not None
    for curve in panel["curves"]:
        found = apart if "milestones" in curve["label"] and "[12,16]" in curve["label"] else shared
        names = ("deviation", "degrees", "rows", "n", "least")
        assert curve["pooled"] == {name: pytest.approx(getattr(found, name)) for name in names}
        for cell in curve["cells"]:
            assert cell["half"] == (pytest.approx(found.half) if cell["n"] == 2 else None)
    assert shared.rows == 5
    page = (folder / "index.html").read_text()
    for found in (shared, apart):
        assert f"a single difference below about {found.least:.2f} points is not resolved" in page


def test_curves_of_one_seed_have_no_band(runs_dir: Path) -> None:
    tried(runs_dir, "kd", {1.0: (66.0,), 2.0: (60.0,)}, holdout=500)
    assert command(["report", "sweep=temperature"]) == FINISHED
    folder = Path("report", "sweep-temperature")
    (panel,) = panels(folder, "tuning")
    (curve,) = panel["curves"]
    assert curve["pooled"] is None
    assert [cell["half"] for cell in curve["cells"]] == [None, None]
    assert "There is no band" in (folder / "index.html").read_text()


def test_what_was_chosen_stands_beside_its_test_accuracy(store: Path) -> None:
    assert command(["report", "sweep=temperature", "--out", "page"]) == FINISHED
    record = json.loads(Path("page/report.json").read_text())
    assert record["subject"] == "sweep temperature"
    kd, zscore = record["chosen"]
    assert (kd["values"], kd["tried"], kd["held_out"]["mean"]) == ([2.0], 3, 65.75)
    (tested,) = kd["test"]
    assert tested["by_seed"] == {str(seed): value for seed, value in enumerate(TESTED, start=1)}
    assert tested["mean"] == pytest.approx(fmean(TESTED))
    assert (zscore["values"], zscore["tried"], zscore["test"]) == ([1.0], 2, [])
    assert len(record["runs"]) == 6 + 2 + 3
    page = Path("page/index.html").read_text()
    rows = [re.sub(r"<[^>]+>", " ", row).split() for row in re.findall(r"<tr>(.*?)</tr>", page)]
    assert ["kd", "resnet8", "digits", "2", "3", "65.75", "±", "1.06", "70.92", "±", "0.63", "3"] in rows
    assert ["zscore_kd", "resnet8", "digits", "1", "2", "66.00", "(n=1)", "-", "0"] in rows
    assert sum("chosen" in row and "held-out" in row for row in rows) == 2
    assert "did not have equal budgets" in page
    assert "99.00" not in page
    assert "http" not in page


def test_a_grid_on_the_test_set_has_a_figure_of_its_own(store: Path) -> None:
    tried(store, "kd", {1.0: (69.0,)}, teacher={**TEACHER, "weights_sha256": "cc" * 32})
    assert command(["report", "sweep=temperature", "loss=kd"]) == FINISHED
    folder = Path("report", "sweep-temperature")
    (panel,) = panels(folder, "test")
    assert (panel["measured_on"], panel["holdout"]) == ("the test set", 0)
    (curve,) = panel["curves"]
    assert [cell["mean"] for cell in curve["cells"]] == [69.0, pytest.approx(fmean(TESTED)), 99.0]
    assert [cell["chosen"] for cell in curve["cells"]] == [False, True, False]  # not the best there
    (tuning,) = panels(folder, "tuning")
    assert [each["label"] for each in tuning["curves"]] == ["kd"]
    assert "accuracy on the test set, %" in (folder / "figures/test.svg").read_text()


def test_of_equals_the_one_that_was_trained_on_all_images_is_chosen(runs_dir: Path) -> None:
    tried(runs_dir, "kd", {1.0: (66.0,), 2.0: (66.0,), 4.0: (60.0,)}, holdout=5000)
    assert command(["report", "sweep=temperature"]) == FINISHED
    page = Path("report/sweep-temperature/index.html").read_text()
    assert (
        "kd on resnet8: 2 configurations tie on the held-out images. loss.temperature=1 counts as chosen, "
        "the first of them; equally good: loss.temperature=2."
    ) in page
    tried(runs_dir, "kd", {2.0: TESTED})
    assert command(["report", "sweep=temperature"]) == FINISHED
    page = Path("report/sweep-temperature/index.html").read_text()
    assert "loss.temperature=2 counts as chosen, the first that was trained on all images; equally good: " in page
    assert "equally good: loss.temperature=1." in page
    ((curve,),) = (panel["curves"] for panel in panels(Path("report/sweep-temperature"), "tuning"))
    assert [cell["values"] for cell in curve["cells"] if cell["chosen"]] == [[2.0]]


def test_a_method_tuned_on_two_sets_of_images_is_chosen_on_each(runs_dir: Path) -> None:
    tried(runs_dir, "kd", {1.0: (66.0,), 2.0: (60.0,)}, holdout=500)
    tried(runs_dir, "kd", {1.0: (60.0,), 2.0: (66.0,)}, holdout=5000)
    tried(runs_dir, "kd", {1.0: (70.0,), 2.0: (71.0,), 4.0: (72.0,)})
    assert command(["report", "sweep=temperature"]) == FINISHED
    folder = Path("report/sweep-temperature")
    marked = {
        panel["holdout"]: [cell["values"] for cell in panel["curves"][0]["cells"] if cell["chosen"]]
        for figure in ("tuning", "test")
        for panel in panels(folder, figure)
    }
    assert marked == {500: [[1.0]], 5000: [[2.0]], 0: [[1.0], [2.0]]}
    chosen = json.loads((folder / "report.json").read_text())["chosen"]
    assert {each["holdout"]: each["values"] for each in chosen} == {500: [1.0], 5000: [2.0]}


def test_null_may_be_swept_and_chosen(runs_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "presets/sweep").mkdir(parents=True)
    preset = "# @package _global_\nsweep:\n  params:\n    recipe.ema: null,0.99,0.999\n"
    (tmp_path / "presets/sweep/ema.yaml").write_text(preset)
    for value, accuracy in ((None, 62.0), (0.99, 60.0), (0.999, 61.0)):
        add_run(runs_dir, loss="kd", recipe_overrides={"ema": value}, holdout=500, accuracy=accuracy)
    assert command(["report", "sweep=ema", "--config-dir", str(tmp_path / "presets")]) == FINISHED
    ((curve,),) = (panel["curves"] for panel in panels(Path("report/sweep-ema"), "tuning"))
    assert [(cell["values"], cell["chosen"]) for cell in curve["cells"]] == [
        ([0.99], False),
        ([0.999], False),
        ([None], True),
    ]


def test_a_key_of_one_value_does_not_count(store: Path, tmp_path: Path) -> None:
    (tmp_path / "presets/sweep").mkdir(parents=True)
    preset = "# @package _global_\nsweep:\n  params:\n    loss.temperature: 1,2\n    dataset.holdout: 5000\n"
    (tmp_path / "presets/sweep/held.yaml").write_text(preset)
    assert command(["report", "sweep=held", "--config-dir", str(tmp_path / "presets")]) == FINISHED
    assert json.loads(Path("report/sweep-held/figures/tuning.json").read_text())["keys"] == ["loss.temperature"]


def test_a_sweep_over_images_is_refused(store: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "presets/sweep").mkdir(parents=True)
    preset = "# @package _global_\nsweep:\n  params:\n    dataset.limit: 100,200\n"
    (tmp_path / "presets/sweep/limit.yaml").write_text(preset)
    assert command(["report", "sweep=limit", "--config-dir", str(tmp_path / "presets")]) == REFUSED
    assert "varies dataset.limit: a page draws accuracy over keys of loss and recipe" in capsys.readouterr().err


def test_words_and_lists_may_be_swept(runs_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "presets/sweep").mkdir(parents=True)
    preset = '# @package _global_\nsweep:\n  params:\n    recipe.milestones: "[2,4],[6,8]"\n'
    (tmp_path / "presets/sweep/steps.yaml").write_text(preset)
    for milestones, accuracy in (([2, 4], 60.0), ([6, 8], 61.0)):
        add_run(runs_dir, loss="kd", recipe_overrides={"milestones": milestones}, holdout=500, accuracy=accuracy)
    assert command(["report", "sweep=steps", "--config-dir", str(tmp_path / "presets")]) == FINISHED
    ((curve,),) = (panel["curves"] for panel in panels(Path("report/sweep-steps"), "tuning"))
    assert [cell["values"] for cell in curve["cells"]] == [["[2,4]"], ["[6,8]"]]
    page = Path("report/sweep-steps/index.html").read_text()
    assert page.count('<th scope="col">recipe.milestones</th>') == 2  # sorts as words, not as numbers


def test_values_that_a_terminal_would_obey_are_escapes(runs_dir: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "presets/sweep").mkdir(parents=True)
    preset = "# @package _global_\nsweep:\n  params:\n    recipe.milestones: a,b\n    loss.temperature: 1,2\n"
    (tmp_path / "presets/sweep/words.yaml").write_text(preset)
    for number, hostile in enumerate(("a\x1b[2J\x9b\u202e<b>$\\frac$", "b\x07\x1b")):
        for temperature in (1.0, 2.0):
            words = {"teacher_name": hostile, "recipe_overrides": {"milestones": hostile}}
            tried(runs_dir, "kd", {temperature: (60.0 + number,)}, holdout=500, **words)
    assert command(["report", "sweep=words", "--config-dir", str(tmp_path / "presets")]) == FINISHED
    files = [path for path in Path("report/sweep-words").rglob("*") if path.is_file()]
    assert len(files) >= 4
    for path in files:
        assert not {each for each in path.read_text() if not each.isprintable() and each not in "\n\u00a0"}, path
    assert "a\\x1b[2J" in Path("report/sweep-words/index.html").read_text()
    assert capsys.readouterr().out.count("\n") == 1


def test_two_keys_are_a_map_for_each_method(runs_dir: Path) -> None:
    grid = {(t, w): 60.0 + t + w / 10 for t in (2.0, 3.0) for w in (3.0, 9.0)}
    for (temperature, weight), accuracy in grid.items():
        for seed in (1, 2):
            add_run(
                runs_dir,
                loss="kd",
                # the sweep meets values by which a preset has another's name
                named="kd_w9_t2" if (temperature, weight) == (2.0, 9.0) else None,
                overrides={"temperature": temperature, "kd_weight": weight},
                seed=seed,
                holdout=500,
                accuracy=accuracy + seed,
            )
    assert command(["report", "sweep=tau_weight"]) == FINISHED
    ((curve,),) = (panel["curves"] for panel in panels(Path("report/sweep-tau_weight"), "tuning"))
    assert curve["label"] == "kd"
    assert {tuple(cell["values"]): cell["mean"] for cell in curve["cells"]} == {
        key: pytest.approx(value + 1.5) for key, value in grid.items()
    }
    assert [cell["values"] for cell in curve["cells"] if cell["chosen"]] == [[3.0, 9.0]]
    drawing = Path("report/sweep-tau_weight/figures/tuning.svg").read_text()
    for words in ("65.40", "± 0.71", "loss.temperature", "loss.kd_weight", "accuracy on 500 held-out images, %"):
        assert words in drawing, words


def test_a_search_shows_what_it_proposed(runs_dir: Path) -> None:
    proposals = {(1.5, 3.0): 60.0, (2.25, 0.75): 61.0, (7.5, 12.0): 63.0, (3.75, 9.5): 62.0, (5.0, 1.0): 59.0}
    for (temperature, weight), accuracy in proposals.items():
        overrides = {"temperature": temperature, "kd_weight": weight}
        add_run(runs_dir, loss="kd", overrides=overrides, holdout=500, accuracy=accuracy)
    assert command(["report", "sweep=optuna"]) == FINISHED
    data = json.loads(Path("report/sweep-optuna/figures/tuning.json").read_text())
    assert data["keys"] == ["loss.temperature", "loss.kd_weight"]
    assert data["logarithmic"] == ["loss.kd_weight"]
    ((curve,),) = (panel["curves"] for panel in data["panels"])
    assert {tuple(cell["values"]): cell["mean"] for cell in curve["cells"]} == proposals


def test_alpha_is_read_from_the_weights_that_it_becomes(runs_dir: Path) -> None:
    for alpha, accuracy in ((0.1, 60.0), (0.5, 61.0)):
        overrides = {"ce_weight": round(1 - alpha, 3), "kd_weight": alpha}
        add_run(runs_dir, loss="kd", overrides=overrides, holdout=500, accuracy=accuracy)
    add_run(runs_dir, loss="kd", overrides={"ce_weight": 1.0, "kd_weight": 9.0}, holdout=500, accuracy=99.0)
    assert command(["report", "sweep=alpha"]) == FINISHED
    ((curve,),) = (panel["curves"] for panel in panels(Path("report/sweep-alpha"), "tuning"))
    assert [(cell["values"], cell["mean"]) for cell in curve["cells"]] == [([0.1], 60.0), ([0.5], 61.0)]


def test_a_sweep_over_methods_is_a_row_for_each(runs_dir: Path) -> None:
    for seed, accuracy in enumerate((60.0, 61.0), start=1):
        add_run(runs_dir, loss="ce", seed=seed, accuracy=accuracy)
        add_run(runs_dir, loss="zscore_kd", seed=seed, accuracy=accuracy + 5)
        add_run(runs_dir, loss="kd", seed=seed, accuracy=accuracy + 1)  # not of the controls
    assert command(["report", "sweep=controls"]) == FINISHED
    ((ce, zscore),) = (panel["curves"] for panel in panels(Path("report/sweep-controls"), "test"))
    assert (ce["label"], ce["cells"][0]["mean"], ce["cells"][0]["n"]) == ("ce", 60.5, 2)
    assert (zscore["label"], zscore["cells"][0]["mean"]) == ("zscore_kd", 65.5)


def test_curves_that_differ_in_more_are_never_one(runs_dir: Path) -> None:
    tried(runs_dir, "kd", {1.0: (60.0,), 2.0: (61.0,)}, holdout=500)
    tried(runs_dir, "kd", {1.0: (70.0,), 2.0: (71.0,)}, holdout=500, recipe_overrides={"epochs": 20})
    tried(runs_dir, "kd", {1.0: (80.0,), 2.0: (81.0,)}, holdout=500, student="resnet20")
    assert command(["report", "sweep=temperature"]) == FINISHED
    found = panels(Path("report/sweep-temperature"), "tuning")
    assert [(each["student"], len(each["curves"])) for each in found] == [("resnet20", 1), ("resnet8", 2)]
    assert {each["label"] for each in found[1]["curves"]} == {"kd, epochs=10", "kd, epochs=20"}
    assert command(["report", "sweep=temperature", "recipe.epochs=20"]) == FINISHED
    ((curve,),) = (panel["curves"] for panel in panels(Path("report/sweep-temperature"), "tuning"))
    assert [cell["mean"] for cell in curve["cells"]] == [70.0, 71.0]


def test_nothing_to_show_is_one_sentence(runs_dir: Path, capsys: Capture) -> None:
    assert command(["report", "sweep=temperature"]) == FINISHED
    assert capsys.readouterr().out == f"no runs in {runs_dir}: `distill train` makes one\n"
    add_run(runs_dir, loss="kd", accuracy=70.0)
    assert command(["report", "sweep=temperature"]) == FINISHED
    assert capsys.readouterr().out == (
        "sweep=temperature needs finished runs at two values of loss.temperature of one method: "
        "`distill train sweep=temperature` trains them\n"
    )
    assert not Path("report").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["sweep=temperatur"], "sweep=temperatur does not exist: did you mean 'temperature'?"),
        (["sweep=temperature", "run=abc"], "run= does not go with sweep=: leave one of them out"),
        (["sweep=temperature", "loss.temperatur=2"], "no run has the key 'loss.temperatur'"),
        (["sweep=temperature", "--out", "taken"], "--out taken is not empty and holds no report"),
        (["sweep="], "sweep= needs a value"),
    ],
)
def test_sweep_refusals(store: Path, capsys: Capture, words: list[str], sentence: str) -> None:
    Path("taken").mkdir()
    Path("taken/notes.txt").write_text("mine")
    assert command(["report", *words]) == REFUSED
    printed = capsys.readouterr()
    assert sentence in printed.err
    assert printed.out == ""
    assert not Path("report").exists()


def test_every_shipped_sweep_can_be_read_and_ones_own(tmp_path: Path) -> None:
    keys = {name: load_sweep(name).keys for name in sweep_names()}
    assert keys["tau_weight"] == keys["optuna"] == ("loss.temperature", "loss.kd_weight")
    assert keys["controls"] == keys["seeds"] == keys["methods"] == ()
    assert load_sweep("controls").losses == ("ce", "kd_w09_t2", "kd_w9_t2", "zscore_kd_w09", "zscore_kd")
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep/mine.yaml").write_text("# @package _global_\nsweep:\n  params:\n    recipe.epochs: 1,2\n")
    (tmp_path / "sweep/empty.yaml").write_text("sweep: {}\n")
    assert load_sweep("mine", config_dir=tmp_path).keys == ("recipe.epochs",)
    with pytest.raises(ValueError, match=r"empty\.yaml varies nothing of its own"):
        load_sweep("empty", config_dir=tmp_path)
