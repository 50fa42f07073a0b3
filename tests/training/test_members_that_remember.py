"""Banks and deployed networks in training: what moves, what is saved, and what is exported."""

import pytest
import safetensors.torch
import torch

from distill.losses import ClassifierReuse, ContrastiveRepresentation, Task
from distill.models import resnet8, resnet14
from distill.teachers import LiveTeacher
from distill.training import seeded

OBJECTIVES = {
    "crd": lambda: ContrastiveRepresentation(dim=8, negatives=20),
    "simkd": ClassifierReuse,
}


def network(make, seed):
    with seeded(seed, "student"):
        return make(num_classes=4)


@pytest.fixture
def make(lab):
    """Members of a resnet8 that learns from a resnet14, both untrained."""
    teacher = LiveTeacher(network(resnet14, 9), weights="teacher", precision="fp32", taps=True)

    def member(name, **options):
        return lab.member(OBJECTIVES[name](), teacher=teacher, student=network(resnet8, 1), **options)

    return member


def test_every_row_of_the_banks_moves_in_an_epoch_and_both_are_saved(make, lab) -> None:
    member = make("crd", recipe=lab.recipe(1, lr=0.01))
    before = member.objective.student_bank.rows.clone()
    lab.run(member)
    rows = member.objective.student_bank.rows
    assert (rows != before).any(dim=1).all()
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(44))
    tensors, _ = member.state()
    assert {"objective/student_bank.rows", "objective/teacher_bank.rows", "objective/log_normalizer"} <= tensors.keys()
    assert set(safetensors.torch.load(member.recorder.weights)) == set(network(resnet8, 1).state_dict())


def test_a_member_with_a_bank_moves_no_other(make, lab) -> None:
    def members():
        return make("crd", seed=1), lab.member(seed=2, student=network(resnet8, 2))

    solo = [lab.run(member)[0].weights for member in members()]
    together = members()
    lab.run(*together)
    assert [member.recorder.weights for member in together] == solo


def test_the_deployed_network_is_exported_whole(make, lab) -> None:
    member = make("simkd", recipe=lab.recipe(2, lr=0.01))
    (done,) = lab.run(member)
    exported = safetensors.torch.load(done.weights)
    assert set(exported) == set(member.student.state_dict())
    assert not any("fc" in name for name in exported)
    assert torch.equal(exported["classifier.weight"], member.teacher.network.fc.weight)
    assert done.result["parameters"] == sum(p.numel() for p in member.student.parameters())
    assert list(member.objective.parameters()) == []

    rebuilt = ClassifierReuse().attach(network(resnet8, 3), network(resnet14, 4), member_task(lab))
    rebuilt.load_state_dict(exported)
    rebuilt.eval()
    correct = sum(int((rebuilt(b.images).logits.argmax(1) == b.labels).sum()) for b in member.evaluation)
    assert done.result["last"]["correct"] == correct


def member_task(lab):
    """What a member of the lab trains on, as `attach` is told."""
    return Task(lab.dataset.image_size, torch.tensor(lab.dataset.train_labels))
