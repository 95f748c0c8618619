"""
One visit to one maildrop, told in order. The only file that knows every stage.

    settle    what an earlier visit left open
    connect   name, TCP, TLS, greeting, log in
    list      UIDL and LIST
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
  What failed before comes last, and alone, so that nothing else is blamed for it.
- A message is whole once what the server says behind it makes sense. Some servers do not
  stuff dots: such a message seems to end early, and its rest comes as the next reply.
- Whatever is raised below ends in the report. Only AccountLocked leaves this file.
"""

from __future__ import annotations

import os

from collections import Counter, defaultdict
from collections.abc import (
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import chain, groupby, islice
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Protocol, Self

from popfetchd.archive.form import header_digest
from popfetchd.archive.interface import Archive
from popfetchd.archive.inventory import highest_at, ledgers_at
from popfetchd.archive.likeness import likeness
from popfetchd.archive.places import is_there, places, stood_at
from popfetchd.errors import (
    ArchiveError,
    CommandRefused,
    Interrupted,
    LedgerBehind,
    LimitExceeded,
    NearlyFull,
    NetworkError,
    PopfetchdError,
    RemoteError,
    ServerRefusal,
    TooSoon,
    Unexpected,
    UnsafeArchive,
    quote,
)
from popfetchd.ledger import Ledger
from popfetchd.pop3.deadline import Deadline
from popfetchd.pop3.replies import Capabilities
from popfetchd.pop3.session import Session
from popfetchd.removal import Proven, proven_by_content, proven_by_header, update
from popfetchd.selection import (
    NAMELESS,
    Removable,
    Selection,
    blamed,
    forgotten,
    in_one_session,
    is_quarantined,
    rests,
    select,
)
from popfetchd.values import (
    NEVER,
    Account,
    AccountState,
    Alike,
    Archived,
    Channel,
    Condition,
    Destination,
    DropListing,
    Failure,
    Habits,
    HeaderDigest,
    Listed,
    Listing,
    MessageNumber,
    Messages,
    PollReport,
    Published,
    Receipt,
    Recorded,
    RowId,
    Secret,
    SecretSource,
    Server,
    Skip,
    Spooled,
    Stage,
    UniqueId,
    Unproven,
    Verified,
)


BATCH_MESSAGES = 100
"""Messages made durable together: one commit, one fsync of the folder."""

BATCH_OCTETS = 8 * 1024**2
"""Octets after which a batch is full, so that proving overlaps with receiving."""

PROVERS = 4
"""Spool files proved side by side: the file system joins their journal commits, which
makes a batch four times as fast (docs/adr/0007-fsync.md)."""

LARGEST_MESSAGE = 4 * 1024**3
"""Octets of one message that are taken where the account sets no limit: far above what
any server accepts, and still an end to an endless one."""

GIVE_WAY = 0.1
"""The part of the deadline at which no further RETR is sent, so that the visit can end
with what it has instead of being cut off."""

LEAVE_HALF = 0.5
"""The part at which no further TOP is sent: there is time to retrieve what is new, and
to send a DELE, which takes as long, for each TOP. The next visit goes on."""

LEAVE_QUIT = 0.05
"""The part at which no further DELE is sent: only QUIT makes those that were sent count."""

WELL = frozenset({Condition.WHOLE, Condition.MOVED})
"""A copy is there. Where a mail reader has put it is the reader's business."""

SPOILED = frozenset({Condition.ALTERED, Condition.TRUNCATED})
"""It is there, with other octets. (What is gone a person may have thrown away.)"""

STAY_AWAKE = 240.0
"""Seconds of reading our own disk after which the server hears from us: it may log out
who is silent for ten minutes (RFC 1939 section 3), and some wait for less."""


GONE = "messages were archived here, and nothing of it is left"

GONE_HINT = (
    "is its disk mounted? If you took it away on purpose, make the folder again, and "
    "cur/ in it if it is a maildir"
)


class Watch(Protocol):
    """
    Somebody who looks on, such as a progress bar.
    """

    def listed(self, messages: int, octets: int) -> None:
        """So many messages and octets are about to be retrieved."""

    def received(self, octets: int) -> None:
        """So many octets more have come."""

    def archived(self, messages: int) -> None:
        """So many messages more are in the archive."""


class Nobody:
    """
    The watch of a visit that nobody looks at.
    """

    def listed(self, messages: int, octets: int) -> None: ...

    def received(self, octets: int) -> None: ...

    def archived(self, messages: int) -> None: ...


def free_octets(path: Path) -> int:
    """
    Return how many octets are free for us where *path* is, or will be.

    ArchiveError when the system does not tell.
    """
    try:
        while not path.exists():
            path = path.parent
        found = os.statvfs(path)
    except OSError as error:
        raise ArchiveError.from_os("statvfs", path, error) from error
    return found.f_bavail * found.f_frsize


@dataclass(frozen=True, slots=True)
class Means:
    """
    What a visit works with. Everything that touches the world comes in here.
    """

    ledger: Ledger
    connect: Callable[[Server, Deadline], Session]
    archive: Callable[[Account, Destination], Archive]
    """Opens the archive at a destination; the caller closes it."""
    secret: Callable[[SecretSource], Secret]
    now: Callable[[], float]
    free: Callable[[Path], int] = free_octets
    """Octets that are free where an archive at this path is, or will be."""
    there: Callable[[Destination], bool] = is_there
    """Whether anything is left of an archive that was at a destination."""


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
    return Visit(account, means, Event(), Nobody()).still_archived(session, proven)


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


@dataclass(frozen=True, slots=True)
class Kept:
    """
    A message of this session that is in the archive.
    """

    listed: Listed
    receipt: Receipt | None
    """None: it is there with other octets, which proves nothing."""
    spooled: Spooled


@dataclass
class Tally:
    """
    What the visit has done so far.
    """

    stages: defaultdict[Stage, float] = field(
        default_factory=lambda: defaultdict(float)
    )
    drop: DropListing | None = None
    archived: int = 0
    archived_octets: int = 0
    matched: int = 0
    removed: int = 0
    skipped: Counter[Skip] = field(default_factory=Counter)
    unproven: Counter[Unproven] = field(default_factory=Counter)
    waiting: int = 0
    quarantined: int = 0
    removals_paused: bool = False
    reset: bool = False
    settled: int = 0
    lost_spools: int = 0
    fragments: int = 0
    failed_messages: tuple[str, ...] = ()
    logged_in: float | None = None
    login_delay: float | None = None
    channel: Channel | None = None


class Visit:
    """
    One visit while it is under way; `make` tells it.
    """

    def __init__(
        self, account: Account, means: Means, stop: Event, watch: Watch
    ) -> None:
        self.account = account
        self.means = means
        self.stop = stop
        self.watch = watch
        self.deadline = Deadline(account.deadline)
        self.tally = Tally()
        self.gave_up: set[UniqueId | None] = set()
        """Messages that failed in this visit; not tried again in it."""
        self.asked: set[UniqueId] = set()
        """Messages whose headers this visit has looked at; it does so once for each."""
        self.failures: Mapping[UniqueId, Failure] = {}
        """What failed in this visit or before, as of the last listing."""
        self.fresh: set[RowId] = set()
        """The rows that this visit itself has published."""
        self.gone: set[RowId] = set()
        """What was to leave the listing when a session of this visit ended."""
        self.again: frozenset[MessageNumber] = frozenset()
        """What the session retrieves though it is known to be archived."""
        self.left_out: float = NEVER
        """How many messages the last session left for another."""
        self.habits = account.habits
        """What is known of the server, and what it has announced."""
        self.full: NearlyFull | None = None
        """Why the visit retrieved less than it wanted."""

    def make(self) -> PollReport:
        """
        Settle, then one session after another until nothing is left to do.
        """
        return self._reported(self._visit)

    def _visit(self) -> None:
        self._recall()
        self._settle()
        while self._one_session():
            pass

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
            self.account.name, started, ended, failure, **vars(self.tally)
        )

    def keep(self, session: Session, chosen: Collection[MessageNumber]) -> Keeping:
        """
        Settle, and archive some messages of a session that is not this visit's own.
        """
        self.habits = _habits(self.account.habits, session.capabilities)
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
        self._settle()
        with self._archive(self.account.destination) as archive:
            plan = self._select(self._list(session))
            ledger.sight(name, plan.accounted, plan.duplicated, plan.hidden)
            self.again = plan.again
            wanted = [m for m in plan.wanted if m.number in chosen]
            kept = self._retrieve(session, archive, self._last(wanted))
            self._leave_behind(plan.wanted, kept)
        self._look_back(0)
        return kept

    def _recall(self) -> None:
        # What the last visit left to be honoured: the server's floor between logins.
        state = self.means.ledger.state(self.account.name)
        self.tally.removals_paused = state.removals_paused
        heed_floor(self.account, state, self.means.now())

    # -- settle -----------------------------------------------------------------------

    def _settle(self) -> None:
        # First thing in every visit: publish, or forget, what a crash left recorded.
        ledger, account = self.means.ledger, self.account
        with self._stage(Stage.SETTLE):
            rows = ledger.open_rows(account.name)
            for destination in dict.fromkeys(map(_home, rows)):
                with self._archive(destination) as archive:
                    self._settle_at(archive, destination)
            with self._archive(account.destination) as archive:
                self._check_ledger(archive)
                archive.sweep(ledger.open_bases())

    def _check_ledger(self, archive: Archive) -> None:
        # An older one, or a new one beside mail of another, would fetch all that anew.
        ledger, account = self.means.ledger, self.account
        highest = max(archive.highest_number(), self._highest_before())
        if highest > ledger.highest():
            raise LedgerBehind(ledger.path, "older than the archive it is for")
        if ledger.knows(account.name):
            return
        if ledgers_at(account.destination, self.means.now) - {ledger.id}:
            path = account.destination.path
            raise LedgerBehind(ledger.path, f"knows nothing of the mail in {path}")

    def _highest_before(self) -> int:
        # A ledger that knows of no mail where the account's is put now may be older than
        # the change of that place: what it does not know stands at the former one.
        ledger, account, now = self.means.ledger, self.account, self.means.now
        former = ledger.places(account.name)
        here = {place.path for place in places(account.destination)}
        if not here.isdisjoint(place.path for place in former):
            return 0
        return highest_at(former, ledger.id, now)

    def _settle_at(self, archive: Archive, destination: Destination) -> None:
        ledger = self.means.ledger
        with archive.publishing(destination.path, ledger.left_open) as left_open:
            rows = ledger.open_rows(self.account.name)
            mine = [row for row in rows if _home(row) == destination]
            self._settle_rows(archive, list(dict.fromkeys([*left_open, *mine])))

    def _settle_rows(self, archive: Archive, rows: Sequence[Recorded]) -> None:
        anew = [row for row in rows if self._settle_row(archive, row)]
        self.tally.fragments += archive.fragments()
        if anew:
            placed = self.means.ledger.place(anew, archive.place)
            for published in archive.publish(placed):
                self._settled(archive, published)

    def _settle_row(self, archive: Archive, recorded: Recorded) -> bool:
        # Returns whether the row is to be published anew.
        found = archive.settle(recorded)
        if found is None:
            self.means.ledger.void(recorded)
            self.tally.lost_spools += 1
        elif isinstance(found, Published):
            self._settled(archive, found)
        return isinstance(found, Recorded)

    def _settled(self, archive: Archive, published: Published) -> None:
        self.means.ledger.commit([published])
        archive.discard(published.recorded.copy)
        self.tally.settled += 1

    # -- one session ------------------------------------------------------------------

    def _one_session(self) -> bool:
        # Returns whether another session can do what this one could not.
        if self.stop.is_set():
            raise Interrupted
        with (
            self._archive(self.account.destination) as archive,
            self._connected() as session,
        ):
            listing = self._list(session)
            plan = self._select(listing)
            proven, unconfirmed = self._confirm(session, plan)
            self.means.ledger.sight(
                self.account.name,
                plan.accounted - {due.row for due in unconfirmed},
                plan.duplicated,
                plan.hidden,
            )
            self.again = plan.again | {due.listed.number for due in unconfirmed}
            strangers = self._recognise(session, plan)
            candidates = chain(strangers, (due.listed for due in unconfirmed))
            wanted, later = in_one_session(
                (m for m in candidates if m.unique_id not in self.gave_up),
                self._apart(),
                removing=bool(proven),
            )
            kept = self._retrieve(session, archive, self._last(wanted))
            self._leave_behind(strangers, kept)
            proven = self.still_archived(session, [*proven, *self._due(kept)])
            left = self._leave(session, kept, proven)
        self._look_back(later)
        nearer = bool(kept or proven) or len(strangers) < len(plan.wanted)
        made_room = self._makes_room(kept, proven, left=left)
        return made_room or self._another_helps(later, proven, nearer=nearer, left=left)

    @contextmanager
    def _connected(self) -> Iterator[Session]:
        account, means = self.account, self.means
        secret = means.secret(account.login.secret)
        with self._stage(Stage.CONNECT):
            session = means.connect(account.server, self.deadline)
        with session:  # leaving it early sends nothing more, no QUIT either
            self.tally.channel = session.channel
            with self._stage(Stage.LOGIN):
                self.tally.logged_in = means.now()
                session.login(account.login.user, secret, account.login.mechanism)
                # From here the server counts its delay (RFC 2449 section 6.5).
                self.tally.logged_in = means.now()
            self.tally.login_delay = session.capabilities.login_delay
            self.habits = _habits(account.habits, session.capabilities)
            yield session

    def _list(self, session: Session) -> Listing:
        with self._stage(Stage.LIST):
            listing = session.listing().named
        self.tally.drop = listing.drop
        return listing

    def _select(self, listing: Listing) -> Selection:
        ledger, name, now = self.means.ledger, self.account.name, self.means.now()
        failures = ledger.failures(name)
        self.failures = failures
        paused, known = self.tally.removals_paused, ledger.known(name)
        plan = select(
            listing,
            known,
            failures,
            self.account,
            now,
            habits=self.habits,
            paused=paused,
        )
        self.tally.waiting = sum(plan.skipped.values()) + sum(
            number not in plan.again for number in plan.wanted.numbers
        )
        shown = listing.unique_ids.values() if failures else ()
        listed = {unique_id for unique_id in shown if unique_id in failures}
        ledger.forgive(name, forgotten(failures, listed, now))
        self.tally.skipped = Counter(plan.skipped)
        self.tally.quarantined = sum(is_quarantined(failures[m], now) for m in listed)
        self.tally.reset |= plan.reset
        self.tally.removals_paused |= plan.reset
        return plan

    # -- confirm ----------------------------------------------------------------------

    def _confirm(
        self, session: Session, plan: Selection
    ) -> tuple[list[Proven], list[Removable]]:
        # What TOP cannot confirm is retrieved, and matched by its content.
        due = {removable.listed.number: removable for removable in plan.removable}
        if due and self.tally.removals_paused:
            self.tally.unproven[Unproven.PAUSED] += len(due)
            return [], []
        proven: list[Proven] = []
        unconfirmed = [d for d in due.values() if self._may_retry(d.listed)]
        rows = [removable.row for removable in due.values()]
        receipts = {r.row: r for r in self.means.ledger.receipts(rows)}
        with self._stage(Stage.REMOVE):
            for listed, answer in self._headers(
                session, [d.listed for d in due.values()]
            ):
                proof = self._proof(due[listed.number], receipts, answer)
                if proof is None:
                    unconfirmed.append(due[listed.number])
                else:
                    proven.append(proof)
        return proven, unconfirmed

    def _proof(
        self,
        due: Removable,
        receipts: dict[RowId, Receipt],
        answer: bytes | ServerRefusal,
    ) -> Proven | None:
        if isinstance(answer, ServerRefusal):
            self.tally.unproven[Unproven.REFUSED] += 1
            return None
        proof = proven_by_header(receipts[due.row], due.listed, header_digest(answer))
        if proof is None:
            self.tally.unproven[Unproven.MISMATCH] += 1
        return proof

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

    # -- recognise --------------------------------------------------------------------

    def _recognise(self, session: Session, plan: Selection) -> Messages:
        # After a reset thousands of messages have new names. What TOP shows to be in
        # the archive need not be retrieved; what it cannot tell, its content will.
        if self.habits.drains:  # only what is retrieved makes room
            return plan.wanted
        wanted = plan.wanted if plan.astray else ()
        astray = (m for m in wanted if m.octets in plan.astray)
        done = self.asked | self.failures.keys()
        strangers = [m for m in astray if m.unique_id not in done]
        with self._stage(Stage.LIST):
            answers = [*self._named(session, strangers[:1])]
            if answers:  # the server knows TOP
                answers += self._named(session, strangers[1:])
        self.asked.update(m.unique_id for m, _ in answers if m.unique_id)
        # What is due to be removed has to be retrieved anyhow, to prove it.
        wait = self.account.delete_after
        moment = -NEVER if wait is None else self.means.now() - wait
        later_than = (self.account.delete_since, moment)
        headers = [(m, digest) for m, digest in answers if digest is not None]
        known = self.means.ledger.recognise(self.account.name, headers, later_than)
        self.tally.matched += len(known)
        self.tally.waiting -= len(known)
        return plan.wanted.without(known)

    def _named(
        self, session: Session, strangers: Sequence[Listed]
    ) -> Iterator[tuple[Listed, HeaderDigest | None]]:
        # One for each answer; None: the header does not name the message.
        for listed, answer in self._headers(session, strangers):
            if not isinstance(answer, ServerRefusal):
                named = likeness(answer) is not None
                yield listed, header_digest(answer) if named else None

    def _headers(
        self, session: Session, messages: Iterable[Listed]
    ) -> Iterator[tuple[Listed, bytes | ServerRefusal]]:
        # Not of what failed before: it is retrieved when all else is done.
        well = (m for m in messages if m.unique_id not in self.failures)
        asked: dict[MessageNumber, Listed] = {}
        with self._blaming(asked):
            for number, answer in session.top(
                _noted(self._while_time(well, LEAVE_HALF), asked), 0
            ):
                yield asked.pop(number), answer

    # -- retrieve and archive ---------------------------------------------------------

    def _apart(self) -> Collection[UniqueId]:
        # A session in which a message fails ends without QUIT: nothing is removed, and
        # nothing makes room. So what failed before gets one of its own, if there can be.
        return () if self.habits.login_floor else self.failures.keys()

    def _last(self, wanted: Iterable[Listed]) -> list[Listed]:
        # What failed before comes last, and holds up nobody.
        return sorted(wanted, key=lambda m: m.unique_id in self.failures)

    def _may_retry(self, listed: Listed) -> bool:
        # Whether it failed before, and is to be tried again.
        if listed.unique_id is None or listed.unique_id not in self.failures:
            return False
        failure = self.failures[listed.unique_id]
        return not is_quarantined(failure, self.means.now())

    def _retrieve(
        self, session: Session, archive: Archive, wanted: Sequence[Listed]
    ) -> list[Kept]:
        if not wanted:
            return []
        self.watch.listed(len(wanted), sum(m.octets or 0 for m in wanted))
        kept: list[Kept] = []
        refused: list[tuple[Listed, ServerRefusal]] = []
        numbers = iter(self.means.ledger.reserve(len(wanted)))
        keeper = Keeper(lambda batch: kept.extend(self._keep(archive, batch)))
        chosen = self._while_room(self._while_time(wanted, GIVE_WAY))
        with self._stage(Stage.RETRIEVE), keeper:
            for together in self._together(chosen):
                intake = Intake(archive, keeper, numbers)
                refused += self._receive(session, intake, together)
        strangers = [m for m, _ in refused if m.unique_id not in self.failures]
        if len(strangers) > 1 and not kept:
            raise refused[0][1]  # it is not the messages, then
        for listed, refusal in refused:
            self._failed(listed, refusal)
        return kept

    def _together(self, chosen: Iterable[Listed]) -> Iterator[Iterable[Listed]]:
        # What failed before comes alone: in a pipeline nobody could tell whose fault
        # it is when the server gets out of step.
        for failed, messages in groupby(chosen, lambda m: m.unique_id in self.failures):
            if failed:
                yield from ([message] for message in messages)
            else:
                yield messages

    def _receive(
        self, session: Session, intake: Intake, messages: Iterable[Listed]
    ) -> list[tuple[Listed, ServerRefusal]]:
        refused: list[tuple[Listed, ServerRefusal]] = []
        asked: dict[MessageNumber, Listed] = {}
        with self._blaming(asked), self._believing(intake):
            for number, body in session.retrieve(_noted(messages, asked)):
                intake.believe()
                if isinstance(body, ServerRefusal):
                    refused.append((asked[number], _of_the_message(body)))
                else:
                    intake.latest = self._spool(intake, asked[number], body)
                del asked[number]
            if intake.latest is not None:
                with suppress(ServerRefusal):  # an answer is all that is asked for
                    session.noop()
        return refused

    @contextmanager
    def _believing(self, intake: Intake) -> Iterator[None]:
        try:
            yield
        except NetworkError:
            intake.believe()  # it had ended, and nothing came behind it
            raise
        except RemoteError as error:
            if intake.latest is not None:
                self._failed(intake.latest.listed, error)
                intake.archive.discard(intake.latest.copy)
            raise
        intake.believe()

    @contextmanager
    def _blaming(self, unanswered: Mapping[MessageNumber, Listed]) -> Iterator[None]:
        # A server that always stalls at one message must not hold up the others. It
        # may speak of itself (Dovecot says [SYS/TEMP] of one broken message, too).
        try:
            yield
        except (NetworkError, RemoteError) as error:
            for listed in islice(unanswered.values(), 1):
                self._failed(listed, error)
            raise

    def _while_time(self, wanted: Iterable[Listed], part: float) -> Iterator[Listed]:
        for listed in wanted:
            if self.stop.is_set() or not self._has_time(part):
                return
            yield listed

    def _has_time(self, part: float) -> bool:
        return self.deadline.remaining() >= self.account.deadline * part

    def _while_room(self, wanted: Iterable[Listed]) -> Iterator[Listed]:
        # Before the disk is full: what others write there must not fail because of us.
        path, least = self.account.destination.path, self.account.min_free
        free = self.means.free(path)
        for listed in wanted:
            # More than is ever taken is a claim that nobody need believe.
            claim = listed.octets or 0
            left = free - (claim if claim <= LARGEST_MESSAGE else 0)
            if left < least:  # a smaller one may find room
                self.full = self.full or NearlyFull(path, free, least)
                continue
            free = left
            yield listed

    def _spool(self, intake: Intake, listed: Listed, body: Iterator[bytes]) -> Spooled:
        limit = self.account.max_message_size or LARGEST_MESSAGE
        octets = 0
        spool = intake.archive.spool(listed, next(intake.numbers))
        try:
            for chunk in body:
                spool.write(chunk)
                octets += len(chunk)
                self._within(limit, octets)
                self.watch.received(len(chunk))
            return spool.finish()
        except BaseException:
            spool.abandon()
            raise

    def _within(self, limit: int, octets: int) -> None:
        if octets > limit:
            raise LimitExceeded("max_message_size", limit)

    def _failed(self, listed: Listed, error: PopfetchdError) -> None:
        self.gave_up.add(listed.unique_id)
        name = blamed(listed)
        before = self.failures.get(name)
        if before and rests(name, before.once_more()):
            self.tally.quarantined += 1
        self.means.ledger.fail(self.account.name, [name], str(error))
        known_as = quote(listed.unique_id or f"number {listed.number}")
        self.tally.failed_messages += (f"message {known_as}: {error}",)

    def _keep(self, archive: Archive, batch: Sequence[Spooled]) -> list[Kept]:
        with (
            self._stage(Stage.ARCHIVE),
            ThreadPoolExecutor(PROVERS, "prover") as provers,
        ):
            verified = sorted(provers.map(archive.prove, batch), key=_place)
        return [
            kept
            for place, together in groupby(verified, key=_place)
            for kept in self._keep_at(archive, place, list(together))
        ]

    def _keep_at(
        self, archive: Archive, place: Path, verified: Sequence[Verified]
    ) -> list[Kept]:
        # The archive protocol, for one batch (docs/adr/0002). Its order is the promise.
        ledger, name = self.means.ledger, self.account.name
        batch = [proved.spooled for proved in verified]
        with self._stage(Stage.ARCHIVE):
            self._give_up_spoiled(batch)
            with archive.publishing(place, ledger.left_open) as left_open:
                self._settle_rows(archive, left_open)
                entries = ledger.record(name, verified, archive.place)
                recorded = [entry for entry in entries if isinstance(entry, Recorded)]
                fresh = {r.row: r for r in ledger.commit(archive.publish(recorded))}
            for spooled in batch:
                archive.discard(spooled.copy)
            ledger.forgive(name, _unique_ids(batch))
        self._count(batch, entries)
        self.fresh |= fresh.keys()
        return [
            Kept(spooled.listed, _receipt(entry, fresh), spooled)
            for spooled, entry in zip(batch, entries, strict=True)
        ]

    def _give_up_spoiled(self, batch: Sequence[Spooled]) -> None:
        # Where QUIT hides what was retrieved, these octets may be the last whole ones:
        # a copy that has gone bad is none to drop them for (P1).
        if self.account.trust_archive or not self.habits.hides_retrieved:
            return
        ledger = self.means.ledger
        contents = {spooled.fingerprint.content for spooled in batch}
        copies = ledger.holding(self.account.name, contents)
        older = (copy for copy in copies if copy.row not in self.fresh)
        ledger.damage(
            [row for row, found in self._conditions(older) if found in SPOILED]
        )

    def _count(
        self, batch: Sequence[Spooled], entries: Sequence[Recorded | Receipt | Alike]
    ) -> None:
        for spooled, entry in zip(batch, entries, strict=True):
            if isinstance(entry, Recorded):
                self.tally.archived += 1
                self.tally.archived_octets += spooled.fingerprint.octets
                continue
            self.tally.matched += 1
            if isinstance(entry, Alike) and self.account.delete_after is not None:
                self.tally.unproven[Unproven.ALTERED] += 1
        numbers = (spooled.listed.number for spooled in batch)
        self.tally.waiting -= sum(number not in self.again for number in numbers)
        self.watch.archived(len(batch))

    # -- remove, and look back --------------------------------------------------------

    def _leave_behind(self, strangers: Iterable[Listed], kept: Sequence[Kept]) -> None:
        # Before a DELE: what is listed beside a message is not that one, though equal.
        done = {message.listed.number for message in kept}
        left = (m for m in strangers if m.number not in done and m.times == 1)
        self.means.ledger.leave(
            self.account.name,
            {m.unique_id: m.octets for m in left if m.unique_id is not None},
        )

    def _leave(
        self, session: Session, kept: Sequence[Kept], proven: Sequence[Proven]
    ) -> bool:
        # Returns whether the session could end with QUIT.
        if not session.retrieved <= {message.listed.number for message in kept}:
            return False
        with self._stage(Stage.REMOVE):
            self.tally.removed += update(
                session,
                proven,
                self.means.ledger,
                lambda: self._has_time(LEAVE_QUIT),
                self._hides(kept),
            )
        return True

    def _hides(self, kept: Sequence[Kept]) -> list[RowId]:
        # The rows of what the server hides at its +OK to QUIT.
        if not self.habits.hides_retrieved:
            return []
        return [m.receipt.row for m in kept if m.receipt and m.listed.unique_id]

    def still_archived(
        self, session: Session, proven: Sequence[Proven]
    ) -> list[Proven]:
        """
        Return those of *proven* whose copies are there and whole.

        What an earlier visit archived may have been altered since, or thrown away.
        """
        older = {proof.receipt.row for proof in proven} - self.fresh
        if self.account.trust_archive or not older:
            return list(proven)
        with self._stage(Stage.REMOVE):
            copies = self._awake(session, self.means.ledger.copies(older))
            whole = {row for row, found in self._conditions(copies) if found in WELL}
        whole |= self.fresh
        still = [proof for proof in proven if proof.receipt.row in whole]
        if len(still) < len(proven):
            self.tally.unproven[Unproven.MISSING] += len(proven) - len(still)
        return still

    def _conditions(
        self, copies: Iterable[Archived]
    ) -> Iterator[tuple[RowId, Condition]]:
        for destination, group in groupby(copies, key=_home):
            if not self.means.there(destination):
                yield from ((archived.row, Condition.MISSING) for archived in group)
                continue
            with self._archive(destination) as archive:
                for archived in group:
                    yield archived.row, archive.check(archived.copy, archived.content)

    def _awake(
        self, session: Session, copies: Iterable[Archived]
    ) -> Iterator[Archived]:
        spoken = self.means.now()
        for copy in copies:
            if self.means.now() - spoken >= STAY_AWAKE:
                with suppress(ServerRefusal):  # an answer is all that is asked for
                    session.noop()
                spoken = self.means.now()
            yield copy

    def _look_back(self, later: int) -> None:
        if later:
            self.tally.skipped[Skip.CAPPED] = later
        if self.tally.waiting == 0:
            self.tally.removals_paused = False
            if NAMELESS in self.failures:  # whichever it was, it is archived, or gone
                self.means.ledger.forgive(self.account.name, [NAMELESS])

    def _makes_room(
        self, kept: Sequence[Kept], proven: Sequence[Proven], *, left: bool
    ) -> bool:
        # Whether this session, or the same again without what failed in it, lets the
        # next one list what this one did not.
        rows = {proof.receipt.row for proof in proven}
        if self.habits.drains:
            rows |= {message.receipt.row for message in kept if message.receipt}
        news = rows - self.gone  # what comes back all the same makes no room
        self.gone |= rows if left else set()
        if not self.habits.lists_partly or None in self.gave_up:
            return False
        return bool(news) and self._has_room_for_another()

    def _has_room_for_another(self) -> bool:
        if self.stop.is_set() or self.full or self.habits.login_floor:
            return False
        return self.deadline.remaining() >= self.account.deadline / 2

    def _another_helps(
        self,
        later: int,
        proven: Sequence[Proven],
        *,
        nearer: bool,
        left: bool,
    ) -> bool:
        if not self._has_room_for_another():
            return False
        # Once a message without unique-id has failed, none of them is tried again.
        nameless = None not in self.gave_up
        again = any(nameless or proof.receipt.unique_id for proof in proven)
        blocked = again and not left
        before, self.left_out = self.left_out, later
        fewer = 0 < self.left_out < before  # or it would be the same round without end
        return blocked or (fewer and nearer)

    # -- the means --------------------------------------------------------------------

    @contextmanager
    def _archive(self, destination: Destination) -> Iterator[Archive]:
        self._see_mounted(destination)
        archive = self.means.archive(self.account, destination)
        try:
            yield archive
        finally:
            archive.close()

    def _see_mounted(self, destination: Destination) -> None:
        # Below an empty mount point, mail would be hidden as soon as the disk is back.
        if self.means.there(destination):
            return
        former = self.means.ledger.places(self.account.name)
        if any(stood_at(destination, place) for place in former):
            raise UnsafeArchive(destination.path, GONE, GONE_HINT)

    @contextmanager
    def _stage(self, stage: Stage) -> Iterator[None]:
        began = self.means.now()
        try:
            yield
        finally:
            self.tally.stages[stage] += max(0.0, self.means.now() - began)


