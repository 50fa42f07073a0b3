"""The objectives on feature maps and embeddings: terms, weights, what they build, what they refuse.

The formulas are in tests/losses, the presets' numbers in references/.
"""

import re
from functools import partial

import pytest
import torch
from torch import nn

from distill import losses
from distill.data import Batch
from distill.losses import (
    AttentionTransfer,
    CorrelationCongruence,
    FactorTransfer,
    HintRegression,
    NeuronSelectivityTransfer,
    ProbabilisticTransfer,
    RelationalDistillation,
    SimilarityPreserving,
    Task,
    VariationalInformation,
)
from distill.losses.adapters import Normalize
from distill.models import LogitsOnly, Network, Output, plain_cnn, resnet8, resnet20, vgg8

SIZE, CLASSES, PROGRESS = 8, 10, torch.tensor(0.0)
TASK = Task(SIZE, torch.zeros(4, dtype=torch.int64))
WEIGHTS = {"ce_weight": 0.5, "feature_weight": 3.0}
ON_TAPS = [AttentionTransfer, NeuronSelectivityTransfer, VariationalInformation, HintRegression, SimilarityPreserving]
ON_EMBEDDINGS = [
    ProbabilisticTransfer,
    CorrelationCongruence,
    partial(RelationalDistillation, distance_weight=25.0, angle_weight=50.0),
]
ALL = [*ON_TAPS, *ON_EMBEDDINGS]
LEARNED = [VariationalInformation, HintRegression, CorrelationCongruence]


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    positions = torch.arange(4)
    images = torch.randn(4, 3, SIZE, SIZE, generator=generator)
    return Batch(images, torch.tensor([1, 0, 9, 4]), positions, torch.full_like(positions, -1))


def attached(build, student=None, teacher=None, **changed):
    """Objective, student and teacher; the teacher's parameters want gradients, so that one would be seen."""
    torch.manual_seed(2)
    student = student or resnet8(num_classes=CLASSES)
    teacher = (teacher or resnet20(num_classes=CLASSES)).eval()
    objective = build(**WEIGHTS | changed)
    assert objective.attach(student, teacher, TASK) is None
    return objective, student, teacher


def run(objective, student, teacher, batch):
    outputs = student(batch.images, taps=True), teacher(batch.images, taps=True)
    return objective(*outputs, batch, PROGRESS), outputs


@pytest.mark.parametrize("build", ALL)
def test_terms_and_gradients(build, batch):
    objective, student, teacher = attached(build)
    assert not objective.logits_only
    assert objective.needs_teacher
    terms, outputs = run(objective, student, teacher, batch)
    cross_entropy = nn.functional.cross_entropy(outputs[0].logits, batch.labels)
    torch.testing.assert_close(terms["ce"], 0.5 * cross_entropy)
    assert list(terms) == (["ce", "distance", "angle"] if isinstance(build, partial) else ["ce", "feature"])
    sum(term for name, term in terms.items() if name != "ce").backward()
    assert sum(p.grad.abs().sum() for p in student.parameters() if p.grad is not None) > 0
    assert all(p.grad is not None and p.grad.isfinite().all() for p in objective.parameters())
    assert all(p.grad is None for p in teacher.parameters())
    assert bool(list(objective.parameters())) == (build in LEARNED)


EXPECTED = {
    AttentionTransfer: lambda o, s, t: sum(
        losses.attention_transfer(*pair, power=2) for pair in zip(s.features[1:], t.features[1:], strict=True)
    ),
    NeuronSelectivityTransfer: lambda o, s, t: sum(
        losses.neuron_selectivity(*pair) for pair in zip(s.features[1:], t.features[1:], strict=True)
    ),
    VariationalInformation: lambda o, s, t: sum(
        model(*pair) for model, *pair in zip(o.models, s.features[1:], t.features[1:], strict=True)
    ),
    HintRegression: lambda o, s, t: losses.hint(o.regressor(s.features[2]), t.features[2]),
    SimilarityPreserving: lambda o, s, t: losses.similarity_preserving(s.features[-1], t.features[-1]),
    ProbabilisticTransfer: lambda o, s, t: losses.probabilistic_transfer(s.embedding, t.embedding),
    CorrelationCongruence: lambda o, s, t: losses.neighbour_congruence(
        o.student_projection(s.embedding), o.teacher_projection(t.embedding)
    ),
}


