"""
What a message's header tells a person: date, sender, subject.

Rules of this file:

- Any octets give three texts: one hostile header must not hide the other messages.
- What is read of a field is bounded before it is decoded.
"""

from __future__ import annotations

import email.header
import email.utils

from email.errors import MessageError
from email.message import Message
from email.parser import BytesHeaderParser
from typing import NamedTuple


LONGEST_TEXT = 1000
"""Characters of a header's field that are read: decoding takes time that grows with
the square of them, and one line of a table shows less."""


class Summary(NamedTuple):
    """
    Texts of the server's, undecoded dangers and all; *date* is ISO 8601, or empty.
    """

    date: str
    sender: str
    subject: str


def summary(header: bytes) -> Summary:
    """
    Return what *header* tells; empty texts where it says nothing that can be read.
    """
    parsed = BytesHeaderParser().parsebytes(header)
    return Summary(_date(parsed), text_of(parsed, "From"), text_of(parsed, "Subject"))


def _date(header: Message) -> str:
    try:
        return email.utils.parsedate_to_datetime(_raw(header, "date")).isoformat()
    except (TypeError, ValueError, IndexError, OverflowError):
        return ""


def text_of(header: Message, name: str) -> str:
    """
    Return a field's text on one line: RFC 2047 where well formed, else as it stands.
    """
    raw = _raw(header, name.lower())
    try:
        decoded = str(email.header.make_header(email.header.decode_header(raw)))
    except (MessageError, LookupError, ValueError):
        decoded = raw
    return " ".join(decoded.split())


def _raw(header: Message, name: str) -> str:
    # The parser keeps octets above 127 as surrogates: UTF-8, if anything (RFC 6532).
    fields = (str(text) for key, text in header.raw_items() if key.lower() == name)
    octets = next(fields, "")[:LONGEST_TEXT].encode("ascii", "surrogateescape")
    return octets.decode("utf-8", "replace")
