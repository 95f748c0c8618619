"""
When a message arrived: the date in its topmost Received header.

Rules of this file:

- It becomes the file's time of modification, which mail servers show as the arrival.
  It is written by strangers: what is no date, or an absurd one, is refused, and nothing
  but a date is ever taken from it.
"""

from __future__ import annotations

import re


RECEIVED = re.compile(rb"^received:((?:.*\n[ \t])*.*)", re.IGNORECASE | re.MULTILINE)
"""A Received field with its folded lines (RFC 5322 sections 2.2.3 and 3.6.7)."""

LONGEST_DATE = 256
"""Octets of a date, with its comments; a longer one is not read."""

CLOCK_SKEW = 86_400.0
"""A server's clock may be a day ahead of ours; what is later is no arrival."""


def arrival(header: bytes, visit_started: float) -> float:
    """
    Return when the message with *header* arrived, in seconds since 1970.

    *visit_started* is the answer where the header does not tell, or tells nonsense.
    """
    received = received_at(header)
    if received is None or not 0 <= received <= visit_started + CLOCK_SKEW:
        return visit_started
    return received


def received_at(header: bytes) -> float | None:
    """
    Return the date of the topmost Received field as it stands; None without one.
    """
    topmost = RECEIVED.search(header)
    if topmost is None:
        return None
    import email.utils  # noqa: PLC0415 -- a visit without new messages needs no calendar

    date = topmost.group(1).rpartition(b";")[2][:LONGEST_DATE].decode("latin-1")
    try:
        parsed = email.utils.parsedate_tz(date)
        return None if parsed is None else _seconds(parsed)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None  # what the parser makes of nonsense


def _seconds(
    parsed: tuple[int, int, int, int, int, int, int, int, int, int | None],
) -> float:
    import calendar  # noqa: PLC0415 -- as above

    # Without a zone it is taken as UTC, never as this machine's own zone.
    return float(calendar.timegm(parsed[:9]) - (parsed[9] or 0))
