"""What an objective brings along: its parameters, and a deployed network in the student's place."""

import json

import pytest
import safetensors.torch
import torch
from torch import nn
from torch.nn import functional as F

from distill.losses import Objective
from distill.models import Output


class Deployed(nn.Module):
    """The student's trunk with a projection and the teacher's frozen classifier."""

    def __init__(self, student: nn.Module, teacher: nn.Module) -> None:
        super().__init__()
        self.num_classes, self.feature_channels, self.embedding_dim = student.num_classes, (), 0
        self.trunk = student
        self.project = nn.Linear(student.embedding_dim, teacher.embedding_dim)
        self.classifier = teacher.classifier

    def forward(self, images: torch.Tensor, *, taps: bool = False) -> Output:
        embedding = self.project(self.trunk(images, taps=True).embedding)
        return Output(self.classifier(embedding), embedding=embedding)


class Reuse(Objective):
    """The deployed network learns the teacher's embedding; its classifier is never learned."""

    logits_only = False

    def attach(self, student, teacher, task):
        deployed = Deployed(student, teacher)
        self.project = deployed.project  # held here too: it must join the optimizer once
        return deployed

    def forward(self, student, teacher, batch, progress):
        return {"embedding": F.mse_loss(student.embedding, teacher.embedding)}


@pytest.fixture
def deep_teacher(lab):
    """A teacher that gives all its taps."""
    from distill.teachers import LiveTeacher

    return LiveTeacher(lab.network(99, width=9), weights="teacher", precision="fp32", taps=True)


def test_parameters_of_an_objective_are_learned_and_not_exported(lab, teacher) -> None:
    member = lab.member(lab.Learner(), teacher=teacher)
    begun = member.objective.project.weight.detach().clone()
    (done,) = lab.run(member)
    assert not torch.equal(member.objective.project.weight, begun)
    assert set(safetensors.torch.load(done.weights)) == set(lab.network().state_dict())
    assert done.result["parameters"] == sum(p.numel() for p in lab.network().parameters())


def test_what_attach_draws_comes_from_the_members_seed(lab, teacher) -> None:
    drawn = []
    for outside, seed in ((1, 1), (2, 1), (2, 2)):
        torch.manual_seed(outside)
        before = torch.random.get_rng_state()
        drawn.append(lab.member(lab.Learner(), teacher=teacher, seed=seed).objective.project.weight)
        assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[1], drawn[2])


def test_a_deployed_network_is_trained_counted_and_exported(lab, deep_teacher) -> None:
    classifier = deep_teacher.network.classifier.weight.clone()
    member = lab.member(Reuse(), teacher=deep_teacher, recipe=lab.recipe(3, lr=0.05))
    assert isinstance(member.student, Deployed)
    begun = {name: tensor.clone() for name, tensor in member.student.state_dict().items()}
    (done,) = lab.run(member)

    exported = safetensors.torch.load(done.weights)
    assert set(exported) == set(member.student.state_dict())
    assert {"project.weight", "classifier.weight", "trunk.conv.weight"} <= set(exported)
    for name in ("project.weight", "trunk.conv.weight"):
        assert not torch.equal(exported[name], begun[name])
    assert torch.equal(exported["classifier.weight"], classifier)
    assert done.result["parameters"] == sum(p.numel() for p in member.student.parameters())

    # evaluated: its accuracy, not that of the student inside, whose own classifier has learned nothing
    member.student.eval()
    correct = sum(
        int((member.student(batch.images).logits.argmax(1) == batch.labels).sum()) for batch in member.evaluation
    )
    assert done.result["last"]["correct"] == correct
    train = [json.loads(line)["train"]["embedding"] for line in done.lines]
    assert train[-1] < train[0]


def test_a_parameter_held_twice_is_stepped_once(lab, deep_teacher) -> None:
    member = lab.member(Reuse(), teacher=deep_teacher)
    parameters = [p for group in member.optimizer.param_groups for p in group["params"]]
    assert len(parameters) == len({id(p) for p in parameters})
    assert any(p is member.objective.project.weight for p in parameters)


def test_a_deployed_network_resumes(lab, deep_teacher) -> None:
    whole, stopped, resumed = (lab.member(Reuse(), teacher=deep_teacher) for _ in range(3))
    lab.run(whole)
    lab.run(stopped, stop_requested=lab.stop_after(4))
    resumed.restore(*stopped.recorder.saved[0][:2])
    lab.run(resumed)
    assert resumed.recorder.weights == whole.recorder.weights


def test_taps_are_asked_for_only_where_logits_will_not_do(lab, teacher, deep_teacher) -> None:
    asked = []

    def watch(network):
        network.register_forward_pre_hook(lambda m, args, kwargs: asked.append(kwargs.get("taps")), with_kwargs=True)
        return network

    lab.run(lab.member(lab.soft_targets(), teacher=teacher, student=watch(lab.network()), recipe=lab.recipe(1)))
    assert not any(asked)
    asked.clear()
    lab.run(lab.member(Reuse(), teacher=deep_teacher, student=watch(lab.network()), recipe=lab.recipe(1)))
    assert asked[0] is True