@pytest.mark.parametrize("build", EXPECTED)
def test_what_is_compared_and_its_weight(build, batch):
    objective, student, teacher = attached(build)
    terms, outputs = run(objective, student, teacher, batch)
    torch.testing.assert_close(terms["feature"], 3 * EXPECTED[build](objective, *outputs))


def test_the_two_weights_of_relations(batch):
    objective, student, teacher = attached(ON_EMBEDDINGS[-1])
    terms, (s, t) = run(objective, student, teacher, batch)
    torch.testing.assert_close(terms["distance"], 75 * losses.distance_relation(s.embedding, t.embedding))
    torch.testing.assert_close(terms["angle"], 150 * losses.angle_relation(s.embedding, t.embedding))
    for weights, left in (((1.0, 0.0), ["ce", "distance"]), ((0.0, 1.0), ["ce", "angle"])):
        one_sided = RelationalDistillation(distance_weight=weights[0], angle_weight=weights[1])
        assert list(run(one_sided, student, teacher, batch)[0]) == left


@pytest.mark.parametrize("build", ALL)
def test_a_term_of_weight_zero_is_left_out(build, batch):
    objective, student, teacher = attached(build, ce_weight=0.0)
    assert "ce" not in run(objective, student, teacher, batch)[0]
    labels_only = build(ce_weight=1.0, feature_weight=0.0)
    assert not labels_only.needs_teacher
    assert labels_only.attach(student, None, TASK) is None
    assert list(labels_only.parameters()) == []
    output = Output(student(batch.images).logits)
    assert list(labels_only(output, None, batch, PROGRESS)) == ["ce"]


@pytest.mark.parametrize("build", ALL)
def test_networks_of_logits_alone_are_refused(build):
    flat = LogitsOnly(nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE * SIZE, CLASSES)), num_classes=CLASSES)
    full = resnet8(num_classes=CLASSES)
    for student, teacher, whose in ((flat, full, "student"), (full, flat, "teacher")):
        lacks = "an embedding" if build in ON_EMBEDDINGS else r"(\d )?feature maps"
        with pytest.raises(ValueError, match=rf"^the {whose} must have {lacks}.*: choose a network that has them"):
            build(**WEIGHTS).attach(student, teacher, TASK)
    with pytest.raises(ValueError, match=r"^teacher must be a network, got None: "):
        build(**WEIGHTS).attach(full, None, TASK)


@pytest.mark.parametrize("build", ALL)
def test_a_missing_teacher_is_named(build, batch):
    objective, student, _ = attached(build)
    with pytest.raises(ValueError, match=r"^teacher must be an output, got None: .*choose teacher=NAME"):
        objective(student(batch.images, taps=True), None, batch, PROGRESS)


class Cut(Network):
    """resnet8 with only its first taps."""

    def __init__(self, count):
        super().__init__()
        self.num_classes, self.count, self.inner = CLASSES, count, resnet8(num_classes=CLASSES)

    def forward(self, images, *, taps=False):
        full = self.inner(images, taps=taps)
        return Output(full.logits, full.features[: self.count], full.preactivations[: self.count])


