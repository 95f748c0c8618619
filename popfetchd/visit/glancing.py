"""
Whether a glance tells that nothing is new, so that the maildrop need not be listed.

Rules of this file:

- A glance is STAT, and UIDL of the message that was listed last. It proves nothing of a
  message: nothing is archived or removed because of it. The worst that it can do is to
  let a message wait for the next listing (docs/adr/0014-nothing-new.md).
- There is one where the last listing was complete, left nothing to do, and told all
  messages apart; where nothing has come due or failed since; and not for long.
- What is decided here takes one small row of the ledger, and no message's.
"""

from __future__ import annotations

from popfetchd.values import (
    NEVER,
    Listing,
    MessageNumber,
    Standstill,
)
from popfetchd.visit.course import Course


LARGE = 300
"""
Messages from which on a glance saves something: the listings of fewer (some 40 octets
each) fit the first flight of TCP (14 kB, RFC 6928), and cost no round trip more.
"""

GLANCES = 11
"""Visits in a row that may go without a listing: each twelfth lists, an hour apart at
`every: 5m`."""

GLANCE_SECONDS = 6 * 3600.0
"""How old the last listing may be: a quarter of a day, where visits are seldom."""


def expected(course: Course) -> Standstill | None:
    """
    Return what the maildrop is to be like if nothing is new; None: it has to be listed.
    """
    left, account = course.recollection, course.account
    if left is None or left.account != account.digest or left.standstill is None:
        return None
    still, now = left.standstill, course.means.now()
    old = not 0 <= now - still.listed < GLANCE_SECONDS or still.visits >= GLANCES
    if old or now >= still.due or course.tally.removals_paused:
        return None
    return None if course.means.ledger.waits(account.name) else still


def standstill(course: Course, listing: Listing) -> Standstill | None:
    """
    Return what *listing* was like, if it left nothing to do and tells all apart.

    The session ended with QUIT, and removed nothing.
    """
    tally, habits, count = course.tally, course.habits, len(listing.numbers)
    undone = tally.waiting or tally.removals_paused or tally.unproven or tally.reset
    hidden = habits.hides_retrieved or habits.lists_partly
    if count < LARGE or undone or hidden or not _tells_all_apart(listing):
        return None
    now, due = course.means.now(), _due(course)
    if due <= now:
        return None
    last = listing.unique_ids[MessageNumber(count)]
    return Standstill(count, listing.drop.octets, last, now, due)


def _tells_all_apart(listing: Listing) -> bool:
    # Each number from the first to the last, with octets and a unique-id of its own.
    count = len(listing.numbers)
    whole = count == len(listing.octets) == len(listing.unique_ids)
    return whole and listing.numbers[-1] == count and not listing.repeated


def _due(course: Course) -> float:
    account = course.account
    if account.delete_after is None:
        return NEVER
    first = course.means.ledger.first_of(account.name, account.delete_since)
    return account.removable_at(first, first)
