"""Which tap answers which, for the shapes of the field's networks at 32 x 32; and the convolution between them."""

import itertools

import pytest
import torch
from torch import nn

from distill.losses.adapters import apply
from distill.losses.hints import resizing_convolution
from distill.losses.taps import pair_taps, paired
from distill.models import Output

SIDES = {
    "resnet": (32, 32, 16, 8),
    "vgg": (32, 16, 8, 4, 4),
    "mobilenet": (16, 16, 8, 4, 2),
    "shufflenet": (32, 16, 8, 4),
    "resnet50": (32, 32, 16, 8, 4),
    "plain_cnn": (32, 16, 8, 4),
    "vit": (14,) * 12,
}


def taps(name):
    return tuple(torch.empty(2, 3 + i, side, side, device="meta") for i, side in enumerate(SIDES[name]))


@pytest.mark.parametrize(
    ("student", "teacher", "expected"),
    [
        ("resnet", "resnet", [(1, 1), (2, 2), (3, 3)]),
        ("shufflenet", "resnet", [(1, 1), (2, 2), (3, 3)]),
        ("mobilenet", "vgg", [(1, 1), (2, 2), (3, 3), (4, 4)]),
        ("mobilenet", "resnet50", [(1, 1), (2, 2), (3, 3), (4, 4)]),
        ("mobilenet", "resnet", [(1, 1), (2, 2), (3, 3)]),  # 16, 8, 4 and 32, 16, 8 pixels: as RepDistiller pairs them
        ("vgg", "resnet", [(1, 1), (2, 2), (3, 3)]),
        ("resnet", "vgg", [(1, 1), (2, 2), (3, 3)]),
        ("shufflenet", "vgg", [(1, 1), (2, 2), (3, 3)]),
        ("shufflenet", "resnet50", [(1, 1), (2, 2), (3, 3)]),
        ("vit", "resnet", [(9, 1), (10, 2), (11, 3)]),  # no size in common: from the deep end
    ],
)
def test_pairs(student, teacher, expected):
    assert list(pair_taps(taps(student), taps(teacher), pairing="position")) == expected


@pytest.mark.parametrize(
    ("student", "teacher", "expected"),
    [
        ("mobilenet", "vgg", [(1, 1), (2, 2), (3, 3), (4, 4)]),
        ("mobilenet", "resnet", [(1, 2), (2, 3)]),  # 16 and 8
        ("vgg", "resnet", [(1, 2), (2, 3)]),
        ("shufflenet", "vgg", [(1, 1), (2, 2), (3, 4)]),  # vgg's deeper map of 4 x 4
        ("shufflenet", "resnet50", [(1, 2), (2, 3), (3, 4)]),
        ("vit", "resnet", [(9, 1), (10, 2), (11, 3)]),
    ],
)
def test_pairs_by_size(student, teacher, expected):
    assert list(pair_taps(taps(student), taps(teacher), pairing="size")) == expected


@pytest.mark.parametrize("pairing", ["position", "size"])
@pytest.mark.parametrize(("student", "teacher"), list(itertools.product(SIDES, repeat=2)))
def test_every_pair_of_families_has_pairs_in_order(student, teacher, pairing):
    pairs = pair_taps(taps(student), taps(teacher), pairing=pairing)
    assert pairs
    for side, network in ((0, student), (1, teacher)):
        places = [pair[side] for pair in pairs]
        assert places == sorted(set(places))
        assert min(places) > 0
        assert max(places) < len(SIDES[network])
    mirrored = pair_taps(taps(teacher), taps(student), pairing=pairing)
    assert [(i, j) for j, i in mirrored] == list(pairs)


def test_height_alone_makes_no_common_size():
    student = [torch.empty(1, 1, 4, width) for width in (8, 8, 6)]
    teacher = [torch.empty(1, 1, 4, width) for width in (8, 7, 5, 3)]
    assert pair_taps(student, teacher, pairing="size") == ((1, 2), (2, 3))


def test_paired_maps_are_the_networks_own_and_the_teachers_are_cut_off():
    student, teacher = ([torch.zeros(1, i + 1, 4, 4, requires_grad=True) for i in range(3)] for _ in range(2))
    outputs = [Output(torch.zeros(1, 2), tuple(features)) for features in (student, teacher)]
    (first, one), (second, two) = paired(*outputs, pairing="position")
    assert (first, second) == (student[1], student[2])
    assert (one.shape, two.shape) == (teacher[1].shape, teacher[2].shape)
    assert not one.requires_grad
    with pytest.raises(ValueError, match=r"^the student must have 2 feature maps or more, got 1: "):
        paired(Output(torch.zeros(1, 2), tuple(student[:1])), outputs[1], pairing="position")
    with pytest.raises(ValueError, match=r"^teacher must be an output, got None: .*choose teacher=NAME"):
        paired(outputs[0], None, pairing="position")


@pytest.mark.parametrize(
    ("student", "teacher", "layer"),
    [
        ((8, 8), (8, 8), nn.Conv2d(3, 5, 1)),
        ((1, 1), (1, 1), nn.Conv2d(3, 5, 1)),
        ((16, 16), (8, 8), nn.Conv2d(3, 5, 3, stride=2, padding=1)),
        ((12, 6), (4, 2), nn.Conv2d(3, 5, 5, stride=3, padding=2)),
        ((32, 32), (8, 8), nn.Conv2d(3, 5, 7, stride=4, padding=3)),
        ((8, 8), (16, 16), nn.ConvTranspose2d(3, 5, 4, stride=2, padding=1)),
        ((4, 2), (12, 6), nn.ConvTranspose2d(3, 5, 5, stride=3, padding=1)),
        ((4, 4), (16, 16), nn.ConvTranspose2d(3, 5, 8, stride=4, padding=2)),
    ],
)
@pytest.mark.parametrize("bias", [True, False])
def test_the_convolution_to_the_teachers_shape(student, teacher, layer, bias):
    made = resizing_convolution((2, 3, *student), (2, 5, *teacher), bias=bias)
    assert type(made) is type(layer)
    assert (made.kernel_size, made.stride, made.padding) == (layer.kernel_size, layer.stride, layer.padding)
    assert (made.bias is not None) is bias
    assert made(torch.zeros(2, 3, *student)).shape == (2, 5, *teacher)


@pytest.mark.parametrize(
    ("student", "teacher"), [((7, 7), (4, 4)), ((3, 3), (4, 4)), ((8, 4), (4, 8)), ((8, 8), (4, 8))]
)
def test_other_sizes_are_averaged_first(student, teacher):
    made = resizing_convolution((2, 3, *student), (2, 5, *teacher))
    assert [type(part) for part in made] == [nn.AdaptiveAvgPool2d, nn.Conv2d]
    assert made(torch.zeros(2, 3, *student)).shape == (2, 5, *teacher)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_learned_parts_run_in_their_own_format(dtype):
    layer, tensor = nn.Linear(3, 2), torch.ones(4, 3, dtype=dtype, requires_grad=True)
    assert apply(layer, tensor).dtype == torch.float32
    apply(layer, tensor).sum().backward()
    assert tensor.grad.dtype == dtype
    assert apply(layer.double(), tensor).dtype == torch.float64