@pytest.mark.parametrize(
    ("build", "enough"),
    [(AttentionTransfer, 2), (NeuronSelectivityTransfer, 2), (VariationalInformation, 2), (SimilarityPreserving, 1)]
    + [(partial(HintRegression, hint_layer=layer), layer + 1) for layer in (0, 1, 2, 3)],
)
def test_as_many_taps_as_it_needs_and_no_more(build, enough, batch):
    for pair in ((Cut(enough), resnet20(num_classes=CLASSES)), (resnet8(num_classes=CLASSES), Cut(enough))):
        objective, student, teacher = attached(build, *pair)
        assert run(objective, student, teacher, batch)[0]["feature"].isfinite()
    with pytest.raises(ValueError, match=rf"^the student must have .*feature maps.*, got {enough - 1}: "):
        build(**WEIGHTS).attach(Cut(enough - 1), pair[0], TASK)


@pytest.mark.parametrize("student", [plain_cnn, partial(Cut, 3)])
@pytest.mark.parametrize("build", ON_TAPS)
def test_networks_of_other_sizes_and_numbers_of_taps(build, student, batch):
    network = student(num_classes=CLASSES) if student is plain_cnn else student()
    objective, student, teacher = attached(build, network)
    terms, _ = run(objective, student, teacher, batch)
    terms["feature"].backward()
    assert terms["feature"].isfinite()
    mirrored, _, _ = attached(build, teacher, student)
    assert run(mirrored, teacher, student, batch)[0]["feature"].isfinite()


def test_attention_reads_its_power(batch):
    values = [run(*attached(AttentionTransfer, power=power), batch)[0]["feature"] for power in (2, 4)]
    assert values[0] != values[1]


def test_the_hint_layer_and_its_regressor(batch):
    objective, student, teacher = attached(HintRegression, plain_cnn(num_classes=CLASSES), hint_layer=3)
    kinds = [type(layer) for layer in objective.regressor]
    assert kinds == [nn.ConvTranspose2d, Normalize, nn.ReLU]
    assert [layer.num_features for layer in objective.regressor if isinstance(layer, nn.BatchNorm2d)] == [64]
    terms, (s, t) = run(objective, student, teacher, batch)
    assert (s.features[3].shape[2], t.features[3].shape[2]) == (1, 2)
    torch.testing.assert_close(terms["feature"], 3 * losses.hint(objective.regressor(s.features[3]), t.features[3]))


def test_a_hint_of_a_single_value_per_channel():
    objective, student, teacher = attached(
        HintRegression, plain_cnn(num_classes=CLASSES), vgg8(num_classes=CLASSES), hint_layer=3
    )
    images, one = torch.zeros(1, 3, SIZE, SIZE), torch.zeros(1, dtype=torch.int64)
    sides = [network.eval()(images, taps=True) for network in (student, teacher)]
    assert sides[1].features[3].shape[2:] == (1, 1)
    terms = objective.train()(*sides, Batch(images, one, one, one), PROGRESS)
    assert terms["feature"].isfinite()


def test_factor_transfer_without_its_term_takes_nothing_over():
    objective = FactorTransfer(distance=losses.factor_transfer, feature_weight=0)
    student = resnet8(num_classes=CLASSES)
    objective.attach(student, None, TASK)
    objective.start(student, {"paraphraser.0.weight": torch.zeros(1)})
    assert not objective.state_dict()


def test_what_congruence_learns():
    objective, *_ = attached(CorrelationCongruence, dimensions=6)
    shapes = {name: tuple(p.shape) for name, p in objective.named_parameters()}
    assert shapes == {
        "student_projection.weight": (6, 64),
        "student_projection.bias": (6,),
        "teacher_projection.weight": (6, 64),
        "teacher_projection.bias": (6,),
    }
    assert CorrelationCongruence(feature_weight=1.0).dimensions == 128


