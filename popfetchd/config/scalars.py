"""
Durations, sizes and whole numbers as an operator writes them.

Rules of this file:

- A duration or size has a unit; a bare number is refused, for nobody knows what it
  counts. Durations are those of Prometheus (`1d12h`), sizes have no fractions.
- MB is 10⁶ octets and MiB 2²⁰; `KB` and `M` are refused, for they mean both.
- What is read can be spelled again, and reads the same.
- Every refusal is a ValueError whose sentence says what is allowed.
"""

from __future__ import annotations

import re

from popfetchd.errors import quote


UNITS_OF_TIME = {
    "y": 31_536_000_000,
    "w": 604_800_000,
    "d": 86_400_000,
    "h": 3_600_000,
    "m": 60_000,
    "s": 1_000,
    "ms": 1,
}
"""Milliseconds of each unit, longest first; a year has 365 days, as in Prometheus."""

UNITS_OF_SIZE = {
    "B": 1,
    "kB": 10**3,
    "KiB": 2**10,
    "MB": 10**6,
    "MiB": 2**20,
    "GB": 10**9,
    "GiB": 2**30,
    "TB": 10**12,
    "TiB": 2**40,
}

LONGEST = 100 * UNITS_OF_TIME["y"]
"""Milliseconds; no later date is sure to fit into what reckons with it."""

DURATION = "^" + "".join(f"(?:([0-9]{{1,15}}){unit})?" for unit in UNITS_OF_TIME) + "$"
"""The units in this order, each at most once."""

SIZE = f"^([0-9]{{1,15}})({'|'.join(UNITS_OF_SIZE)})$"

WHOLE = "^[-+]?[0-9]{1,18}$|^0o[0-7]{1,18}$|^0x[0-9a-fA-F]{1,14}$"
"""The integers of YAML 1.2's core schema (§10.3.2), as far as anything here goes."""


def duration(text: str) -> float:
    """
    Return the seconds that *text* stands for. Raises ValueError.
    """
    found = re.fullmatch(DURATION, text)
    if not text or not found:
        raise ValueError(
            f"{quote(text)} is no duration; allowed are such as 90s, 5m, 12h, 1d12h, 30d"
        )
    amounts = (int(amount or 0) for amount in found.groups())
    milliseconds = sum(
        a * u for a, u in zip(amounts, UNITS_OF_TIME.values(), strict=True)
    )
    if milliseconds > LONGEST:
        raise ValueError(f"{quote(text)} is longer than 100 years")
    return milliseconds / 1000


def spelled_duration(seconds: float) -> str:
    """
    Return *seconds*, of which milliseconds count, as `duration` reads them.
    """
    left = round(seconds * 1000)
    parts = []
    for unit in ("d", "h", "m", "s", "ms"):  # weeks and years are harder to compare
        amount, left = divmod(left, UNITS_OF_TIME[unit])
        if amount:
            parts.append(f"{amount}{unit}")
    return "".join(parts) or "0s"


def size(text: str) -> int:
    """
    Return the octets that *text* stands for. Raises ValueError.
    """
    found = re.fullmatch(SIZE, text)
    if not found:
        raise ValueError(
            f"{quote(text)} is no size; allowed are whole numbers of "
            f"{', '.join(UNITS_OF_SIZE)}, such as 50MB"
        )
    return int(found[1]) * UNITS_OF_SIZE[found[2]]


def spelled_size(octets: int) -> str:
    """
    Return *octets* as `size` reads them, in the largest unit that leaves no rest.
    """
    unit = max((u for u, n in UNITS_OF_SIZE.items() if octets % n == 0), key=_worth)
    return f"{octets // UNITS_OF_SIZE[unit]}{unit}" if octets else "0B"


def _worth(unit: str) -> int:
    return UNITS_OF_SIZE[unit]


def whole(text: str) -> int:
    """
    Return the whole number that *text* stands for. Raises ValueError.
    """
    if not re.fullmatch(WHOLE, text):
        raise ValueError(f"{quote(text)} is no whole number")
    # int(…, 0) refuses the zeros that lead a decimal number; the core schema does not.
    return int(text, 0) if text[:2] in {"0o", "0x"} else int(text)