class Keeper:
    """
    Makes one batch durable, in a thread of its own, while the next one arrives.

    *keep* is never called twice at once. What *keep* raises is raised by the next
    `take`, or at the end. Messages that are complete are kept also when the line drops.
    """

    def __init__(self, keep: Callable[[list[Spooled]], None]) -> None:
        self._keep = keep
        self._batch: list[Spooled] = []
        self._octets = 0
        self._running: Future[None] | None = None
        self._thread = ThreadPoolExecutor(1, "keeper")

    def take(self, spooled: Spooled) -> None:
        """
        Add a message to the batch; hand the batch on when it is full.
        """
        self._batch.append(spooled)
        self._octets += spooled.fingerprint.stored
        if len(self._batch) >= BATCH_MESSAGES or self._octets >= BATCH_OCTETS:
            self._hand_on()

    def _hand_on(self) -> None:
        self._wait()
        batch, self._batch, self._octets = self._batch, [], 0
        self._running = self._thread.submit(self._keep, batch)

    def _wait(self) -> None:
        running, self._running = self._running, None
        try:
            if running is not None:
                running.result()
        except BaseException:
            self._batch.clear()  # the archive failed: nothing more is given to it
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._thread:
            self._wait()
            if self._batch:
                self._hand_on()
                self._wait()


