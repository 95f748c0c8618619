"""
What the stages of one visit share: its means, its tally, its time, whom it blames.

Rules of this file:

- A message that fails alone is counted against that message, not the rest (P3).
- An archive is opened only where one is, or never was: below an empty mount point mail
  would be hidden.
"""

from __future__ import annotations

import os

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from threading import Event
from typing import Protocol

from popfetchd.archive.interface import Archive
from popfetchd.archive.places import is_there, stood_at
from popfetchd.errors import (
    ArchiveError,
    NearlyFull,
    NetworkError,
    PopfetchdError,
    RemoteError,
    UnsafeArchive,
    quote,
)
from popfetchd.ledger import Ledger
from popfetchd.pop3.deadline import Deadline
from popfetchd.pop3.session import Session
from popfetchd.selection import blamed, is_quarantined, rests
from popfetchd.values import (
    Account,
    Announced,
    Archived,
    Channel,
    Destination,
    DropListing,
    Failure,
    Known,
    Listed,
    MessageNumber,
    Plain,
    Recollection,
    Recorded,
    RowId,
    Secret,
    SecretSource,
    Server,
    Skip,
    Stage,
    Standstill,
    UniqueId,
    Unproven,
)


LARGEST_MESSAGE = 4 * 1024**3
"""Octets of one message that are taken where the account sets no limit: far above what
any server accepts, and still an end to an endless one."""

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
    connect: Callable[[Server, Deadline, Announced | None], Session]
    """Returns a session that is ready to log in; it asks CAPA unless that is known."""
    archive: Callable[[Account, Destination], Archive]
    """Opens the archive at a destination; the caller closes it."""
    secret: Callable[[SecretSource], Secret]
    now: Callable[[], float]
    free: Callable[[Path], int] = free_octets
    """Octets that are free where an archive at this path is, or will be."""
    there: Callable[[Destination], bool] = is_there
    """Whether anything is left of an archive that was at a destination."""
    acquaintances: MutableMapping[Server, Recollection] = field(default_factory=dict)
    """What whichever account's last session has learnt of each server."""


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
    surprise: str = ""
    unchanged: bool = False


class Course:
    """
    A visit while it is under way: what it works with, and what it has come to.
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
        self.again: frozenset[MessageNumber] = frozenset()
        """What the session retrieves though it is known to be archived."""
        self.habits = account.habits
        """What is known of the server, and what it has announced."""
        self.recollection: Recollection | None = None
        """What the last session left to the next one."""
        self._ahead: tuple[Plain, list[Known]] | None = None
        self.stamp = ""
        """The archive's, when it was known to hold nothing that the ledger does not know."""
        self.standstill: Standstill | None = None
        """What the maildrop was like when there was nothing left to do."""
        self.full: NearlyFull | None = None
        """Why the visit retrieved less than it wanted."""

    def read_ahead(self) -> None:
        """
        Read what is known of the maildrop, while the server puts its listing together.
        """
        self._ahead = self._read()

    def known(self) -> tuple[Plain, list[Known]]:
        """
        Return the account's rows, as they were read ahead, once, or are now.
        """
        ahead, self._ahead = self._ahead, None
        return ahead or self._read()

    def _read(self) -> tuple[Plain, list[Known]]:
        due = self.account.due(self.means.now())
        return self.means.ledger.known_apart(self.account.name, due)

    @contextmanager
    def stage(self, stage: Stage) -> Iterator[None]:
        """
        Add the seconds of the block to what *stage* has taken.
        """
        began = self.means.now()
        try:
            yield
        finally:
            self.tally.stages[stage] += max(0.0, self.means.now() - began)

    @contextmanager
    def archive(self, destination: Destination) -> Iterator[Archive]:
        """
        Open the archive at *destination* for the block. UnsafeArchive when it is gone.
        """
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

    def has_time(self, part: float) -> bool:
        """
        Whether at least this *part* of the visit's seconds is left.
        """
        return self.deadline.remaining() >= self.account.deadline * part

    def while_time(self, wanted: Iterable[Listed], part: float) -> Iterator[Listed]:
        """
        Yield *wanted* until only *part* of the time is left, or a stop is asked for.
        """
        for listed in wanted:
            if self.stop.is_set() or not self.has_time(part):
                return
            yield listed

    def may_retry(self, listed: Listed) -> bool:
        """
        Whether it failed before, and is to be tried again.
        """
        if listed.unique_id is None or listed.unique_id not in self.failures:
            return False
        failure = self.failures[listed.unique_id]
        return not is_quarantined(failure, self.means.now())

    @contextmanager
    def blaming(self, unanswered: Mapping[MessageNumber, Listed]) -> Iterator[None]:
        """
        When the session breaks in the block, count it against the first *unanswered*.

        A server that always stalls at one message must not hold up the others. It may
        speak of itself (Dovecot says [SYS/TEMP] of one broken message, too).
        """
        try:
            yield
        except (NetworkError, RemoteError) as error:
            for listed in islice(unanswered.values(), 1):
                self.failed(listed, error)
            raise

    def failed(self, listed: Listed, error: PopfetchdError) -> None:
        """
        Count *error* against this message; after a few visits it rests (quarantine).
        """
        self.gave_up.add(listed.unique_id)
        name = blamed(listed)
        before = self.failures.get(name)
        if before and rests(name, before.once_more()):
            self.tally.quarantined += 1
        self.means.ledger.fail(self.account.name, [name], str(error))
        known_as = quote(listed.unique_id or f"number {listed.number}")
        self.tally.failed_messages += (f"message {known_as}: {error}",)


def noted(
    messages: Iterable[Listed], asked: dict[MessageNumber, Listed]
) -> Iterator[MessageNumber]:
    """
    Write down in *asked* what a session is about to ask for.
    """
    for listed in messages:
        asked[listed.number] = listed
        yield listed.number


def home(stands: Recorded | Archived) -> Destination:
    """
    Return the archive that a copy is in, or is to be in.
    """
    copy = stands.copy
    return Destination(copy.format, copy.directory, copy.spool)
