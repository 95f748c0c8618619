"""
Looking at a maildrop: what `check`, `list` and `fetch --dry-run` do.

Rules of this file:

- It archives nothing, removes nothing, and writes nothing to the ledger.
- It reads headers with TOP, never with RETR, so that nothing is marked as read.
- Each function takes a session that has logged in; whoever opened it says QUIT.
- What a server sent leaves here as plain values; making it safe to show is the
  business of whoever shows it.
"""

from __future__ import annotations

import email.header
import email.utils

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from email.errors import MessageError
from email.message import Message
from email.parser import BytesHeaderParser

from popfetchd.errors import ServerRefusal
from popfetchd.ledger import Ledger
from popfetchd.pop3.replies import Capabilities
from popfetchd.pop3.session import Session
from popfetchd.selection import Selection, select
from popfetchd.values import (
    Account,
    Channel,
    DropListing,
    Mechanism,
    MessageNumber,
    Octets,
    UniqueId,
)


LONGEST_TEXT = 1000
"""Characters of a header's field that are read: decoding takes time that grows with
the square of them, and one line of a table shows less."""


@dataclass(frozen=True, slots=True)
class Checked:
    """
    What `check` saw. *capabilities* are the lines of CAPA after the login.
    """

    channel: Channel
    greeting: str
    capabilities: tuple[str, ...]
    mechanism: Mechanism | None
    drop: DropListing


@dataclass(frozen=True, slots=True)
class Line:
    """
    One message as `list` shows it; the texts are the server's, undecoded dangers and all.

    *archived* tells whether its unique-id is known to the ledger: a hint, no proof.
    """

    number: MessageNumber
    unique_id: UniqueId | None
    octets: Octets | None
    date: str
    sender: str
    subject: str
    archived: bool


@dataclass(frozen=True, slots=True)
class Preview:
    """
    What a visit would do now.
    """

    drop: DropListing
    selection: Selection


def check(session: Session) -> Checked:
    """
    Return what the server showed of itself; asks STAT.
    """
    return Checked(
        session.channel,
        session.greeting.text,
        _lines(session.capabilities),
        session.mechanism,
        session.stat(),
    )


def _lines(capabilities: Capabilities) -> tuple[str, ...]:
    tags = sorted(capabilities.arguments.items())
    return tuple(" ".join((tag, *words)) for tag, words in tags)


def messages(session: Session, archived: Collection[UniqueId]) -> Iterator[Line]:
    """
    Yield a line for each message of the maildrop, in the order of their numbers.

    *archived* holds the unique-ids that the ledger knows.
    """
    listing = session.listing().named
    for number, answer in session.top(listing.numbers, 0):
        header = b"" if isinstance(answer, ServerRefusal) else answer
        date, sender, subject = summary(header)
        unique_id = listing.unique_ids.get(number)
        yield Line(
            number,
            unique_id,
            listing.octets.get(number),
            date,
            sender,
            subject,
            unique_id is not None and unique_id in archived,
        )


def preview(session: Session, account: Account, ledger: Ledger, now: float) -> Preview:
    """
    Return what a visit of *account* would do at *now*.
    """
    listing = session.listing()
    known, failures = ledger.known(account.name), ledger.failures(account.name)
    return Preview(listing.drop, select(listing, known, failures, account, now))


def summary(header: bytes) -> tuple[str, str, str]:
    """
    Return date (ISO 8601, empty if none can be read), sender and subject of *header*.
    """
    parsed = BytesHeaderParser().parsebytes(header)
    return _date(parsed), _text(parsed, "From"), _text(parsed, "Subject")


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