@pytest.mark.parametrize("variance", [5.0, 0.01, 1e-4, 200.0])
def test_what_information_learns(variance):
    objective, student, teacher = attached(VariationalInformation, initial_variance=variance)
    channels = zip(student.feature_channels[1:], teacher.feature_channels[1:], strict=True)
    for model, (ours, theirs) in zip(objective.models, channels, strict=True):
        shapes = [
            (c.in_channels, c.out_channels, c.kernel_size, c.bias) for c in model.mean if isinstance(c, nn.Conv2d)
        ]
        assert shapes == [(ours, theirs, (1, 1), None), (theirs, theirs, (1, 1), None), (theirs, theirs, (1, 1), None)]
        raw = model.raw_variance.detach().double()
        assert raw.shape == (theirs,)
        torch.testing.assert_close(raw.exp().log1p() + 1e-5, torch.full_like(raw, variance), rtol=1e-5, atol=0)
        ours, theirs = torch.ones(2, ours, 4, 4), torch.ones(2, theirs, 2, 2)
        likelihood = losses.gaussian_information(
            model.mean(ours[:, :, :2, :2]), theirs, variance=torch.full((theirs.shape[1],), variance)
        )
        torch.testing.assert_close(model(ours, theirs), likelihood, rtol=1e-4, atol=0)
    assert VariationalInformation(feature_weight=1.0).initial_variance == 5


def test_information_grows_with_training(batch):
    objective, student, teacher = attached(VariationalInformation)
    optimizer = torch.optim.Adam([*student.parameters(), *objective.parameters()], lr=0.02)
    values, variances = [], []
    for _ in range(30):
        loss = run(objective, student, teacher, batch)[0]["feature"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
        variances.append(objective.models[0].raw_variance.mean().item())
    assert values[-1] < values[0]
    assert variances[-1] < variances[0]


@pytest.mark.parametrize("build", LEARNED)
def test_learned_parts_take_half_typed_maps(build, batch):
    objective, student, teacher = attached(build)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = student(batch.images, taps=True), teacher(batch.images, taps=True)
    assert outputs[0].features[2].dtype == torch.bfloat16
    for term in objective(*outputs, batch, PROGRESS).values():
        assert term.dtype == torch.float32
        assert term.isfinite()


@pytest.mark.parametrize("build", ALL)
def test_attach_leaves_the_networks_as_they_are(build):
    objective, student, teacher = attached(build)
    assert student.training
    assert not teacher.training
    held = {id(t) for t in [*objective.parameters(), *objective.buffers()]}
    assert not held & {id(t) for n in (student, teacher) for t in [*n.parameters(), *n.buffers()]}
    relations = [*ON_EMBEDDINGS, SimilarityPreserving]
    assert bool(objective.relational) == (build in relations)


SENTENCES = [
    *((partial(build, feature_weight=-1.0), "feature_weight must be >= 0, got -1.0: set loss.") for build in ALL),
    *((partial(build, ce_weight=0, feature_weight=0), "ce_weight and feature_weight must not both") for build in ALL),
    (partial(AttentionTransfer, power=0.5, feature_weight=1), "power must be >= 1, got 0.5: set loss.power to 2"),
    (partial(AttentionTransfer, power=torch.inf, feature_weight=1), "power must be finite, got inf: set loss.power"),
    (partial(HintRegression, hint_layer=-1, feature_weight=1), "hint_layer must be >= 0, got -1: set loss.hint_layer"),
    (partial(CorrelationCongruence, dimensions=0, feature_weight=1), "dimensions must be >= 1, got 0: set loss.dim"),
    (
        partial(VariationalInformation, initial_variance=0.0, feature_weight=1),
        "initial_variance must be > 1e-05, got 0.0: set loss.initial_variance",
    ),
    (
        partial(VariationalInformation, initial_variance=torch.inf, feature_weight=1),
        "initial_variance must be finite, got inf: set loss.initial_variance",
    ),
    (
        partial(RelationalDistillation, distance_weight=0, angle_weight=0),
        "distance_weight and angle_weight must not both be 0: set loss.distance_weight",
    ),
    (
        partial(RelationalDistillation, distance_weight=1, angle_weight=-2),
        "angle_weight must be >= 0, got -2: set loss.angle_weight",
    ),
]


@pytest.mark.parametrize(("build", "sentence"), SENTENCES)
def test_refusals_name_value_rule_and_fix(build, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}"):
        build()
