"""SimKD: what is trained and exported is the student with a projector and the teacher's frozen classifier."""

import copy
import gc
import re
import weakref

import pytest
import torch
from torch import nn

from distill.data import Batch
from distill.losses import ClassifierReuse, ReusedClassifier, Task
from distill.losses.networks import need_pooled_head
from distill.models import (
    Network,
    Output,
    mobilenet_v2,
    outline,
    resnet8,
    resnet8x4,
    resnet14,
    timm_network,
    torchvision_network,
    vgg13,
)
from distill.models.meta import meta_copy

TASK = Task(16, torch.arange(5))


def images(count=4, size=16):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(3))


class Shallow(Network):
    """One convolution of a stride, averaged, and a classifier called `head`."""

    def __init__(self, *, width: int, stride: int) -> None:
        super().__init__()
        self.num_classes, self.feature_channels, self.embedding_dim = 5, (width,), width
        self.conv = nn.Conv2d(3, width, 3, stride=stride, padding=1)
        self.head = nn.Linear(width, 5)

    def forward(self, images, *, taps=False):
        final_map = torch.relu(self.conv(images))
        embedding = final_map.mean((2, 3))
        logits = self.head(embedding)
        return Output(logits, (final_map,), (None,), final_map, embedding) if taps else Output(logits)


@pytest.fixture
def pair():
    torch.manual_seed(1)
    return resnet8(num_classes=5), resnet8x4(num_classes=5)


def deployed(student, teacher, **options):
    torch.manual_seed(2)
    return ClassifierReuse(**options).attach(student, teacher, TASK)


