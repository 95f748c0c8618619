"""
A maildrop in the hands of a person: looked at, and what he chooses done by the machinery
of every visit.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace

from popfetchd.errors import ServerRefusal
from popfetchd.look import Browsing
from popfetchd.poll import Keeping, heed_floor, still_archived
from popfetchd.pop3.protocol import State
from popfetchd.pop3.session import Session
from popfetchd.removal import Order, Proven, obey
from popfetchd.values import NEVER, Account, MessageNumber, RowId
from popfetchd.visits import Visits


@contextmanager
def browse(visits: Visits, account: Account, patience: float) -> Iterator[Browsed]:
    """
    Give a maildrop to a person, who may take his time; its visits have to wait.

    AccountLocked when another visits it for longer than *patience* seconds; TooSoon
    within the server's floor between logins, which counts for the next visit too.
    """
    with visits.ledger.lock(account.name).acquire(patience), ExitStack() as open_:
        state = visits.ledger.state(account.name)
        heed_floor(account, state, visits.now())
        session = open_.enter_context(visits.sessions.connected(account, NEVER))
        visits.sessions.log_in(session, account)
        state = replace(state, last_login=visits.now())
        visits.ledger.save_state(account.name, state)
        browsed = Browsed(visits, account, session)
        yield browsed
        browsed.leave()


class Browsed:
    """
    A maildrop that a person goes through (*drop*), and what may be done for him.
    """

    def __init__(self, visits: Visits, account: Account, session: Session) -> None:
        self.drop = Browsing(session, account, visits.ledger)
        self.removing = False
        """Whether a DELE may have been sent."""
        self._visits = visits
        self._account = account
        self._session = session
        self._settled: frozenset[MessageNumber] = frozenset()
        self._hidden: frozenset[RowId] = frozenset()

    @property
    def may_end(self) -> bool:
        """
        Whether QUIT may be said: all that was retrieved is archived (`poll`).
        """
        return self._session.retrieved <= self._settled

    def archive(self, chosen: Collection[MessageNumber]) -> Keeping:
        """
        Archive *chosen* as a visit does.
        """
        done = self._visits.keep(self._account, self._session, chosen)
        self._settled |= done.settled
        self._hidden |= done.hidden
        return done

    def still_archived(self, proof: Proven) -> bool:
        """
        Tell whether the copy stands in the archive now.
        """
        found = still_archived(
            self._account, self._visits.means, self._session, [proof]
        )
        return bool(found)

    def remove(self, orders: Sequence[Order]) -> frozenset[MessageNumber]:
        """
        Remove messages at a person's word, and end the session; return which ones went.
        """
        self.removing = True
        return obey(self._session, orders, self._visits.ledger, self._hidden)

    def leave(self) -> None:
        """
        End the session if it has not ended: with QUIT where that harms nothing.
        """
        if self._session.state is State.TRANSACTION and self.may_end:
            with suppress(ServerRefusal):
                obey(self._session, [], self._visits.ledger, self._hidden)
