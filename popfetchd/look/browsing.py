"""
One maildrop, message by message, as `browse` goes through it.

Rules of this file:

- Messages are read with TOP alone, also whole: RETR may mark them as read, and some
  servers hide at QUIT what was retrieved (Gmail). Who wants more of a message than TOP
  gives archives it.
- *Archived* means proven by this session: the unique-id stands once, and the octets and
  the header are those of a receipt.
- Nothing is changed here; what a person chooses is collected, and done by others.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from popfetchd.archive.form import header_digest
from popfetchd.errors import ServerRefusal
from popfetchd.ledger import Ledger
from popfetchd.look.headers import Summary, summary
from popfetchd.pop3.session import TOP_OCTETS, Session
from popfetchd.removal import Proven, proven_by_header
from popfetchd.values import Account, Known, Listed, MessageNumber, UniqueId


WHOLE = 10_000
"""Lines that TOP is asked for to show a message: with 76 characters each, as RFC 2045
makes them, that is as much as a session keeps of one answer."""


@dataclass(frozen=True, slots=True)
class Shown:
    """
    One message as its header shows it. *proven*: it is archived.
    """

    listed: Listed
    summary: Summary
    proven: Proven | None


@dataclass(frozen=True, slots=True)
class Opened:
    """
    What TOP gave of a message; *cut* where there may be more.
    """

    octets: bytes
    cut: bool


class Browsing:
    """
    The maildrop of *account* behind *session*, which has logged in.
    """

    def __init__(self, session: Session, account: Account, ledger: Ledger) -> None:
        self._session = session
        self._ledger = ledger
        self._listing = session.listing().named
        self.drop = self._listing.drop
        self._rows = _certain(ledger.known(account.name))

    @property
    def numbers(self) -> Sequence[MessageNumber]:
        """
        Every message-number, ascending.
        """
        return self._listing.numbers

    def show(self, number: MessageNumber) -> Shown:
        """
        Return what the header of a message tells; empty where TOP is refused.
        """
        listed, answer = self._listing.listed(number), self._top(number, 0)
        if isinstance(answer, ServerRefusal):
            return Shown(listed, Summary("", "", ""), None)
        return Shown(listed, summary(answer), self._proof(listed, answer))

    def open(self, number: MessageNumber) -> Opened:
        """
        Return a message, as far as TOP gives it. Raises the refusal where it does not.
        """
        answer = self._top(number, WHOLE)
        if isinstance(answer, ServerRefusal):
            raise answer
        cut = len(answer) >= TOP_OCTETS or answer.count(b"\n") > WHOLE
        return Opened(answer, cut)

    def stay(self) -> None:
        """
        Show the server that we are there: it may log out who is silent.
        """
        with suppress(ServerRefusal):  # an answer is all that is asked for
            self._session.noop()

    def _top(self, number: MessageNumber, lines: int) -> bytes | ServerRefusal:
        ((_, answer),) = self._session.top([number], lines)
        return answer

    def _proof(self, listed: Listed, header: bytes) -> Proven | None:
        row = self._rows.get(listed.unique_id) if listed.unique_id else None
        receipts = self._ledger.receipts([row.row] if row else [])
        digest = header_digest(header)
        return proven_by_header(receipts[0], listed, digest) if receipts else None


def _certain(known: Sequence[Known]) -> dict[UniqueId, Known]:
    # As `selection` sees it: what was seen twice, or vanished, is no row's name.
    rows: dict[UniqueId, Known] = {}
    for row in known:
        if row.unique_id and row.accounted and not row.doubtful:
            rows[row.unique_id] = row
    return rows
