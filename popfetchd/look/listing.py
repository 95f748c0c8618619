"""
A maildrop line by line, and what a visit would do with it.

Rules of this file:

- Lines come while the server still sends: nothing waits for ten thousand headers.
- Whoever opened the session says QUIT.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from popfetchd.errors import ServerRefusal
from popfetchd.look.headers import summary
from popfetchd.pop3.session import Session
from popfetchd.selection import Selection, select
from popfetchd.values import (
    Account,
    DropListing,
    Failure,
    Known,
    Listing,
    MessageNumber,
    Octets,
    UniqueId,
)


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


def lines(
    session: Session, listing: Listing, archived: Collection[UniqueId]
) -> Iterator[Line]:
    """
    Yield a line for each message of *listing*, in the order of their numbers, as it comes.

    *archived* holds the unique-ids that the ledger knows.
    """
    known = archived if listing.named is listing else frozenset()
    for number, answer in session.top(listing.numbers, 0):
        header = b"" if isinstance(answer, ServerRefusal) else answer
        unique_id = listing.unique_ids.get(number)
        yield Line(
            number,
            unique_id,
            listing.octets.get(number),
            *summary(header),
            archived=unique_id is not None and unique_id in known,
        )


def preview(
    session: Session,
    account: Account,
    known: Sequence[Known],
    failures: Mapping[UniqueId, Failure],
    now: float,
) -> Preview:
    """
    Return what a visit of *account* would do at *now*, by what its ledger shows.
    """
    listing = session.listing().named
    return Preview(listing.drop, select(listing, known, failures, account, now))
