"""
A message as a person reads it: its main fields, its texts decoded, the rest named.

Rules of this file:

- Any octets give lines: what the parser cannot take is shown as it stands.
- Lines are the sender's; who shows them makes them safe.
- How deep and in how many parts a message is nested is the sender's choice: both are
  bounded.
"""

from __future__ import annotations

import codecs
import re

from collections.abc import Iterator
from contextlib import suppress
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

MOST_BLOCKS = 2000
"""Lines that may begin a part, or, in a report of delivery, a block of fields: the parser
makes a message of each, a megabyte of them takes it ten seconds."""

CONTENT_TYPE = re.compile(
    rb"^content-type:(?:.*\n[ \t])*.*", re.IGNORECASE | re.MULTILINE
)

BLANK_LINE = re.compile(rb"\n\r?(?=\n)")

LONGEST_TYPE = 1000
"""Octets of a Content-Type field: the time for its parameters grows with their square."""

SLOW = frozenset({"punycode", "idna"})
"""Codecs of Python's that are no charsets of mail, and whose time grows so too."""


def lines(octets: bytes) -> list[str]:
    """
    Return the message, or the first part of one, in *octets* as lines of text.
    """
    if _is_modest(octets):
        with suppress(MessageError, *NONSENSE):
            message = BytesParser().parsebytes(octets)
            return [*_fields(message), "", *_texts(message)]
    return _split(_decoded(octets, "utf-8"))


NONSENSE = (LookupError, ValueError, TypeError, AttributeError)
"""What the parser raises where it does not understand what it was given."""


def _is_modest(octets: bytes) -> bool:
    lowered = octets.lower()
    return (
        _may_nest(lowered) <= DEEPEST
        and _longest_type(octets) <= LONGEST_TYPE
        and _blocks(lowered) <= MOST_BLOCKS
    )


def _may_nest(lowered: bytes) -> int:
    # Without one of these words no part has parts; the parser calls itself for each.
    return lowered.count(b"boundary") + lowered.count(b"message/")


def _blocks(lowered: bytes) -> int:
    parts = lowered.count(b"\n--") if b"boundary" in lowered else 0
    if b"delivery-status" not in lowered:
        return parts
    return parts + len(BLANK_LINE.findall(lowered))


def _longest_type(octets: bytes) -> int:
    return max(map(len, CONTENT_TYPE.findall(octets)), default=0)


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
        name = codecs.lookup(charset or "utf-8").name
        return octets.decode("latin-1" if name in SLOW else name, "replace")
    except (LookupError, ValueError):
        return octets.decode("latin-1")


def _split(text: str) -> list[str]:
    return text.replace("\r\n", "\n").split("\n")
