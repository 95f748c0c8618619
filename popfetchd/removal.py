"""
DELE for receipts only, QUIT, and what UPDATE really did.

Rules of this file:

- A message is removed on a *receipt* (its copy is proved, recorded and published)
  together with this session's evidence that the message listed under a number is the
  one the receipt is for. The two make a `Proven`, which is constructed only here.
- Evidence is one of two: this session's RETR gave the digest of the receipt; or the
  unique-id stands once in this listing, says what the receipt says, and TOP 0 gives
  the recorded header. A unique-id alone is none (RFC 1939 §7).
- A person who has the message before him may order its removal: an `Order`, for one
  message of this session. It needs no proof; but only what is proven is removed in the
  ledger too. Nothing but `obey` takes orders, and no visit calls it.
- *Marked* is not *removed*: only the +OK to QUIT turns one into the other (RFC 1939
  §6). Marks are recorded before a DELE is sent, so that whatever happens after, the
  next listing decides about these messages and no others.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
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


@dataclass(frozen=True, slots=True)
class Order:
    """
    A person's word that *listed*, of this session, is to be removed.

    *proven*: its copy is archived; without it, he was told that there is none.
    """

    listed: Listed
    proven: Proven | None


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
    rows = {proof.number: proof.receipt.row for proof in proven}
    _must_be_of(session, [proof.session for proof in proven])
    return len(_remove(session, rows, ledger, hidden, has_time))


def obey(
    session: Session,
    orders: Sequence[Order],
    ledger: Ledger,
    hidden: Collection[RowId] = (),
) -> frozenset[MessageNumber]:
    """
    Mark what a person has ordered to be removed, QUIT, and return what was.

    *hidden*, and what is raised, are as of `update`. What is not proven has no row, or one that is known by a
    hint only: the next listing decides about that.
    """
    proofs = [order.proven for order in orders if order.proven is not None]
    ids = [order.listed.session for order in orders]
    _must_be_of(session, [*ids, *(proof.session for proof in proofs)])
    rows: dict[MessageNumber, RowId | None] = {o.listed.number: None for o in orders}
    rows |= {proof.number: proof.receipt.row for proof in proofs}
    return _remove(session, rows, ledger, hidden, lambda: True)


def _must_be_of(session: Session, ids: Sequence[SessionId]) -> None:
    # A message-number of another session would name another message.
    if any(id_ != session.id for id_ in ids):
        raise LocalProtocolError("DELE", "another session")


def _remove(
    session: Session,
    rows: Mapping[MessageNumber, RowId | None],
    ledger: Ledger,
    hidden: Collection[RowId],
    has_time: Callable[[], bool],
) -> frozenset[MessageNumber]:
    agreed: frozenset[MessageNumber] = frozenset()
    if rows:
        ledger.mark(_of(rows, rows))
        numbers = takewhile(lambda _: has_time(), tuple(rows))
        agreed = frozenset(n for n, no in session.delete(numbers) if no is None)
        ledger.unmark(_of(rows, rows.keys() - agreed))
    session.quit()
    removed = _of(rows, agreed)
    ledger.removed(removed)
    ledger.pop(frozenset(hidden) - frozenset(removed))
    return agreed


def _of(
    rows: Mapping[MessageNumber, RowId | None], numbers: Collection[MessageNumber]
) -> list[RowId]:
    return [row for n, row in rows.items() if n in numbers and row is not None]
