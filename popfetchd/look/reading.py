"""
A message as a person reads it: its main fields, its texts decoded, the rest named.

Rules of this file:

- Any octets give lines: what the parser cannot take is shown as it stands.
- Lines are the sender's; who shows them makes them safe.
- How deep and in how many parts a message is nested is the sender's choice: both are
  bounded.
"""

from __future__ import annotations

from collections.abc import Iterator
from email.errors import MessageError
from email.message import Message
from email.parser import BytesParser
from itertools import islice

from popfetchd.look.headers import text_of


FIELDS = ("Date", "From", "To", "Cc", "Subject")

MOST_PARTS = 100
"""Parts of one message that are shown: a mail with attachments has ten."""

DEEPEST = 20
"""Levels of nesting; the parser's time grows with them, and mail has three or four."""


def lines(octets: bytes) -> list[str]:
    """
    Return the message, or the first part of one, in *octets* as lines of text.
    """
    if octets.count(b"oundary") > DEEPEST:
        return _split(_decoded(octets, "utf-8"))
    try:
        message = BytesParser().parsebytes(octets)
        return [*_fields(message), "", *_texts(message)]
    except (MessageError, LookupError, ValueError, TypeError, AttributeError):
        return _split(_decoded(octets, "utf-8"))


def _fields(message: Message) -> Iterator[str]:
    for name in FIELDS:
        if text := text_of(message, name):
            yield f"{name}: {text}"


def _texts(message: Message) -> Iterator[str]:
    for part in islice(message.walk(), MOST_PARTS):
        kind = part.get_content_type()
        if part.is_multipart():
            continue
        if kind != "text/plain":
            yield f"[{kind}]"
        if part.get_content_maintype() == "text":
            payload = part.get_payload(decode=True)
            if isinstance(payload, bytes):
                yield from _split(_decoded(payload, part.get_content_charset()))


def _decoded(octets: bytes, charset: str | None) -> str:
    try:
        return octets.decode(charset or "utf-8", "replace")
    except (LookupError, ValueError):
        return octets.decode("latin-1")


def _split(text: str) -> list[str]:
    return text.replace("\r\n", "\n").split("\n")
