"""
One visit to one maildrop, told in order. The only file that knows every stage.

    settle    what an earlier visit left open
    connect   name, TCP, TLS, greeting, log in
    list      UIDL and LIST, unless a glance tells that nothing is new
    select    wanted, removable, skipped
    confirm   what is due: does TOP 0 show the message that the receipt is for?
    retrieve  RETR, each message streamed into a spool file
    archive   prove, record, publish, commit: a batch, while the next one arrives
    remove    DELE what is proven and due, QUIT
    report    always, also when a step failed

Rules of this file:

- It decides nothing that a stage can decide; it hands values on.
- One visit an account at a time, under the ledger's lock, from settle to report.
- QUIT is said only when each RETR that was sent ended in a receipt: a server may hide
  or remove what was retrieved before a QUIT (Gmail; RFC 1939 section 8). After an
  error of the line or nonsense from the server nothing more is sent at all.
- A message that fails alone is counted against that message, not against the rest (P3).
  What failed before comes last.
- What takes more than a few lines is a stage of popfetchd/visit/.
- Whatever is raised below ends in the report. Only AccountLocked leaves this file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event

from popfetchd.archive.interface import Archive
from popfetchd.errors import Interrupted, PopfetchdError, TooSoon, Unexpected
from popfetchd.pop3.protocol import State
from popfetchd.pop3.session import Session
from popfetchd.removal import Proven, proven_by_content, update
from popfetchd.selection import (
    NAMELESS,
    Selection,
    forgotten,
    is_quarantined,
    select,
)
from popfetchd.values import (
    Account,
    AccountState,
    Listing,
    MessageNumber,
    PollReport,
    Recollection,
    RowId,
    Skip,
    Stage,
    Standstill,
)
from popfetchd.visit import glancing, standing
from popfetchd.visit.archiving import Kept
from popfetchd.visit.arriving import Arrival, arrive, habits_of, listed, recall
from popfetchd.visit.confirming import confirm, recognise
from popfetchd.visit.course import Course, Means, Nobody, Watch
from popfetchd.visit.portions import last, leave_behind, retrieve_portions
from popfetchd.visit.retrieving import retrieve
from popfetchd.visit.rounds import Rounds
from popfetchd.visit.settle import settle


LEAVE_QUIT = 0.05
"""The part at which no further DELE is sent: only QUIT makes those that were sent count."""


def poll(
    account: Account,
    means: Means,
    *,
    stop: Event,
    patience: float = 0.0,
    watch: Watch | None = None,
) -> PollReport:
    """
    Visit *account*'s maildrop once and report.

    *stop* asks the visit to end soon, with what it has. *patience* is how many seconds
    to wait for another process that visits the same account; AccountLocked after that.
    """
    with means.ledger.lock(account.name).acquire(patience):
        visit = Visit(account, means, stop, watch or Nobody())
        return visit.make()


def keep(
    account: Account,
    means: Means,
    session: Session,
    chosen: Collection[MessageNumber],
    *,
    stop: Event,
) -> Keeping:
    """
    Archive *chosen*, messages of a *session* that somebody else has opened, and report.

    It is a visit that removes nothing and does not say QUIT. The caller holds the
    account's lock.
    """
    return Visit(account, means, stop, Nobody()).keep(session, chosen)


def still_archived(
    account: Account, means: Means, session: Session, proven: Sequence[Proven]
) -> list[Proven]:
    """
    Return those of *proven* whose copies stand in the archive, whole, now.
    """
    return standing.still_archived(
        Course(account, means, Event(), Nobody()), session, proven
    )


def heed_floor(account: Account, state: AccountState, now: float) -> None:
    """
    Raise TooSoon while the server's floor between two logins has not passed.
    """
    floor = max(state.login_delay, account.habits.login_floor)
    wait = state.last_login + floor - now
    if 0 < wait <= floor:  # a clock that was set back is no reason
        raise TooSoon(wait)


@dataclass(frozen=True, slots=True)
class Keeping:
    """
    What `keep` did. *proven* may be removed; *settled* was retrieved, and needs no more.

    *hidden*: the rows of what the server hides at its +OK to QUIT.
    """

    report: PollReport
    proven: tuple[Proven, ...]
    settled: frozenset[MessageNumber]
    hidden: frozenset[RowId]


class Visit(Course):
    """
    One visit while it is under way; `make` tells it.
    """

    def __init__(
        self, account: Account, means: Means, stop: Event, watch: Watch
    ) -> None:
        super().__init__(account, means, stop, watch)
        self.rounds = Rounds(self)

    def make(self) -> PollReport:
        """
        Settle, then one session after another until nothing is left to do.
        """
        return self._reported(self._visit)

    def _visit(self) -> None:
        self._recall()
        settle(self)
        again = self._one_session(glancing.expected(self))
        while again:
            again = self._one_session()

    def _reported(self, work: Callable[[], None]) -> PollReport:
        started = self.means.now()
        failure: PopfetchdError | None = None
        try:
            work()
            failure = self.full
            if self.stop.is_set() and self.tally.waiting:
                failure = Interrupted()
        except PopfetchdError as error:
            failure = error
        except Exception as error:  # noqa: BLE001 -- P3: a fault of ours ends one visit
            failure = Unexpected(type(error).__name__, "the visit")
            failure.__cause__ = error
        ended = self.means.now()
        return PollReport(
            self.account.name,
            started,
            ended,
            failure,
            **vars(self.tally),
            recollection=self._left_to_the_next(),
            stamp=self.stamp,
        )

    def _left_to_the_next(self) -> Recollection | None:
        left = self.recollection
        return None if left is None else left.at(self.standstill)

    def keep(self, session: Session, chosen: Collection[MessageNumber]) -> Keeping:
        """
        Settle, and archive some messages of a session that is not this visit's own.
        """
        self.habits = habits_of(self.account.habits, session.capabilities)
        kept: list[Kept] = []
        report = self._reported(lambda: kept.extend(self._chosen(session, chosen)))
        proofs = (
            proven_by_content(m.receipt, m.listed, m.spooled.fingerprint.content)
            for m in kept
            if m.receipt is not None
        )
        return Keeping(
            report,
            tuple(proof for proof in proofs if proof is not None),
            frozenset(message.listed.number for message in kept),
            frozenset(self._hides(kept)),
        )

    def _chosen(
        self, session: Session, chosen: Collection[MessageNumber]
    ) -> list[Kept]:
        ledger, name = self.means.ledger, self.account.name
        self.tally.removals_paused = ledger.state(name).removals_paused
        settle(self)
        with self.archive(self.account.destination) as archive:
            plan = self._select(listed(self, session))
            ledger.sight(name, plan.seen, plan.duplicated)
            self.again = plan.again
            wanted = [m for m in plan.wanted if m.number in chosen]
            kept = retrieve(self, session, archive, last(self, wanted))
            leave_behind(self, plan.wanted, {m.listed.number for m in kept})
        self._look_back(0)
        return kept

    def _recall(self) -> None:
        # What the last visit left to be honoured: the server's floor between logins.
        state = self.means.ledger.state(self.account.name)
        self.tally.removals_paused = state.removals_paused
        recall(self, state)
        heed_floor(self.account, state, self.means.now())

    # -- one session ------------------------------------------------------------------

    def _one_session(self, still: Standstill | None = None) -> bool:
        # Returns whether another session can do what this one could not.
        if self.stop.is_set():
            raise Interrupted
        with (
            self.archive(self.account.destination) as archive,
            self._connected(still) as (session, listing),
        ):
            if listing is not None:
                return self._work(session, archive, listing)
            self._leave(session, [], (), [])
            self.standstill = still and still.once_more()
            return False

    def _work(self, session: Session, archive: Archive, listing: Listing) -> bool:
        plan = self._select(listing)
        proven, unconfirmed = confirm(self, session, plan)
        seen = plan.seen.without(due.row for due in unconfirmed)
        self.means.ledger.sight(self.account.name, seen, plan.duplicated)
        self.again = plan.again | {due.listed.number for due in unconfirmed}
        strangers = recognise(self, session, plan)
        kept, settled, later = retrieve_portions(
            self, session, archive, strangers, unconfirmed, removing=bool(proven)
        )
        proven = standing.still_archived(self, session, [*proven, *self._due(kept)])
        left = self._leave(session, kept, settled, proven)
        self._look_back(later)
        if left and not (later or proven):
            self.standstill = glancing.standstill(self, listing)
        nearer = bool(settled or proven) or len(strangers) < len(plan.wanted)
        made_room = self.rounds.makes_room(kept, proven, left=left)
        helps = self.rounds.another_helps(later, proven, nearer=nearer, left=left)
        return made_room or helps

    @contextmanager
    def _connected(self, still: Standstill | None = None) -> Iterator[Arrival]:
        self.standstill = None
        session, listing = arrive(self, still)
        learnt = self.recollection
        self.recollection = None if learnt is None else learnt.warning
        with session:  # leaving it early sends nothing more, no QUIT either
            yield session, listing
        if session.state is State.CLOSED:  # a server may need a while to miss a QUIT
            self.recollection = learnt

    def _select(self, listing: Listing) -> Selection:
        ledger, name, now = self.means.ledger, self.account.name, self.means.now()
        failures = ledger.failures(name)
        self.failures = failures
        plain, known = self.known()
        plan = select(
            listing,
            known,
            failures,
            self.account,
            now,
            plain=plain,
            habits=self.habits,
            paused=self.tally.removals_paused,
        )
        archived = len(plan.again.intersection(plan.wanted.numbers))
        self.tally.waiting = plan.skipped.total() + len(plan.wanted) - archived
        shown = listing.unique_ids.values() if failures else ()
        listed = {unique_id for unique_id in shown if unique_id in failures}
        ledger.forgive(name, forgotten(failures, listed, now))
        self.tally.skipped = Counter(plan.skipped)
        self.tally.quarantined = sum(is_quarantined(failures[m], now) for m in listed)
        self.tally.reset |= plan.reset
        self.tally.removals_paused |= plan.reset
        return plan

    def _due(self, kept: Sequence[Kept]) -> list[Proven]:
        # What this session retrieved, and whose time to be removed has come.
        if self.tally.removals_paused:
            return []
        now, removable_at = self.means.now(), self.account.removable_at
        proofs = (
            proven_by_content(receipt, m.listed, m.spooled.fingerprint.content)
            for m in kept
            if (receipt := m.receipt) is not None
            and removable_at(receipt.archived_at, receipt.arrived_at) <= now
        )
        return [proof for proof in proofs if proof is not None]

    # -- remove, and look back --------------------------------------------------------

    def _leave(
        self,
        session: Session,
        kept: Sequence[Kept],
        settled: Collection[MessageNumber],
        proven: Sequence[Proven],
    ) -> bool:
        # Returns whether the session could end with QUIT.
        if not session.retrieved.issubset(settled):
            return False
        with self.stage(Stage.REMOVE):
            self.tally.removed += update(
                session,
                proven,
                self.means.ledger,
                lambda: self.has_time(LEAVE_QUIT),
                self._hides(kept),
            )
        return True

    def _hides(self, kept: Sequence[Kept]) -> list[RowId]:
        # The rows of what the server hides at its +OK to QUIT.
        if not self.habits.hides_retrieved:
            return []
        return [m.receipt.row for m in kept if m.receipt and m.listed.unique_id]

    def _look_back(self, later: int) -> None:
        if later:
            self.tally.skipped[Skip.CAPPED] = later
        if self.tally.waiting == 0:
            self.tally.removals_paused = False
            if NAMELESS in self.failures:  # whichever it was, it is archived, or gone
                self.means.ledger.forgive(self.account.name, [NAMELESS])
