"""
What one session retrieves: a portion, and more of them where nothing waits for its end.

Rules of this file:

- After a portion the session ends with QUIT, so that removals are committed now and then,
  and what is hidden by it makes room. Where nothing is removed and nothing hidden, there
  is nothing to commit: the same session goes on with the next portion. (Each new one
  would ask a server for a listing of all messages again.)
- What stands beside a message that was archived is written down behind the first portion,
  and as it is when the session ends, also when the line drops: no copy is taken for one
  that has vanished.
- What failed before is no part of a session that retrieves anything else.
- Of a portion that was archived only the numbers are kept.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from popfetchd.archive.interface import Archive
from popfetchd.errors import NetworkError, RemoteError
from popfetchd.pop3.session import Session
from popfetchd.selection import Removable, in_one_session
from popfetchd.values import Listed, MessageNumber, Messages, UniqueId
from popfetchd.visit.archiving import Kept
from popfetchd.visit.course import Course
from popfetchd.visit.retrieving import GIVE_WAY, retrieve


PORTION_MESSAGES = 1_000
"""Of a portion behind which the same session goes on: what is known of each is kept until
its end, 4 kB."""


class Retrieved(NamedTuple):
    """
    What a session has retrieved.

    *kept*: the last portion, which is the only one where anything may be removed.
    *settled*: the numbers of all that is in the archive now. *later*: how many messages
    are left for another session.
    """

    kept: Sequence[Kept]
    settled: Collection[MessageNumber]
    later: int


def retrieve_portions(
    course: Course,
    session: Session,
    archive: Archive,
    strangers: Messages,
    unconfirmed: Sequence[Removable],
    *,
    removing: bool,
) -> Retrieved:
    """
    Retrieve what is new, and what could not be confirmed, as far as one session goes.

    Raises what `retrieve` raises.
    """
    settled: set[MessageNumber] = set()
    waiting = _waiting(course, strangers, unconfirmed)
    most = PORTION_MESSAGES if _commits_nothing(course) else None
    while True:
        wanted, later = in_one_session(
            waiting, _apart(course), removing=removing or bool(settled), most=most
        )
        try:
            kept = retrieve(course, session, archive, last(course, wanted))
        except (NetworkError, RemoteError):  # what was archived all the same has a row
            leave_behind(course, strangers, settled)
            raise
        first = not settled
        settled.update(message.listed.number for message in kept)
        goes_on = bool(later and kept) and _goes_on(course)
        if first or not goes_on:
            leave_behind(course, strangers, settled)
        if not goes_on:
            return Retrieved(kept, settled, later)
        waiting = waiting.without({listed.number for listed in wanted})


def _waiting(
    course: Course, strangers: Messages, unconfirmed: Sequence[Removable]
) -> Messages:
    numbers = [*strangers.numbers, *(due.listed.number for due in unconfirmed)]
    if course.gave_up:
        name = strangers.listing.unique_ids.get
        numbers = [number for number in numbers if name(number) not in course.gave_up]
    return Messages(strangers.listing, numbers)


def _apart(course: Course) -> Collection[UniqueId]:
    # A session in which a message fails ends without QUIT: nothing is removed, and
    # nothing makes room. So what failed before gets one of its own, if there can be.
    return () if course.habits.login_floor else course.failures.keys()


def _commits_nothing(course: Course) -> bool:
    return course.account.delete_after is None and not course.habits.hides_retrieved


def _goes_on(course: Course) -> bool:
    return (
        _commits_nothing(course)
        and not (course.stop.is_set() or course.full)
        and course.has_time(GIVE_WAY)
    )


def last(course: Course, wanted: Iterable[Listed]) -> list[Listed]:
    """
    Return *wanted*, what failed before last: it holds up nobody.
    """
    return sorted(wanted, key=lambda m: m.unique_id in course.failures)


def leave_behind(
    course: Course, strangers: Messages, settled: Collection[MessageNumber]
) -> None:
    """
    Write down which of *strangers* are listed, and not *settled*.

    Before a DELE: what is listed beside a message is not that one, though equal.
    """
    listing = strangers.listing
    left = {
        listing.unique_ids.get(number): listing.octets.get(number)
        for number in strangers.without(settled).numbers
    }
    course.means.ledger.leave(
        course.account.name,
        {
            unique_id: octets
            for unique_id, octets in left.items()
            if unique_id is not None and unique_id not in listing.repeated
        },
    )
