"""
Read an account's archive against the ledger: what is missing, altered, or unknown.

    whole, moved                   no damage: a reader may file mail within the archive
    missing, altered, truncated    damage: the copy is not the one that was archived
    unknown                        no row knows it: told, and no damage

Rules of this file:

- It reads what is on the disk and writes nothing, neither to the archive nor to rows;
  `repair` alone marks rows, under the account's lock, and only after a second look.
- It takes no lock while it reads: visits go on. Rows that are there at its start are
  looked for; what the archive holds is listed before the ledger is asked about it, so
  that mail which comes meanwhile is not taken for unknown.
- What the disk cannot return is damage like any other, and does not end the reading.
- Messages are read in the order of the ledger: as they were written, so they stand on
  most disks. Memory grows by a name for each message, not by its octets.
"""

from __future__ import annotations

import errno

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Protocol

from popfetchd.archive.interface import Archive
from popfetchd.archive.inventory import inventory
from popfetchd.archive.places import exists, places
from popfetchd.errors import (
    AccountLocked,
    ArchiveError,
    Interrupted,
    PopfetchdError,
    Unexpected,
)
from popfetchd.ledger import Ledger
from popfetchd.values import (
    Account,
    Archived,
    ArchiveFormat,
    Condition,
    Copy,
    Damage,
    Destination,
    RowId,
    Verification,
)


UNREADABLE = frozenset({errno.EIO, errno.EBADMSG, errno.EUCLEAN, errno.ENODATA})
"""What read(2) says of octets that the disk has lost: a bad sector, a wrong checksum."""

HEALING = 60.0
"""Seconds to wait for a visit to end, before what is whole again counts again; if it
takes longer, the next verification does it."""

WELL = frozenset({Condition.WHOLE, Condition.MOVED})


class Watch(Protocol):
    """
    Somebody who looks on, such as a progress bar.
    """

    def expected(self, messages: int, octets: int) -> None:
        """So many messages and octets are about to be read."""

    def read(self, octets: int) -> None:
        """One message more, of so many octets, has been read."""


