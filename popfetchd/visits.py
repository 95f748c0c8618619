"""
Visits as everybody makes them, the service and the verbs alike.

Rules of this file:

- `Visits` makes one visit and remembers and tells it. It verifies archives likewise.
- `fetch` imports no more than this: what only the service needs, its schedule, its page
  and its series, is in `daemon`, and what only a person needs in `browsing`.
"""

from __future__ import annotations

import socket
import threading
import time

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial

from popfetchd import credentials
from popfetchd.archive.interface import Archive
from popfetchd.archive.opening import archive_at
from popfetchd.errors import (
    AccountLocked,
    Interrupted,
    LedgerError,
    NetworkError,
    PopfetchdError,
    RemoteError,
    ServerRefusal,
    TlsError,
)
from popfetchd.ledger import Ledger
from popfetchd.poll import Keeping, keep, poll
from popfetchd.pop3.deadline import Deadline
from popfetchd.pop3.session import Session, open_session
from popfetchd.pop3.tls import TlsContexts
from popfetchd.report import Counts, Reporter, after, skipped
from popfetchd.values import (
    Account,
    AccountState,
    Announced,
    Destination,
    MessageNumber,
    PollReport,
    Server,
    Verification,
)
from popfetchd.verify import Tools, repair, verify
from popfetchd.verify import Watch as Reader
from popfetchd.visit.course import Means, Watch


LOOK_UP = 0.5
"""Seconds between two looks whether to stop, for who waits for an account."""


Heard = Callable[[Server, NetworkError | TlsError | None, float], None]
"""Is told of a server that answered (None), or did not, and in how many seconds."""


def unheard(
    _server: Server, _failure: NetworkError | TlsError | None, _took: float
) -> None:
    """
    Take note of nothing.
    """


class Sessions:
    """
    Opens sessions: reads secrets, connects, logs in.
    """

    def __init__(self, environ: Mapping[str, str], heard: Heard = unheard) -> None:
        self._heard = heard
        self.contexts = TlsContexts()
        self.secret = partial(credentials.read, environ=environ)

    def renew(self) -> None:
        """
        Read certificates anew from now on: files may have been replaced.
        """
        self.contexts = TlsContexts()

    def connect(
        self, server: Server, deadline: Deadline, expected: Announced | None = None
    ) -> Session:
        """
        Return a session that is ready to log in.
        """
        began = time.monotonic()
        try:
            session = open_session(server, self.contexts, deadline, expected)
        except (NetworkError, TlsError) as error:
            if deadline.remaining() > 0:  # else it was the visit's own time that ended
                self._heard(server, error, time.monotonic() - began)
            raise
        except RemoteError:  # it speaks
            self._heard(server, None, time.monotonic() - began)
            raise
        self._heard(server, None, time.monotonic() - began)
        return session

    def connected(self, account: Account, seconds: float | None = None) -> Session:
        """
        Return a session of *account*'s server that is ready to log in.

        It may take *seconds*, the account's deadline by default.
        """
        deadline = Deadline(account.deadline if seconds is None else seconds)
        return self.connect(account.server, deadline)

    def log_in(self, session: Session, account: Account) -> None:
        """
        Log in as *account* says.
        """
        secret = self.secret(account.login.secret)
        session.login(account.login.user, secret, account.login.mechanism)

    @contextmanager
    def logged_in(self, account: Account) -> Iterator[Session]:
        """
        Give a session that has logged in; QUIT ends it if all went well, and a -ERR to
        that is no failure: who looks has removed nothing.
        """
        with self.connected(account) as session:
            self.log_in(session, account)
            yield session
            with suppress(ServerRefusal):
                session.quit()


