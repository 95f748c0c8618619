"""
First thing in every visit: publish, or forget, what a crash left recorded.

Rules of this file:

- A row that is open is published anew, or voided, never left; its order is that of
  docs/adr/0002.
- A ledger that is older than its archive fetches nothing: it would double what it has
  forgotten (P2).
"""

from __future__ import annotations

from collections.abc import Sequence

from popfetchd.archive.interface import Archive
from popfetchd.archive.inventory import highest_at, ledgers_at
from popfetchd.archive.places import places
from popfetchd.errors import LedgerBehind
from popfetchd.values import Destination, Published, Recorded, Stage
from popfetchd.visit.course import Course, home


def settle(course: Course) -> None:
    """
    Publish or forget what is recorded and open, sweep the spool folder.

    LedgerBehind when the ledger is older than the archive, ArchiveError.
    """
    ledger, account = course.means.ledger, course.account
    with course.stage(Stage.SETTLE):
        rows = ledger.open_rows(account.name)
        for destination in dict.fromkeys(map(home, rows)):
            with course.archive(destination) as archive:
                _settle_at(course, archive, destination)
        with course.archive(account.destination) as archive:
            _check_ledger(course, archive)
            archive.sweep(ledger.open_bases())


def _check_ledger(course: Course, archive: Archive) -> None:
    # An older one, or a new one beside mail of another, would fetch all that anew.
    ledger, account = course.means.ledger, course.account
    stamp = archive.stamp()
    # Looked through before, with this ledger: its stamp would go back with the rest of it.
    unchanged = stamp and stamp == ledger.stamp(account.name)
    found = 0 if unchanged else archive.highest_number()
    highest = max(found, _highest_before(course))
    if highest > ledger.highest():
        raise LedgerBehind(ledger.path, "older than the archive it is for")
    course.stamp = stamp
    if ledger.knows(account.name):
        return
    if ledgers_at(account.destination, course.means.now) - {ledger.id}:
        path = account.destination.path
        raise LedgerBehind(ledger.path, f"knows nothing of the mail in {path}")


def _highest_before(course: Course) -> int:
    # A ledger that knows of no mail where the account's is put now may be older than
    # the change of that place: what it does not know stands at the former one.
    ledger, account, now = course.means.ledger, course.account, course.means.now
    here = {place.path for place in places(account.destination)}
    if ledger.stands_in(account.name, here):
        return 0
    return highest_at(ledger.places(account.name), ledger.id, now)


def _settle_at(course: Course, archive: Archive, destination: Destination) -> None:
    ledger = course.means.ledger
    with archive.publishing(destination.path, ledger.left_open) as left_open:
        rows = ledger.open_rows(course.account.name)
        mine = [row for row in rows if home(row) == destination]
        settle_rows(course, archive, list(dict.fromkeys([*left_open, *mine])))


def settle_rows(course: Course, archive: Archive, rows: Sequence[Recorded]) -> None:
    """
    Settle *rows* while the caller holds the archive for publishing.
    """
    anew = [row for row in rows if _settle_row(course, archive, row)]
    course.tally.fragments += archive.fragments()
    if anew:
        placed = course.means.ledger.place(anew, archive.place)
        for published in archive.publish(placed):
            _settled(course, archive, published)


def _settle_row(course: Course, archive: Archive, recorded: Recorded) -> bool:
    # Returns whether the row is to be published anew.
    found = archive.settle(recorded)
    if found is None:
        course.means.ledger.void(recorded)
        course.tally.lost_spools += 1
    elif isinstance(found, Published):
        _settled(course, archive, found)
    return isinstance(found, Recorded)


def _settled(course: Course, archive: Archive, published: Published) -> None:
    course.means.ledger.commit([published])
    archive.discard(published.recorded.copy)
    course.tally.settled += 1
