"""OFD: the margin it measures, the stages it compares, the networks it refuses."""

import pytest
import torch

from distill.losses import FeatureOverhaul, Task, partial_l2
from distill.losses.overhaul import NegativeMean
from distill.models import plain_cnn, resnet8, resnet8x4, timm_network, wrn_16_1

TASK = Task(16, torch.arange(10))
PROGRESS = torch.tensor(0.0)


def attached(student, teacher, **options):
    torch.manual_seed(1)
    objective = FeatureOverhaul(**{"ce_weight": 0.0, "feature_weight": 1.0} | options)
    assert objective.attach(student, teacher, TASK) is None
    return objective


def seen(*networks, count=3):
    images = torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    return [network(images, taps=True) for network in networks]


def test_the_margin_is_the_mean_of_all_negative_responses_so_far():
    margin = NegativeMean(3)
    generator = torch.Generator().manual_seed(3)
    batches = [torch.randn(n, 3, 4, 4, generator=generator) + torch.tensor([0.0, 1, 99])[:, None, None] for n in (5, 2)]
    for count in (1, 2):
        measured = margin(batches[count - 1])
        every = torch.cat(batches[:count]).transpose(0, 1).flatten(1)
        for channel in (0, 1):
            expected = every[channel][every[channel] < 0].mean()
            assert measured[channel].item() == pytest.approx(expected.item(), rel=1e-5)
        assert measured[2].item() == 0  # never negative
    assert measured.shape == (3, 1, 1)
    margin.eval()
    assert torch.equal(margin(-100 * torch.ones(2, 3, 4, 4)), measured)


def test_it_approaches_the_expectation_of_a_normal_response():
    """Where a BatchNorm of shift m and scale s stands before the ReLU: m - s phi(m / s) / Phi(-m / s)."""
    margin = NegativeMean(1)
    shift, scale = 0.3, 0.8
    generator = torch.Generator().manual_seed(4)
    for _ in range(20):
        measured = margin(shift + scale * torch.randn(64, 1, 16, 16, generator=generator))
    normal = torch.distributions.Normal(0.0, 1.0)
    ratio = torch.tensor(shift / scale)
    expected = shift - scale * normal.log_prob(ratio).exp() / normal.cdf(-ratio)
    assert measured.item() == pytest.approx(expected.item(), rel=0.01)


def test_stages_before_their_relu_without_the_stem():
    student, teacher = plain_cnn(), resnet8x4(num_classes=10).eval()
    objective = attached(student, teacher)
    ours, theirs = seen(student, teacher)
    value = objective.eval()(ours, theirs, None, PROGRESS)["feature"]
    total = 0.0
    for tap, connector in zip((1, 2, 3), objective.connectors, strict=True):
        pooled = torch.nn.functional.adaptive_avg_pool2d(theirs.preactivations[tap], ours.features[tap].shape[2:])
        distance = partial_l2(connector(ours.preactivations[tap]), pooled, margin=torch.zeros(1))
        total += distance / 2 ** (3 - tap)
    torch.testing.assert_close(value, total)


def test_networks_of_raw_maps_give_theirs_before_the_next_relu():
    student, teacher = wrn_16_1(num_classes=10), resnet8x4(num_classes=10).eval()
    objective = attached(student, teacher)
    objective(*seen(student, teacher), None, PROGRESS)["feature"].backward()
    assert all(parameter.grad.isfinite().all() for parameter in objective.parameters())
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_margins_are_state():
    state = attached(resnet8(num_classes=10), resnet8x4(num_classes=10)).state_dict()
    assert state["margins.2.total"].shape == state["margins.2.count"].shape == (256,)
    assert state["margins.2.total"].dtype == torch.float64


def test_networks_without_maps_before_a_relu_are_refused():
    timm = timm_network(name="test_resnet", num_classes=10)
    lack = "must have a preactivation of every feature map after the stem, got 0"
    with pytest.raises(ValueError, match=f"the student {lack}"):
        attached(timm, resnet8(num_classes=10))
    with pytest.raises(ValueError, match=f"the teacher {lack}"):
        attached(resnet8(num_classes=10), timm)


def test_without_its_term_it_needs_nothing():
    objective = FeatureOverhaul(feature_weight=0.0)
    assert not objective.needs_teacher
    assert objective.attach(resnet8(), None, TASK) is None
