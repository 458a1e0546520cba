"""Numbers as a person reads them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmbert.report.numbers import data_size, duration, number, quantity, significant


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (134.3456, 4, "134.3"),
        (12345.6, 4, "12,350"),
        (1234567, 3, "1,230,000"),
        (999.96, 4, "1,000"),
        (0.0123456, 2, "0.012"),
        (0.000012, 2, "1.2e-05"),
        (0, 3, "0"),
        (-5.4321, 3, "-5.43"),
        (1, 4, "1.000"),
    ],
)
def test_significant_digits(value: float, digits: int, text: str) -> None:
    assert significant(value, digits) == text


@given(st.floats(1e-4, 1e14), st.integers(2, 5))
def test_significant_digits_are_close_to_the_value(value: float, digits: int) -> None:
    assert float(significant(value, digits).replace(",", "")) == pytest.approx(value, rel=10 ** (1 - digits))


@pytest.mark.parametrize(
    ("seconds", "english", "chinese"),
    [
        (0.4213, "0.42 s", "0.42 秒"),
        (42.13, "42.1 s", "42.1 秒"),
        (59.96, "1 min 00 s", "1 分 00 秒"),
        (185.2, "3 min 05 s", "3 分 05 秒"),
        (3599.7, "1 h 00 min", "1 时 00 分"),
        (3721, "1 h 02 min", "1 时 02 分"),
        (86_390, "1 d 00 h", "1 天 00 时"),
        (183_600, "2 d 03 h", "2 天 03 时"),
        (0, "0 s", "0 秒"),
    ],
)
def test_durations(seconds: float, english: str, chinese: str) -> None:
    assert duration(seconds) == english
    assert duration(seconds, "zh") == chinese


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (512, "512 B"),
        (999.6, "1.0 kB"),
        (1_240_000, "1.2 MB"),
        (999_960, "1.0 MB"),
        (38_123_456, "38.1 MB"),
    ],
)
def test_sizes(count: float, text: str) -> None:
    assert data_size(count) == text


@pytest.mark.parametrize(
    ("count", "text"), [(9400, "9,400"), (12_300, "12.3 k"), (12_345_678, "12.3 M"), (1.24e9, "1.2 G"), (812, "812")]
)
def test_quantities(count: float, text: str) -> None:
    assert quantity(count) == text


@pytest.mark.parametrize("value", [None, True, "2.1", math.nan, math.inf, [2.1]])
def test_what_is_no_finite_number_is_none(value: object) -> None:
    assert number(value) is None
    assert number(2) == 2.0
