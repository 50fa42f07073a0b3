"""The canonical form and the id: what must not matter does not, what must matter does."""

import json
import math
import random
import re
from typing import Any

import numpy as np
import pytest
import yaml

from distill.runs.identity import NUMERICS_VERSION, canonical, run_id

IDENTITY: dict[str, Any] = {
    "numerics": 1,
    "data": {"train": "a1", "test": None, "holdout": 0, "mean": (0.5, 0.25, 0.1), "flip": True},
    "student": {"target": "distill.models.resnet8", "num_classes": 10},
    "objective": {"temperature": 4.0, "ce_weight": 0.1, "kd_weight": 0.9},
    "recipe": {"epochs": 240, "milestones": [150, 180, 210], "weight_decay": 5e-4},
    "seed": 1,
}


def test_the_id_of_a_small_identity_is_golden() -> None:
    assert run_id(IDENTITY) == "484f3549a508"
    assert run_id({}) == "44136fa355b3"  # sha256 of the two characters {}


def test_numerics_version_is_an_integer_from_1() -> None:
    assert type(NUMERICS_VERSION) is int
    assert NUMERICS_VERSION >= 1


def test_an_id_is_12_hexadecimal_characters() -> None:
    assert re.fullmatch("[0-9a-f]{12}", run_id({"seed": 1}))


def test_the_order_of_keys_and_the_kind_of_sequence_do_not_matter() -> None:
    turned = {key: IDENTITY[key] for key in reversed(IDENTITY)}
    turned["recipe"] = {**IDENTITY["recipe"], "milestones": (150, 180, 210)}
    turned["data"] = dict(reversed(IDENTITY["data"].items()))
    assert run_id(turned) == run_id(IDENTITY)
    assert json.dumps(canonical({"b": 1, "a": {"d": 1, "c": 2}})) == '{"a": {"c": 2, "d": 1}, "b": 1}'


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (0.1 + 0.2, 0.3),
        (-0.0, 0.0),
        (np.float64(0.25), 0.25),
        (1 / 3, 0.333333333333),
        (1e22, 10000000000000000000000.0),
        (5e-4, 0.0005),
    ],
)
def test_the_noise_of_floats_does_not_matter(left: float, right: float) -> None:
    assert run_id({"x": left}) == run_id({"x": right})


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (1, True),
        (0, False),
        (1, 1.0),
        ("1", 1),
        (None, "null"),
        (None, 0),
        (0.3, 0.30000001),
        ([], {}),
        ([1, 2], [2, 1]),
    ],
)
def test_what_differs_in_type_value_or_order_differs(left: object, right: object) -> None:
    assert run_id({"x": left}) != run_id({"x": right})


def test_a_key_that_is_missing_differs_from_one_that_is_null() -> None:
    assert run_id({"x": None}) != run_id({})


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.0, "1.0"), (100.0, "100.0"), (1e15, "1000000000000000.0"), (1e16, "1e+16"), (0.1, "0.1")],
)
def test_integral_floats_print_one_way(value: float, text: str) -> None:
    assert json.dumps(canonical(value)) == text


def test_bools_stay_bools_and_ints_stay_exact() -> None:
    assert canonical([True, 2**80, -0.0, "ü"]) == [True, 2**80, 0.0, "ü"]
    assert canonical(True) is True
    assert math.copysign(1.0, float(str(canonical(-0.0)))) == 1.0


def test_canonical_is_idempotent_and_survives_json_and_yaml() -> None:
    draw = random.Random(0)
    for _ in range(200):
        value = {"x": [draw.uniform(-1, 1) * 10.0 ** draw.randint(-300, 300), draw.randint(-(10**18), 10**18)]}
        once = canonical(value)
        assert canonical(once) == once
        assert canonical(json.loads(json.dumps(once))) == once
        assert run_id(yaml.safe_load(yaml.safe_dump(once))) == run_id(value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_refused_by_name(value: float) -> None:
    with pytest.raises(ValueError, match=r"identity\.recipe\.rates\[1\] must be a finite number"):
        run_id({"recipe": {"rates": [0.1, value]}})


@pytest.mark.parametrize("value", [{1, 2}, object(), b"x", np.int64(3), {1: 2}, {True: 2}])
def test_what_is_not_plain_data_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"identity\.x must be plain data|every key of identity\.x must be a string"):
        run_id({"x": value})
