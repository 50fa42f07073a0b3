"""Values brought to the type their owner declares."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import pytest

from distill.config.check import Mismatch, cast, signature

FUNCTION = {"_target_": "math.sqrt", "_partial_": True}


@pytest.mark.parametrize(
    ("value", "annotation", "expected"),
    [
        (2, float, 2.0),
        (2.0, int, 2),
        (2, int | None, 2),
        (None, int | None, None),
        (2, float | None, 2.0),
        (2, int | float, 2),
        (2.5, int | float, 2.5),
        ("x", str, "x"),
        (12, str, "12"),
        (True, bool, True),
        ("bf16", Literal["fp32", "bf16"], "bf16"),
        ([1, 2], tuple[float, ...], (1.0, 2.0)),
        ([1, 2, 3], tuple[float, float, float], (1.0, 2.0, 3.0)),
        (None, tuple[float, float, float] | None, None),
        ([1, 2], list[int], [1, 2]),
        ([1.0], Sequence[int], [1]),
        ({"a": 1}, dict[str, int], {"a": 1}),
        ({"a": 1}, dict[str, float], {"a": 1.0}),
        (FUNCTION, Callable[..., float], FUNCTION),
        ({"a": 1}, Any, {"a": 1}),
    ],
)
def test_what_fits(value: Any, annotation: Any, expected: Any) -> None:
    found = cast(value, annotation)
    assert found == expected
    assert repr(found) == repr(expected)  # 2 is not 2.0


@pytest.mark.parametrize(
    ("value", "annotation", "words"),
    [
        ("2", float, "a number"),
        (True, float, "a number"),
        (True, int, "an integer"),
        (2.5, int, "an integer"),
        (1, bool, "true or false"),
        ("yes", bool, "true or false"),
        (None, str, "text"),
        ([1], str, "text"),
        ("x", int | None, "an integer or null"),
        ("fp16", Literal["fp32", "bf16"], "one of fp32, bf16"),
        (1.0, tuple[float, ...], "a list"),
        ([1.0], tuple[float, float], "a list of 2 values"),
        (["x"], tuple[float, ...], "a list with a number at every place"),
        (3, dict[str, Any], "a mapping"),
        ({"a": "x"}, dict[str, float], "a mapping with a number at every key"),
        ("kd", Callable[..., float], "a function, written as"),
        ({"name": "kd"}, Callable[..., float], "a function, written as"),
    ],
)
def test_what_does_not(value: Any, annotation: Any, words: str) -> None:
    with pytest.raises(Mismatch) as mismatch:
        cast(value, annotation)
    assert str(mismatch.value).startswith(words)


def test_a_signature_is_read_once_and_may_be_that_of_a_callable_without_a_hash() -> None:
    class Rate:
        __hash__ = None

        def __call__(self, *, rate: float = 2.0) -> None: ...

    assert signature(Rate.__call__) is signature(Rate.__call__)
    assert signature(Rate()).defaults == signature(Rate.__call__).defaults == {"rate": 2.0}
