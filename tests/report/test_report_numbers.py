"""What figures show, against formulas written out."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import entropy as relative_entropy
from sklearn.metrics import confusion_matrix

from distill.losses import kd, standardize
from distill.report.sections.curves import curves, epochs_to, levels
from distill.report.sections.embedding import CLASSES, IMAGES, planes, shown_images
from distill.report.sections.errors import class_errors, confusions, largest_changes
from distill.report.sections.fidelity import class_means, fidelity
from distill.report.sections.logits import logit_spread, mean_and_deviation
from distill.report.sections.runs import differences
from distill.report.sections.temperature import ENTROPY_TEMPERATURES, chosen_images, entropies, softened_samples
from distill.report.sections.toy import toy_case
from distill.report.softmax import divergence, standardized

NAMES = ("a", "b", "c", "d", "e")


@pytest.fixture
def two() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits of a student and a teacher (60, 5), and labels."""
    random = np.random.default_rng(3)
    student, teacher = random.normal(0, 2, (2, 60, 5)).astype(np.float32)
    return student, teacher, random.integers(0, 4, 60)  # class e has no images


def softmax(row: np.ndarray, temperature: float) -> np.ndarray:
    weights = [math.exp(float(value) / temperature) for value in row]
    return np.array(weights) / sum(weights)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_divergence_is_that_of_the_textbook_and_of_the_losses(two: Any, temperature: float) -> None:
    student, teacher, _ = two
    rows = zip(student, teacher, strict=True)
    by_hand = np.mean([relative_entropy(softmax(t, temperature), softmax(s, temperature)) for s, t in rows])
    found = divergence(student, teacher, temperature=temperature)
    assert found == pytest.approx(by_hand, rel=1e-9)
    loss = kd(torch.tensor(student), torch.tensor(teacher), temperature=temperature)
    assert found * temperature**2 == pytest.approx(float(loss), rel=1e-5)


def test_the_zscore_is_that_of_the_losses(two: Any) -> None:
    np.testing.assert_allclose(standardized(two[0]), standardize(torch.tensor(two[0]).double()), rtol=1e-12, atol=1e-12)


def test_agreement(two: Any) -> None:
    student, teacher, labels = two
    found = fidelity(teacher, {"s": student, "t": teacher}, labels)["students"]
    same = [int(np.argmax(s)) == int(np.argmax(t)) for s, t in zip(student, teacher, strict=True)]
    right = [int(np.argmax(t)) == label for t, label in zip(teacher, labels, strict=True)]
    assert found["s"]["agreement"] == pytest.approx(100 * np.mean(same))
    of_right = [s for s, r in zip(same, right, strict=True) if r]
    of_wrong = [s for s, r in zip(same, right, strict=True) if not r]
    assert found["s"]["agreement_where_teacher_is_right"] == pytest.approx(100 * np.mean(of_right))
    assert found["s"]["agreement_where_teacher_is_wrong"] == pytest.approx(100 * np.mean(of_wrong))
    assert found["s"]["kl"]["4"] == pytest.approx(divergence(student, teacher, temperature=4.0))
    assert found["s"]["kl"]["1"] == pytest.approx(divergence(student, teacher, temperature=1.0))
    assert found["t"]["agreement"] == 100.0
    assert found["t"]["kl"] == {"1": pytest.approx(0.0, abs=1e-12), "4": pytest.approx(0.0, abs=1e-12)}
    smaller = fidelity(teacher, {"s": teacher / 10 + 3}, labels)["students"]["s"]
    assert smaller["kl"]["1"] > 0.5
    assert smaller["kl_after_zscore"]["1"] == pytest.approx(0.0, abs=1e-9)


def test_entropy_rises_to_that_of_a_uniform_answer(two: Any) -> None:
    found = entropies({"s": two[0]})
    one = found["entropy"]["s"][ENTROPY_TEMPERATURES.index(1.0)]
    assert one == pytest.approx(np.mean([relative_entropy(softmax(row, 1.0)) for row in two[0]]))
    assert found["entropy"]["s"] == sorted(found["entropy"]["s"])
    assert found["entropy"]["s"][-1] < found["most"] == pytest.approx(math.log(5))


def test_maps_of_class_means(two: Any) -> None:
    student, teacher, labels = two
    found = class_means(teacher, {"s": student}, labels)["students"]["s"]
    for kind, (s, t) in {
        "raw": (student, teacher),
        "standardised": (standardized(student), standardized(teacher)),
    }.items():
        by_hand = np.zeros((5, 5))
        for true in range(5):
            rows = [i for i, label in enumerate(labels) if label == true]
            for k in range(5):
                if rows and k != true:
                    by_hand[true, k] = abs(sum(float(s[i, k]) - float(t[i, k]) for i in rows) / len(rows))
        np.testing.assert_allclose(found[kind]["map"], by_hand, atol=1e-4)
        assert found[kind]["mean"] == pytest.approx(by_hand.sum() / 25, rel=1e-5)
        assert found[kind]["max"] == pytest.approx(by_hand.max(), rel=1e-5)