class Nobody:
    """
    The watch of a verification that nobody looks at.
    """

    def expected(self, messages: int, octets: int) -> None: ...

    def read(self, octets: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Tools:
    """
    What a verification works with.
    """

    ledger: Ledger
    archive: Callable[[Account, Destination], Archive]
    """Opens the archive at a destination; the caller closes it."""
    now: Callable[[], float]


def verify(
    account: Account, tools: Tools, *, stop: Event, watch: Watch | None = None
) -> Verification:
    """
    Read *account*'s archive, and tell how its copies were found.

    *stop* asks it to end soon; what ended it early is the result's `failure`.
    """
    return Reading(account, tools, stop, watch or Nobody()).make()


def repair(account: Account, seen: Verification, tools: Tools) -> list[RowId]:
    """
    Let the next visit fetch again what *seen* found damaged; return those rows.

    The account's lock is to be held. A copy that proves to be well by now is left alone.
    Nothing is deleted: an altered file stays where it is, unknown to the ledger from the
    moment when a new copy of its message is committed.
    """
    wanted = {damage.row for damage in seen.damage}
    again = [
        archived.row
        for place in tools.ledger.places(account.name)
        for archived, condition in _look(account, tools, place, wanted)
        if condition not in WELL
    ]
    tools.ledger.damage(again)
    return again


def _look(
    account: Account, tools: Tools, place: Destination, wanted: set[RowId]
) -> Iterator[tuple[Archived, Condition]]:
    if not _is_there(place):
        raise ArchiveError(
            "repair", place.path, "it is not there: is its disk mounted?"
        )
    with _opened(account, tools, place) as archive:
        for archived in tools.ledger.archived(account.name, place.path):
            if archived.row in wanted:
                yield archived, _condition(archive, archived)


@contextmanager
def _opened(
    account: Account, tools: Tools, place: Destination
) -> Iterator[Archive | None]:
    # None: the archive is not there, and is not to be made.
    if not _is_there(place):
        yield None
        return
    archive = tools.archive(account, place)
    try:
        yield archive
    finally:
        archive.close()


def _is_there(place: Destination) -> bool:
    # Where a disk is not mounted an empty folder is: no maildir, and to be left as it is.
    is_maildir = place.format is ArchiveFormat.MAILDIR
    return exists(place.path / "cur" if is_maildir else place.path)


def _condition(archive: Archive | None, archived: Archived) -> Condition:
    if archive is None:
        return Condition.MISSING
    try:
        return archive.check(archived.copy, archived.content)
    except ArchiveError as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno in UNREADABLE:
            return Condition.ALTERED
        raise


@dataclass
class Seen:
    """
    What has been read so far.
    """

    messages: int = 0
    octets: int = 0
    moved: int = 0
    damage: list[Damage] = field(default_factory=list)
    healed: list[RowId] = field(default_factory=list)
    unknown: list[Path] = field(default_factory=list)


class Reading:
    """
    One verification while it is under way; `make` tells it.
    """

    def __init__(
        self, account: Account, tools: Tools, stop: Event, watch: Watch
    ) -> None:
        self.account = account
        self.tools = tools
        self.stop = stop
        self.watch = watch
        self.seen = Seen()

    def make(self) -> Verification:
        """
        Read the copies that there have to be, then look what else there is.
        """
        started, failure = self.tools.now(), None
        try:
            self.watch.expected(*self.tools.ledger.totals(self.account.name))
            for place in self._places():
                self._read(place)
                self._look_for_unknown(place)
            self._heal()
        except PopfetchdError as error:
            failure = error
        except Exception as error:  # noqa: BLE001 -- P3: a fault of ours ends this only
            failure = Unexpected(type(error).__name__, "verifying")
            failure.__cause__ = error
        return self._told(started, failure)

    def _told(self, started: float, failure: PopfetchdError | None) -> Verification:
        return Verification(
            account=self.account.name,
            started=started,
            ended=self.tools.now(),
            messages=self.seen.messages,
            octets=self.seen.octets,
            moved=self.seen.moved,
            healed=len(self.seen.healed),
            damage=tuple(self.seen.damage),
            unknown=tuple(self.seen.unknown),
            failure=failure,
        )

    def _places(self) -> list[Destination]:
        # Also where the account's mail was once to be put, and where there is none yet.
        known = self.tools.ledger.places(self.account.name)
        paths = {place.path for place in known}
        configured = places(self.account.destination)
        return [*known, *(place for place in configured if place.path not in paths)]

    # -- what there has to be ---------------------------------------------------------

    def _read(self, place: Destination) -> None:
        name = self.account.name
        with _opened(self.account, self.tools, place) as archive:
            for archived in self.tools.ledger.archived(name, place.path):
                if self.stop.is_set():
                    raise Interrupted
                self._judge(archived, _condition(archive, archived))

    def _judge(self, archived: Archived, condition: Condition) -> None:
        copy = archived.copy
        self.seen.messages += 1
        self.seen.octets += archived.stored
        self.seen.moved += condition is Condition.MOVED
        if condition not in WELL:
            self.seen.damage.append(Damage(archived.row, _path(copy), condition))
        elif archived.damaged:
            self.seen.healed.append(archived.row)
        self.watch.read(archived.stored)

    def _heal(self) -> None:
        # Under the lock: nobody is fetching them again at this moment.
        if not self.seen.healed:
            return
        ledger, name = self.tools.ledger, self.account.name
        with suppress(AccountLocked), ledger.lock(name).acquire(HEALING):
            ledger.heal(self.seen.healed)

    # -- what else there is -----------------------------------------------------------

    def _look_for_unknown(self, place: Destination) -> None:
        with inventory(place, now=self.tools.now) as stock:
            if stock is None:
                return
            keys = Counter(held.key for held in stock.held())
            unknown = self.tools.ledger.without_row(place.path, keys)
            if unknown:
                paths = [held.path for held in stock.held() if held.key in unknown]
                self.seen.unknown += sorted(paths)


def _path(copy: Copy) -> Path:
    # In an mbox nothing bears a name.
    bears_name = copy.format is ArchiveFormat.MAILDIR
    return copy.directory / "new" / copy.name if bears_name else copy.directory