def number(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("reduction", [1, 2, 4])
def test_it_counts_all_it_is(pair, reduction):
    """Student without its classifier, 1x1 + 3x3 + 1x1 convolutions with BatchNorm, the teacher's classifier."""
    student, teacher = pair
    middle = 256 // reduction
    projector = 64 * middle + 2 * middle + 9 * middle**2 + 2 * middle + middle * 256 + 2 * 256
    expected = number(student) - (64 * 5 + 5) + projector + (256 * 5 + 5)
    assert number(deployed(student, teacher, reduction=reduction)) == expected
    assert not any(name.startswith("backbone.fc") for name in deployed(student, teacher).state_dict())


def test_its_logits_are_the_teachers_classifier_of_the_projected_map(pair):
    network = deployed(*pair).eval()
    output = network(images(), taps=True)
    assert output.final_map.shape == (4, 256, 4, 4)
    assert (output.final_map >= 0).all()
    torch.testing.assert_close(output.embedding, output.final_map.mean((2, 3)))
    torch.testing.assert_close(output.logits, pair[1].fc(output.embedding))
    seen = pair[0].eval()(images(), taps=True)
    assert [tap.shape for tap in output.features] == [tap.shape for tap in seen.features]
    for ours, theirs in zip(output.features, seen.features, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert network.num_classes == 5
    assert network.embedding_dim == 256
    assert network.head is network.classifier
    assert network.feature_channels == pair[0].feature_channels


def test_both_networks_stay_as_they_are(pair):
    before = [{name: value.clone() for name, value in network.state_dict().items()} for network in pair]
    logits = [network.eval()(images()).logits for network in pair]
    network = deployed(*pair).train()
    (network(images()).logits.sum()).backward()
    torch.optim.SGD(network.parameters(), lr=0.1).step()
    for original, state, expected in zip(pair, before, logits, strict=True):
        assert all(torch.equal(value, state[name]) for name, value in original.state_dict().items())
        assert torch.equal(original(images()).logits, expected)
        assert all(parameter.requires_grad for parameter in original.parameters())
        assert all(parameter.grad is None for parameter in original.parameters())
    held = {id(parameter) for original in pair for parameter in original.parameters()}
    assert not held & {id(parameter) for parameter in network.parameters()}
    assert torch.equal(network.classifier.weight, pair[1].fc.weight)
    assert torch.equal(network.classifier.bias, pair[1].fc.bias)


def test_all_but_the_classifier_learns(pair):
    network = deployed(*pair)
    student = network(images(), taps=True)
    teacher = pair[1].eval()(images(), taps=True)
    terms = ClassifierReuse()(student, teacher, None, torch.tensor(0.0))
    assert list(terms) == ["feature"]
    expected = (student.final_map - teacher.final_map).square().mean()
    assert terms["feature"].item() == pytest.approx(expected.item(), rel=1e-6)
    terms["feature"].backward()
    for name, parameter in network.named_parameters():
        assert (parameter.grad is None) == name.startswith("classifier."), name
    assert all(parameter.grad is None for parameter in pair[1].parameters())


def test_logits_alone_keep_no_map(pair):
    network = deployed(*pair).eval()
    made = []
    handles = [
        module.register_forward_hook(lambda _m, _i, output: made.append(weakref.ref(output)))
        for module in network.modules()
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d | nn.ReLU)
    ]
    with torch.no_grad():
        output = network(images())
    for handle in handles:
        handle.remove()
    gc.collect()
    assert output.features == ()
    assert output.final_map is None
    assert output.embedding is None
    assert made
    assert all(reference() is None for reference in made)
    with torch.no_grad():
        torch.testing.assert_close(output.logits, network(images(), taps=True).logits)


def test_copies_shapes_and_weights(pair):
    network = deployed(*pair).eval()
    twin = copy.deepcopy(network)
    assert torch.equal(twin(images()).logits, network(images()).logits)
    assert twin.classifier is not network.classifier
    assert not twin.classifier.weight.requires_grad
    assert outline(network, image_size=16).final_map.shape == (2, 256, 4, 4)
    fresh = ClassifierReuse().attach(resnet8(num_classes=5), resnet8x4(num_classes=5), TASK).eval()
    fresh.load_state_dict(network.state_dict())
    assert torch.equal(fresh(images()).logits, network(images()).logits)
    on_meta = ClassifierReuse().attach(meta_copy(pair[0]), meta_copy(pair[1]), TASK)
    assert {name: value.shape for name, value in on_meta.state_dict().items()} == {
        name: value.shape for name, value in network.state_dict().items()
    }


@pytest.mark.parametrize(("strides", "size"), [((2, 4), (4, 4)), ((4, 2), (4, 4)), ((2, 2), (8, 8))])
def test_the_larger_map_is_averaged_down(strides, size):
    """The student's inside the network, the teacher's in the loss."""
    student, teacher = (Shallow(width=w, stride=s) for w, s in zip((3, 6), strides, strict=True))
    network = deployed(student, teacher)
    output, target = network(images(), taps=True), teacher(images(), taps=True)
    assert output.final_map.shape == (4, 6, *size)
    assert network.size == (size if strides[0] < strides[1] else None)
    value = ClassifierReuse()(output, target, None, torch.tensor(0.0))["feature"]
    pooled = nn.functional.adaptive_avg_pool2d(target.final_map, size)
    assert value.item() == pytest.approx((output.final_map - pooled).square().mean().item(), rel=1e-6)


def test_a_batch_of_one_image_with_a_map_of_one_cell_trains():
    network = deployed(Shallow(width=3, stride=16), Shallow(width=6, stride=16)).train()
    assert network(images(1)).logits.isfinite().all()


def test_a_cross_entropy_is_that_of_the_deployed_logits(pair):
    network = deployed(*pair)
    output = network(images(), taps=True)
    labels = torch.tensor([0, 4, 2, 1])
    rows = torch.arange(4)
    terms = ClassifierReuse(ce_weight=0.5)(output, output, Batch(images(), labels, rows, rows), torch.tensor(0.0))
    assert terms["ce"].item() == pytest.approx(nn.functional.cross_entropy(output.logits, labels).item() / 2)


def test_students_from_elsewhere():
    for student in (
        timm_network(name="test_resnet", num_classes=5),
        torchvision_network(name="mobilenet_v2", num_classes=5),
    ):
        teacher = resnet14(num_classes=5)
        network = ClassifierReuse().attach(student, teacher, Task(32, torch.arange(5))).eval()
        assert isinstance(network, ReusedClassifier)
        assert number(network) < number(student) - student.embedding_dim * 5 + number(network.projector) + 64 * 5 + 5
        assert network(images(2, 32)).logits.shape == (2, 5)


REFUSED = {
    "token": lambda: timm_network(name="test_vit", num_classes=5, img_size=16, patch_size=4),
    "convolution": lambda: torchvision_network(name="squeezenet1_1", num_classes=5),
}


@pytest.mark.parametrize("place", ["cpu", "meta"])
@pytest.mark.parametrize("kind", REFUSED)
def test_a_teacher_whose_classifier_reads_something_else_is_refused(kind, place):
    """Also before anything is trained, where networks have shapes only."""
    student, teacher = resnet8(num_classes=5), REFUSED[kind]()
    if place == "meta":
        student, teacher = meta_copy(student), meta_copy(teacher)
    with pytest.raises(ValueError, match=r"^the teacher must have (a classifier that reads|one linear classifier)"):
        ClassifierReuse().attach(student, teacher, Task(64 if kind == "convolution" else 16, torch.arange(5)))


def test_looking_at_a_teacher_leaves_it_alone(pair):
    teacher = pair[1].train()
    teacher.layer1.eval()
    state = {name: value.clone() for name, value in teacher.state_dict().items()}
    random = torch.random.get_rng_state()
    meta = meta_copy(teacher)
    for network in (meta, teacher):
        head = need_pooled_head(network, outline(network, image_size=16), of="the teacher", image_size=16)
        assert head is network.head
    assert torch.equal(torch.random.get_rng_state(), random)
    assert teacher.training
    assert not teacher.layer1.training
    assert all(parameter.is_meta for parameter in meta.parameters())
    assert all(torch.equal(value, state[name]) for name, value in teacher.state_dict().items())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"reduction": 0}, "reduction must be >= 1, got 0: set loss.reduction"),
        ({"feature_weight": 0.0}, "feature_weight must not be 0: set loss.feature_weight"),
        ({"ce_weight": -1.0}, "ce_weight must be >= 0, got -1.0: set loss.ce_weight"),
    ],
)
def test_refusals(options, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        ClassifierReuse(**options)


@pytest.mark.parametrize(("student_map", "parameters"), [("last_tap", 763_904), ("final_map", 1_050_624)])
def test_the_projector_reads_the_map_of_the_authors_code(student_map, parameters):
    """vgg13 -> mobilenet_v2: 160 channels before the last 1x1 convolution, as published, or 1,280 after."""
    networks = mobilenet_v2(num_classes=100), vgg13(num_classes=100)
    objective = ClassifierReuse(student_map=student_map)
    deployed = objective.attach(*networks, Task(32, torch.arange(100)))
    assert number(deployed.projector) == parameters
    assert deployed.eval()(images(2, 32)).logits.shape == (2, 100)
    with pytest.raises(ValueError, match=r"^student_map must be last_tap or final_map, got embedding"):
        ClassifierReuse(student_map="embedding")