def test_errors_and_confusions(two: Any) -> None:
    student, teacher, labels = two
    errors = class_errors({"s": student, "t": teacher}, labels, NAMES)
    confusion = confusions({"s": student}, labels, NAMES)["networks"]["s"]
    expected = confusion_matrix(labels, student.argmax(axis=1), labels=range(5))
    assert confusion["counts"] == expected.tolist()
    for k in range(4):
        assert errors["error"]["s"][k] == pytest.approx(100 - 100 * expected[k, k] / expected[k].sum())
    assert errors["error"]["s"][4] is None
    assert errors["images"][4] == 0
    wrong = {(t, p): int(expected[t, p]) for t in range(5) for p in range(5) if t != p}
    most = confusion["most"]
    assert [each["images"] for each in most] == sorted(wrong.values(), reverse=True)[: len(most)]
    assert all(wrong[NAMES.index(e["true"]), NAMES.index(e["predicted"])] == e["images"] for e in most)
    changes = largest_changes(errors, of="s", against="t")
    assert [each["difference"] for each in changes] == sorted((e["difference"] for e in changes), reverse=True)
    assert all(each["difference"] == pytest.approx(each["error"] - each["against"]) for each in changes)
    assert "e" not in {each["class"] for each in changes}


def test_sizes_of_logits(two: Any) -> None:
    student, teacher, labels = two
    found = logit_spread({"s": student, "t": teacher / 10}, labels)
    for name, logits in (("s", student), ("t", teacher / 10)):
        summary = found["summary"][name]
        assert summary["mean_range"] == pytest.approx(np.mean([max(row) - min(row) for row in logits]), rel=1e-6)
        assert summary["mean_deviation"] == pytest.approx(np.mean([np.std(row) for row in logits]), rel=1e-6)
        assert summary["mean_target"] == pytest.approx(np.mean([row[k] for row, k in zip(logits, labels, strict=True)]))
        widths = np.diff(found["logits"]["edges"])
        assert np.sum(np.array(found["logits"]["density"][name]) * widths) == pytest.approx(1.0)
    joint = mean_and_deviation({"s": student, "t": teacher / 10})
    assert all(np.sum(each["counts"]) == 60 for each in joint["networks"].values())
    rows, columns = np.nonzero(joint["networks"]["t"]["counts"])
    middle = (np.array(joint["deviation_edges"])[:-1] + np.array(joint["deviation_edges"])[1:]) / 2
    assert middle[columns].max() < 0.6 < middle[np.nonzero(joint["networks"]["s"]["counts"])[1]].max()
    assert len(rows) > 1


def test_equal_logits_have_a_histogram_too() -> None:
    same = np.full((6, 3), 2.0, dtype=np.float32)
    assert sum(logit_spread({"s": same}, np.zeros(6, dtype=int))["ranges"]["density"]["s"]) > 0
    assert np.sum(mean_and_deviation({"s": same})["networks"]["s"]["counts"]) == 6


def test_samples_are_of_the_kind_they_are_called(two: Any) -> None:
    student, teacher, labels = two
    rows = chosen_images(student, teacher, labels)
    right = {name: logits.argmax(axis=1) == labels for name, logits in (("s", student), ("t", teacher))}
    expected = {
        "teacher and student are right": (True, True),
        "only the teacher is right": (True, False),
        "both are wrong": (False, False),
    }
    assert {kind: (bool(right["t"][row]), bool(right["s"][row])) for kind, row in rows.items()} == expected
    assert rows == chosen_images(student, teacher, labels)
    shown = softened_samples({"t": teacher, "s": student}, labels, NAMES, rows=rows, by="t")
    for image, row in zip(shown["images"], rows.values(), strict=True):
        assert image["true"] in image["classes"]
        places = [NAMES.index(name) for name in image["classes"]]
        for temperature in (1.0, 8.0):
            expected_shares = 100 * softmax(student[row], temperature)[places]
            assert image["probability"]["s"][f"{temperature:g}"] == pytest.approx(expected_shares)
    assert set(chosen_images(student, None, labels)) == {"right", "wrong"}


def test_the_true_class_is_shown_however_unlikely() -> None:
    logits = np.arange(9.0)[None]
    (image,) = softened_samples({"t": logits}, np.array([0]), tuple("abcdefghi"), rows={"x": 0}, by="t")["images"]
    assert image["classes"] == ["i", "h", "g", "f", "a"]


