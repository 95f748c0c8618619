"""
What a message is like, when its octets cannot tell: the fields that name it.

Rules of this file:

- Message-ID, Date, From and the topmost Received, all four: who wrote it, when, and how
  it came here. A header that lacks one of them names nothing, and has no likeness.
- Two messages that are alike are taken for one where the choice is to archive it again
  or not; never where the choice is to remove it (docs/adr/0005).
- Only the start of a header is looked at (form.HEADER_KEPT).
"""

from __future__ import annotations

import hashlib
import re

from popfetchd.archive.form import HEADER_KEPT
from popfetchd.values import Likeness


NAMING = tuple(
    re.compile(rb"^%s:((?:.*\n[ \t])*.*)" % name, re.IGNORECASE | re.MULTILINE)
    for name in (b"message-id", b"date", b"from", b"received")
)
"""The fields, each with its folded lines (RFC 5322 section 2.2.3); the first of a name."""


def likeness(header: bytes) -> Likeness | None:
    """
    Return the SHA-256 of what names the message with *header*; None if nothing does.
    """
    found = [field.search(header[:HEADER_KEPT]) for field in NAMING]
    values = [b" ".join(field[1].split()) for field in found if field is not None]
    if len(values) < len(NAMING) or not all(values):
        return None
    return Likeness(hashlib.sha256(b"\0".join(values)).digest())
