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
    return Summary(_date(parsed), _text(parsed, "From"), _text(parsed, "Subject"))


def _date(header: Message) -> str:
    try:
        return email.utils.parsedate_to_datetime(_raw(header, "Date")).isoformat()
    except (TypeError, ValueError, IndexError, OverflowError):
        return ""


def _text(header: Message, name: str) -> str:
    # RFC 2047 where it is well formed, else as it stands.
    raw = _raw(header, name)
    try:
        decoded = str(email.header.make_header(email.header.decode_header(raw)))
    except (MessageError, LookupError, ValueError):
        decoded = raw
    return " ".join(decoded.split())


def _raw(header: Message, name: str) -> str:
    return str(header[name] or "")[:LONGEST_TEXT]
