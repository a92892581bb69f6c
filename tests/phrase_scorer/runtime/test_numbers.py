"""Numbers as files write them: what int() and float() would take or raise for besides."""

from __future__ import annotations

import math

import pytest

from phrase_scorer.runtime.numbers import LARGEST, real_number, whole_number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (b"0", 0),
        ("007", 7),
        (b"2147483647", LARGEST),
        (b"0" * 900 + b"1", 1),
        *((text, None) for text in (b"", b"2147483648", b"1" * 5000, b"+1", b"-1", b" 1", b"1\n")),
        *((text, None) for text in ("1_0", "٣", "²", "1.0", "x", "\udcff")),
        *((text.encode(), None) for text in ("٣", "²")),
    ],
)
def test_a_whole_number_is_digits_within_bounds(text, number):
    assert whole_number(text) == number


def test_the_bound_is_the_callers():
    assert whole_number(b"12", 12) == 12
    assert whole_number(b"13", 12) is None
    assert whole_number(b"4294967296", 2**40) == 2**32


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (b"0.5", 0.5),
        ("-.5", -0.5),
        (b"+5.", 5.0),
        ("1E-3", 0.001),
        (b"1" * 5000, None),
        *((text, None) for text in (b"", b".", b"e1", b"1e400", b"1_0", b" 1", b"0,5", b"0x1")),
        *((text, None) for text in ("٣", "inf", "-inf", "nan", "infinity", "NaN", "\udcff")),
    ],
)
def test_a_real_number_is_decimal_and_finite(text, number):
    assert real_number(text) == number


def test_what_cpp_prints_where_it_is_not_finite():
    assert real_number(b"inf", finite=False) == math.inf
    assert real_number("-inf", finite=False) == -math.inf
    assert math.isnan(real_number(b"nan", finite=False))
    assert real_number(b"1e400", finite=False) == math.inf
    assert real_number(b"infinite", finite=False) is None
