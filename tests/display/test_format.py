from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from metta_jobs.display.format import age, coarse, count, duration, fit, number, percent, rate, shorten


@pytest.mark.parametrize(
    ("seconds", "exact", "rough"),
    [
        (None, "–", "–"),
        (float("inf"), "–", "–"),
        (-3, "0 s", "0 s"),
        (45.9, "45 s", "45 s"),
        (60, "1 min 00 s", "1 min"),
        (723, "12 min 03 s", "12 min"),
        (7380, "2 h 03 min", "2 h 03 min"),
        (86_399, "23 h 59 min", "23 h 59 min"),
        (4 * 86_400 + 3600 * 5, "4 d 05 h", "4 d 05 h"),
    ],
)
def test_spans(seconds, exact, rough):
    assert duration(seconds) == exact
    assert coarse(seconds) == rough


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0, "0.00"),
        (3.214, "3.21"),
        (-12.34, "-12.3"),
        (999.6, "1.00 k"),
        (36_214, "36.2 k"),
        (999_999, "1.00 M"),
        (1_250_000, "1.25 M"),
        (2e9, "2.00 G"),
        (0.05, "0.050"),
        (0.00012, "1.2e-04"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (1e20, "1.0e+20"),
    ],
)
def test_numbers(value, text):
    assert number(value) == text


def test_counts_are_whole_and_rates_have_a_unit():
    assert [count(8), count(1_250_000), count(None)] == ["8", "1.25 M", "–"]
    assert [rate(36_214.0), rate(None)] == ["36.2 k/s", "–"]


def test_a_hundred_percent_is_said_only_of_what_is_complete():
    assert [percent(0.9999), percent(1.0), percent(0.29)] == ["99 %", "100 %", "29 %"]


def test_age_of_the_future_is_now():
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert age(now - timedelta(minutes=3, seconds=20), now) == "3 min"
    assert age(now + timedelta(hours=1), now) == "0 s"


def test_shortening_keeps_both_ends():
    assert shorten("large_network.seed12", 11) == "large…eed12"
    assert shorten("short", 5) == "short"


@settings(deadline=None)
@given(st.text(), st.integers(0, 40))
def test_shortened_text_never_exceeds_its_width(text, width):
    assert cell_len(shorten(text, width)) <= width


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cc", "Cf", "Cs", "Mn", "Me", "Mc"])), st.integers(0, 40))
def test_fitted_text_has_exactly_its_width(text, width):
    assert cell_len(fit(text, width)) == width
    assert cell_len(fit(text, width, "right")) == width