@dataclass
class Intake:
    """
    Where retrieved messages go. *latest* has ended, but may have ended early.
    """

    archive: Archive
    keeper: Keeper
    numbers: Iterator[int]
    latest: Spooled | None = None

    def believe(self) -> None:
        """
        Keep the latest message: what came behind it was no part of it.
        """
        latest, self.latest = self.latest, None
        if latest is not None:
            self.keeper.take(latest)


def _noted(
    messages: Iterable[Listed], asked: dict[MessageNumber, Listed]
) -> Iterator[MessageNumber]:
    # Writes down in *asked* what the session is about to ask for.
    for listed in messages:
        asked[listed.number] = listed
        yield listed.number


def _habits(known: Habits, announced: Capabilities) -> Habits:
    # EXPIRE 0: the server removes at QUIT what was retrieved (RFC 2449 section 6.7).
    return Habits(
        login_floor=max(known.login_floor, announced.login_delay or 0.0),
        hides_retrieved=known.hides_retrieved or announced.expire == 0,
        lists_partly=known.lists_partly,
    )


def _home(stands: Recorded | Archived) -> Destination:
    copy = stands.copy
    return Destination(copy.format, copy.directory, copy.spool)


def _place(verified: Verified) -> Path:
    return verified.spooled.copy.directory


def _receipt(
    entry: Recorded | Receipt | Alike, fresh: Mapping[RowId, Receipt]
) -> Receipt | None:
    if isinstance(entry, Recorded):
        return fresh[entry.row]
    return entry if isinstance(entry, Receipt) else None


def _of_the_message(refusal: ServerRefusal) -> ServerRefusal:
    # With a response code the server speaks of itself, not of this message.
    if not isinstance(refusal, CommandRefused):
        raise refusal
    return refusal


def _unique_ids(batch: Sequence[Spooled]) -> list[UniqueId]:
    ids = (spooled.listed.unique_id for spooled in batch)
    return [unique_id for unique_id in ids if unique_id is not None]
