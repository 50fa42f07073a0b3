"""What a teacher with published weights is for a data set: its classes and accuracy; keys that do not go together."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from distill.config import teachers
from distill.config.faults import Refused
from distill.config.teacher_view import class_positions

OWN = ("n01440764", "n01443537", "n02102040", "n03028079")


@pytest.mark.parametrize(
    ("wanted", "names", "own", "count", "found"),
    [
        (None, ("n03028079", "n01440764"), OWN, 4, (3, 0)),  # by WordNet id, in the data set's order
        (None, OWN, OWN, 4, None),  # they are its logits
        (None, tuple(reversed(OWN)), OWN, 4, (3, 2, 1, 0)),
        (None, ("a", "b"), (), 2, None),  # as many, and nobody knows better
        ([3, "n01440764"], ("church", "fish"), OWN, 4, (3, 0)),
        ([2, 0], ("a", "b"), (), 3, (2, 0)),
    ],
)
def test_classes_are_matched(wanted, names, own, count: int, found) -> None:
    assert class_positions(wanted, names, own=own, count=count) == found


@pytest.mark.parametrize(
    ("wanted", "names", "sentence"),
    [
        (
            None,
            ("n01440764", "n99999999"),
            "the teacher has no class n99999999 among its 4: leave them out of the data set, or",
        ),
        (
            None,
            ("church", "fish"),
            "the teacher has 4 classes, the data set has 2, and nothing says which are the same",
        ),
        (
            [0],
            ("church", "fish"),
            "teacher.classes must have 2 entries, got 1: the teacher's class (a number from 0, or a WordNet id) of "
            "each class of the data set: church, fish",
        ),
        ([0, 4], ("church", "fish"), "the teacher has no class 4 among its 4"),
        (
            ["church", "fish"],
            ("church", "fish"),
            "the teacher has no class church, fish among its 4: teacher.classes is the teacher's class (a number from "
            "0, or a WordNet id) of each class of the data set: church, fish",
        ),
        ([1, "n01443537"], ("church", "fish"), "teacher.classes must name different classes, got 1 twice"),
    ],
)
def test_what_cannot_be_matched_is_refused(wanted, names, sentence: str) -> None:
    with pytest.raises(Refused) as caught:
        class_positions(wanted, names, own=OWN, count=4)
    assert caught.value.sentences[0].startswith(sentence)


def test_the_publishers_accuracy_holds_for_the_whole_of_imagenet_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    names = tuple(f"n{number:08}" for number in range(1000))
    normalisation = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
    known = teachers._Known("digest", "V1", **normalisation, size=224, classes=names, count=1000, accuracy=73.314)
    monkeypatch.setattr(teachers, "_known", lambda *_: known)

    def reference(*, images: int = 50_000, size: int = 224, holdout: int = 0, classes: tuple[str, ...] = names):
        about = {"num_classes": len(classes), "class_names": classes, "evaluation_labels": range(images)}
        dataset = SimpleNamespace(**about, **normalisation, holdout=holdout, image_size=size)
        node, data = {"pretrained": True, "network": {}}, {**normalisation, "test": "digest"}
        where = {"name": "resnet34", "runs_dir": Path("runs"), "precision": "fp32", "download": False}
        return teachers.published_teacher(node, dataset, data, **where).reference

    found = reference()
    assert (found.accuracy, found.states) == (73.314, "their publisher states")
    others = ({"images": 49_999}, {"size": 160}, {"holdout": 50_000}, {"classes": names[:10]}, {"classes": names[::-1]})
    assert [reference(**other) for other in others] == [None] * 5


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["teacher.classes=[0,1]"], "teacher.classes is for a teacher that was trained elsewhere: add "),
        (["teacher.input=native"], "teacher.input is for a teacher that was trained elsewhere: add "),
        (["teacher.input=resize"], "teacher.input must be one of stream, native, got 'resize'"),
        (["teacher.weights=x.pth"], "teacher.weights: there is no file x.pth: name the file with the weights"),
        (["teacher.pretrained=true"], "teacher.pretrained: published weights are those of timm and torchvision"),
        (
            ["teacher.pretrained=true", "teacher.weights=x.pth"],
            "teacher.pretrained and teacher.weights both name a teacher: give one of them",
        ),
        (
            ["teacher=timm", "teacher.network.name=test_resnet", "teacher.pretrained=true"],
            "the weights of timm's test_resnet are not here yet, and --cfg downloads nothing: run the command without ",
        ),
    ],
)
def test_keys_that_do_not_go_together(command, words: list[str], sentence: str) -> None:
    (found,) = command.refused(*command.tiny, *words)
    assert found.startswith(sentence)


def test_teachers_of_other_networks_are_measured_apart() -> None:
    """Options that no weight depends on change the logits too: of published weights, and of imported runs."""
    view = SimpleNamespace(identity={}, key=lambda weights: weights, classes=None, size=None, words="")

    def published(**options: object) -> teachers.PublishedTeacher:
        node = {"_target_": "distill.models.timm_network", "name": "test_resnet", **options}
        return teachers.PublishedTeacher(node, {}, "digest", view, 10, None, Path("runs"), "fp32", "it")

    def finished(*, imported: bool, **options: object) -> teachers.FinishedTeacher:
        result = {"weights_sha256": "digest", "last": {"accuracy": 50.0}, "imported": {} if not imported else {"x": 1}}
        config = {"student": {"_target_": "distill.models.resnet8", **options}}
        record = SimpleNamespace(config=config, result=result, run_id="1", path=Path("run"), names={})
        return teachers.FinishedTeacher(record, view, None, {}, {"test": "t"}, "fp32", None)

    small, large = published(input_size=64), published(input_size=160)
    assert small.identity != large.identity
    assert small.facts().key != large.facts().key
    assert published().facts().key == "digest"  # as before there were options in it
    plain, padded = finished(imported=True), finished(imported=True, shortcut="padding")
    assert plain.identity == {"weights": "digest"}
    assert padded.identity.keys() == {"weights", "network"}
    assert finished(imported=False, shortcut="padding").identity == {"weights": "digest"}
    assert plain._options == {} != padded._options