def test_planes_are_of_evenly_spaced_classes_and_seeded() -> None:
    labels = np.tile(np.arange(100), 70)
    rows = shown_images(labels, classes=100)
    assert len(rows) == CLASSES * IMAGES
    assert sorted(set(labels[rows])) == [0, 14, 28, 42, 57, 71, 85, 99]
    values = np.random.default_rng(0).normal(size=(30, 4)) + np.repeat([0, 50], 15)[:, None]
    drawn = planes({"s": values}, np.repeat([0, 1], 15), NAMES)
    assert drawn == planes({"s": values}, np.repeat([0, 1], 15), NAMES)
    points = np.array(drawn["networks"]["s"])
    gap = np.linalg.norm(points[:15].mean(axis=0) - points[15:].mean(axis=0))
    assert gap > 2 * points[:15].std(axis=0).max()
    assert drawn["classes"] == ["a"] * 15 + ["b"] * 15


HISTORY = [
    {
        "epoch": 1,
        "train": {"accuracy": 1.0, "loss": 3.0, "ce": 1.0, "kd": 2.0},
        "test": {"accuracy": 10.0, "loss": 2.0},
    },
    {"epoch": 2, "train": None, "test": {"accuracy": 40.0, "loss": None}, "learning_rate": 0.1},
    {
        "epoch": 3,
        "train": {"accuracy": 3.0, "loss": 1.0, "ce": 0.5, "kd": 0.5},
        "test": {"accuracy": 35.0, "loss": 1.0},
    },
]


def test_curves_and_the_epochs_an_accuracy_takes() -> None:
    drawn = curves({"a": HISTORY}, split="test")
    assert drawn["runs"]["a"]["accuracy"] == [10.0, 40.0, 35.0]
    assert drawn["runs"]["a"]["terms"] == {"ce": [1.0, None, 0.5], "kd": [2.0, None, 0.5]}
    assert drawn["runs"]["a"]["loss"] == [2.0, None, 1.0]
    assert epochs_to(drawn, [10.0, 10.5, 40.0, 41.0])["runs"]["a"] == [1, 2, 2, None]
    assert levels(80.0, []) == [40.0, 64.0, 72.0, 76.0, 80.0]
    assert levels(80.0, [50.0]) == [50.0]
    third = 100 * 2 / 3
    assert levels(third, [])[-1] == third  # not 66.67, which a run that ends at 66.666... never reaches


def test_differences_of_configuration() -> None:
    one = {
        "loss": {"temperature": 4.0, "w": 1},
        "seed": 1,
        "dataset": {"npz": "x", "limit": 5},
        "engine": {"threads": 1},
    }
    two = {"loss": {"temperature": 2.0}, "seed": 1, "dataset": {"npz": "y", "limit": 5}, "engine": {"threads": 2}}
    assert differences({"a": one, "b": two}) == {
        "loss.temperature": {"a": "4", "b": "2"},
        "loss.w": {"a": "1", "b": "-"},
    }


def test_how_a_finished_teacher_would_be_trained_is_no_difference() -> None:
    trained = {"run": None, "pretrained": None, "seed": 0, "recipe": {"epochs": 20}, "loss": {"ce_weight": 1.0}}
    published = trained | {"pretrained": "V1"}
    own = {"teacher.seed", "teacher.recipe.epochs", "teacher.loss.ce_weight"}
    assert own <= differences({"alone": {"teacher": None}, "taught": {"teacher": trained}}).keys()
    found = differences({"alone": {"teacher": None}, "taught": {"teacher": published}})
    assert "teacher.pretrained" in found
    assert not own & found.keys()


def test_the_toy_case_is_the_papers() -> None:
    found = toy_case()["networks"]
    assert [found[name]["prediction"] for name in ("teacher", "student 1", "student 2")] == ["Dog", "Bird", "Dog"]
    assert found["student 1"]["kd"] < found["student 2"]["kd"]
    assert found["student 1"]["zscore_kd"] > found["student 2"]["zscore_kd"] == pytest.approx(0.0, abs=1e-9)
    # with 1/(K-1): 1.5 / sqrt(5 / 3); the population's deviation would give 1.342
    assert found["teacher"]["zscores"] == pytest.approx([-1.1619, 1.1619, 0.3873, -0.3873], abs=5e-5)
    assert found["student 2"]["zscores"] == pytest.approx(found["teacher"]["zscores"], abs=1e-5)
    teacher, student = (-1.5, 1.5, 0.5, -0.5), (-1.2, 0.6, 0.8, -0.2)
    plain = relative_entropy(softmax(np.array(teacher), 1), softmax(np.array(student), 1))
    assert found["student 1"]["kd"] == pytest.approx(plain)
    scores = [(np.array(z) - np.mean(z)) / np.std(z, ddof=1) for z in (teacher, student)]
    assert found["student 1"]["zscore_kd"] == pytest.approx(
        relative_entropy(*(softmax(z, 1) for z in scores)), rel=1e-5
    )
