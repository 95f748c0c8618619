"""
Durations, sizes and whole numbers: what is read, what is refused, what comes back.
"""

from __future__ import annotations

import pytest

from hypothesis import given
from hypothesis import strategies as st

from popfetchd.config import scalars


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90.0),
        ("5m", 300.0),
        ("1d12h", 129_600.0),
        ("1h0m30s", 3630.0),
        ("250ms", 0.25),
        ("1s500ms", 1.5),
        ("2w", 1_209_600.0),
        ("1y", 31_536_000.0),
        ("0s", 0.0),
        ("100y", 3_153_600_000.0),
    ],
)
def test_duration(text, seconds):
    """
    A duration is what Prometheus takes it for.
    """
    assert seconds == scalars.duration(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "0",
        "5 m",
        "5M",
        "1m1h",
        "5m5m",
        "-5m",
        "+5m",
        "1.5h",
        "m",
        "5m\n",
        "\u0665m",
    ],
)
def test_no_duration(text):
    """
    A bare number, an unknown unit or a wrong order is no duration.
    """
    with pytest.raises(ValueError, match="is no duration; allowed are such as 90s, 5m"):
        scalars.duration(text)


def test_duration_too_long():
    """
    A duration beyond a hundred years is refused, however many digits it has.
    """
    with pytest.raises(ValueError, match="'101y' is longer than 100 years"):
        scalars.duration("101y")
    with pytest.raises(ValueError, match="is longer than 100 years"):
        scalars.duration("9" * 15 + "y")


@given(st.integers(0, scalars.LONGEST))
def test_durations_come_back(milliseconds):
    """
    A duration that is spelled reads as the same duration.
    """
    seconds = milliseconds / 1000
    assert seconds == scalars.duration(scalars.spelled_duration(seconds))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0s"), (300.0, "5m"), (2_592_000.0, "30d"), (1.5, "1s500ms")],
)
def test_spelled_duration(seconds, text):
    """
    A duration is spelled as an operator would write it.
    """
    assert text == scalars.spelled_duration(seconds)


@pytest.mark.parametrize(
    ("text", "octets"),
    [
        ("0B", 0),
        ("1kB", 1000),
        ("1KiB", 1024),
        ("50MB", 50_000_000),
        ("50MiB", 52_428_800),
        ("2GB", 2_000_000_000),
        ("2GiB", 2_147_483_648),
        ("1TB", 10**12),
        ("1TiB", 2**40),
    ],
)
def test_size(text, octets):
    """
    MB is ten to the sixth, MiB two to the twentieth.
    """
    assert octets == scalars.size(text)


@pytest.mark.parametrize(
    "text", ["", "50", "50M", "50KB", "50 MB", "1.5GB", "-1MB", "MB"]
)
def test_no_size(text):
    """
    A bare number, a fraction or a unit of two meanings is no size.
    """
    with pytest.raises(ValueError, match="is no size; allowed are whole numbers of B,"):
        scalars.size(text)


@given(st.integers(0, 10**15))
def test_sizes_come_back(octets):
    """
    A size that is spelled reads as the same size.
    """
    assert octets == scalars.size(scalars.spelled_size(octets))


@pytest.mark.parametrize(
    ("octets", "text"), [(0, "0B"), (1, "1B"), (50_000_000, "50MB"), (2**20, "1MiB")]
)
def test_spelled_size(octets, text):
    """
    A size is spelled in the largest unit that leaves no rest.
    """
    assert text == scalars.spelled_size(octets)


@pytest.mark.parametrize(
    ("text", "number"),
    [("995", 995), ("0995", 995), ("+5", 5), ("-5", -5), ("0x3E3", 995), ("0o17", 15)],
)
def test_whole(text, number):
    """
    Whole numbers are those of YAML 1.2's core schema: a leading zero says nothing.
    """
    assert number == scalars.whole(text)


@pytest.mark.parametrize(
    "text", ["", "9.0", "1_000", "0b11", "1e3", "9" * 5000, "\u0669"]
)
def test_not_whole(text):
    """
    What YAML 1.2 does not read as an integer is no whole number.
    """
    with pytest.raises(ValueError, match="is no whole number"):
        scalars.whole(text)
