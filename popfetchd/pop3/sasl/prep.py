"""
SASLprep (RFC 4013): one spelling for what looks the same.

Rules of this file: the standard library has the tables of stringprep (RFC 3454) and
Unicode 3.2; nothing here goes beyond that version, as the RFC has it.
"""

from __future__ import annotations

import stringprep
import unicodedata

from collections.abc import Callable


_PROHIBITED: tuple[Callable[[str], bool], ...] = (
    stringprep.in_table_c12,  # blanks that are not ASCII
    stringprep.in_table_c21_c22,  # control characters
    stringprep.in_table_c3,  # private use
    stringprep.in_table_c4,  # no characters
    stringprep.in_table_c5,  # surrogates
    stringprep.in_table_c6,  # no plain text
    stringprep.in_table_c7,  # not canonical
    stringprep.in_table_c8,  # display changed, or deprecated
    stringprep.in_table_c9,  # tags
)
"""RFC 4013 §2.3."""


def saslprep(text: str, *, stored: bool) -> str:
    """
    Return *text* as RFC 4013 prepares it. Raises ValueError with what is wrong about it.

    *stored* as in RFC 3454 §7: what Unicode 3.2 has not assigned is refused then; in a
    query it passes.
    """
    mapped = "".join(
        " " if stringprep.in_table_c12(sign) else sign
        for sign in text
        if not stringprep.in_table_b1(sign)
    )
    prepared = unicodedata.ucd_3_2_0.normalize("NFKC", mapped)
    if not prepared:
        raise ValueError("is empty once prepared by SASLprep")
    if any(prohibited(sign) for sign in prepared for prohibited in _PROHIBITED):
        raise ValueError("holds a character that SASLprep prohibits")
    if stored and any(map(stringprep.in_table_a1, prepared)):
        raise ValueError("holds a character that is newer than SASLprep")
    _judge_direction(prepared)
    return prepared


def _judge_direction(prepared: str) -> None:
    """
    Raises ValueError where right-to-left and left-to-right are mixed (RFC 3454 §6).
    """
    if not any(map(stringprep.in_table_d1, prepared)):
        return
    ends = map(stringprep.in_table_d1, (prepared[0], prepared[-1]))
    if not all(ends) or any(map(stringprep.in_table_d2, prepared)):
        raise ValueError("mixes directions of writing as SASLprep does not allow")