class Visits:
    """
    Makes visits; remembers and tells what they did.
    """

    def __init__(
        self,
        ledger: Ledger,
        counts: Counts,
        reporter: Reporter,
        environ: Mapping[str, str],
        now: Callable[[], float] = time.time,
        *,
        heard: Heard = unheard,
    ) -> None:
        self.ledger = ledger
        self.counts = counts
        self.reporter = reporter
        self.now = now
        self.sessions = Sessions(environ, heard)
        self.means = Means(
            ledger, self.sessions.connect, self._archive, self.sessions.secret, now
        )
        self._tools = Tools(ledger, self._archive, now)

    def make(
        self,
        account: Account,
        *,
        stop: threading.Event,
        patience: float = 0.0,
        watch: Watch | None = None,
        next_poll: Callable[[AccountState], float] | None = None,
    ) -> PollReport:
        """
        Visit *account*, and remember and tell what came of it.

        *next_poll* says when the next visit is planned, from what is then remembered.
        """
        before = self.counts.state(account.name) or AccountState()
        try:
            before = self.ledger.state(account.name)
            report = self._visit(account, stop, patience, watch)
            state = after(before, report)
            if next_poll is not None:
                state = replace(state, next_poll=next_poll(state))
            self._save(account, state, report)
        except LedgerError as error:  # nothing can be remembered; it can still be told
            report = self._told(account, error)
            state = after(before, report)
        self.counts.account_changed(account.name, state)
        self.reporter.visit_ended(before, report)
        return report

    def _save(self, account: Account, state: AccountState, report: PollReport) -> None:
        if skipped(report.failure):  # another's visit may have left something
            self.ledger.save_state(account.name, state)
        else:
            self.ledger.save_visit(
                account.name, state, report.recollection, report.stamp
            )

    def _visit(
        self,
        account: Account,
        stop: threading.Event,
        patience: float,
        watch: Watch | None,
    ) -> PollReport:
        waiting = Deadline(patience)
        while True:
            wait = max(0.0, min(LOOK_UP, waiting.remaining()))
            try:
                return poll(account, self.means, stop=stop, patience=wait, watch=watch)
            except AccountLocked as locked:
                if stop.is_set() or waiting.remaining() <= 0:
                    return self._told(account, locked)

    def keep(
        self, account: Account, session: Session, chosen: Collection[MessageNumber]
    ) -> Keeping:
        """
        Archive *chosen*, messages of *session*, and remember and tell what came of it.

        It is no whole visit: when the last one was, and how it ended, stays as it is.
        """
        before = self.ledger.state(account.name)
        done = keep(account, self.means, session, chosen, stop=threading.Event())
        state = replace(
            before,
            archived=before.archived + done.report.archived,
            removals_paused=done.report.removals_paused,
        )
        self.ledger.save_state(account.name, state)
        self.reporter.visit_ended(before, done.report)
        return done

    def verify(
        self,
        account: Account,
        *,
        stop: threading.Event,
        watch: Reader | None = None,
    ) -> Verification:
        """
        Read *account*'s archive against the ledger, and remember and tell how it is.
        """
        seen = verify(account, self._tools, stop=stop, watch=watch)
        if not isinstance(seen.failure, Interrupted):
            seen = self._remembered(seen)
        self.reporter.verified(seen)
        return seen

    def repair(
        self,
        account: Account,
        seen: Verification,
        *,
        stop: threading.Event,
        patience: float = 0.0,
        watch: Watch | None = None,
    ) -> tuple[PollReport, Verification]:
        """
        Visit *account* to fetch again what *seen* found damaged.

        Returns the visit's report, and what is damaged still: the server lacks it.
        Raises AccountLocked, ArchiveError or LedgerError where nothing can be repaired.
        """
        with self.ledger.lock(account.name).acquire(patience):
            repair(account, seen, self._tools)
        report = self.make(account, stop=stop, patience=patience, watch=watch)
        left = self.ledger.damaged(account.name)
        damage = tuple(damage for damage in seen.damage if damage.row in left)
        return report, self._remembered(replace(seen, damage=damage))

    def _remembered(self, seen: Verification) -> Verification:
        try:
            self.ledger.verified(seen)
            state = self.ledger.state(seen.account)
        except LedgerError as error:
            return replace(seen, failure=error)
        self.counts.account_changed(seen.account, state)
        return seen

    def _told(self, account: Account, failure: PopfetchdError) -> PollReport:
        # The report of a visit that did not take place.
        now = self.now()
        return PollReport(account.name, now, now, failure)

    def _archive(self, account: Account, destination: Destination) -> Archive:
        host = socket.gethostname()
        archive = archive_at(
            destination,
            self.ledger.id,
            host=host,
            now=self.now,
            permissions=account.permissions,
        )
        archive.open()
        return archive
