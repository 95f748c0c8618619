"""
DELE for receipts only, QUIT, and what UPDATE really did.

Rules of this file:

- A message is removed on a *receipt* (its copy is proved, recorded and published)
  together with this session's evidence that the message listed under a number is the
  one the receipt is for. The two make a `Proven`, which is constructed only here.
- Evidence is one of two: this session's RETR gave the digest of the receipt; or the
  unique-id stands once in this listing, says what the receipt says, and TOP 0 gives
  the recorded header. A unique-id alone is none (RFC 1939 §7).
- *Marked* is not *removed*: only the +OK to QUIT turns one into the other (RFC 1939
  §6). Marks are recorded before a DELE is sent, so that whatever happens after, the
  next listing decides about these messages and no others.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import takewhile

from popfetchd.errors import LocalProtocolError
from popfetchd.ledger import Ledger
from popfetchd.pop3.session import Session
from popfetchd.values import (
    ContentDigest,
    HeaderDigest,
    Listed,
    MessageNumber,
    Receipt,
    RowId,
    SessionId,
)


@dataclass(frozen=True, slots=True)
class Proven:
    """
    A message of this session, shown to be the one that a receipt is for.
    """

    receipt: Receipt
    session: SessionId
    number: MessageNumber


def proven_by_content(
    receipt: Receipt, listed: Listed, content: ContentDigest
) -> Proven | None:
    """
    Return the proof that *listed*, retrieved in this session, is *receipt*'s message.

    *content* is the digest of what this session's RETR gave.
    """
    if content != receipt.content:
        return None
    return Proven(receipt, listed.session, listed.number)


def proven_by_header(
    receipt: Receipt, listed: Listed, header: HeaderDigest
) -> Proven | None:
    """
    Return the proof that *listed* is *receipt*'s message without retrieving it.

    *header* is the digest of what this session's TOP 0 gave. The caller has seen to it
    that the row's unique-id was never seen twice and never came back (`selection`).
    """
    agrees = (
        listed.times == 1
        and listed.unique_id is not None
        and listed.unique_id == receipt.unique_id
        and listed.octets == receipt.octets
        and header == receipt.header
    )
    return Proven(receipt, listed.session, listed.number) if agrees else None


def update(
    session: Session,
    proven: Sequence[Proven],
    ledger: Ledger,
    has_time: Callable[[], bool] = lambda: True,
    hidden: Collection[RowId] = (),
) -> int:
    """
    Mark what is proven, QUIT, and return how many messages were removed.

    When *has_time* tells that there is none left, the rest stays for another session.
    *hidden*: the rows of what was retrieved, where the server hides that at its +OK.

    Raises the refusal when QUIT is answered with -ERR, and the error of the line when
    it drops: then nothing counts as removed, and the next listing decides.
    """
    rows = _rows_of_this_session(session, proven)
    if rows:
        ledger.mark(rows.values())
        numbers = takewhile(lambda _: has_time(), tuple(rows))
        agreed = {number for number, no in session.delete(numbers) if no is None}
        ledger.unmark([rows.pop(number) for number in rows.keys() - agreed])
    session.quit()
    ledger.removed(rows.values())
    ledger.pop(frozenset(hidden) - set(rows.values()))
    return len(rows)


def _rows_of_this_session(
    session: Session, proven: Sequence[Proven]
) -> dict[MessageNumber, RowId]:
    # A message-number of another session would name another message.
    if any(proof.session != session.id for proof in proven):
        raise LocalProtocolError("DELE", "another session")
    return {proof.number: proof.receipt.row for proof in proven}
