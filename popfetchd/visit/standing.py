"""
Whether copies that were archived before still stand, whole, where they were put.

Rules of this file:

- A copy is read again before the server's message is removed for it, unless the user
  trusts the archive (docs/adr/0008-trust.md).
- The server is not left waiting for longer than it may bear.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import groupby

from popfetchd.errors import ServerRefusal
from popfetchd.pop3.session import Session
from popfetchd.removal import Proven
from popfetchd.values import Archived, Condition, RowId, Stage, Unproven
from popfetchd.visit.course import Course, home


WELL = frozenset({Condition.WHOLE, Condition.MOVED})
"""A copy is there. Where a mail reader has put it is the reader's business."""

SPOILED = frozenset({Condition.ALTERED, Condition.TRUNCATED})
"""It is there, with other octets. (What is gone a person may have thrown away.)"""

STAY_AWAKE = 240.0
"""Seconds of reading our own disk after which the server hears from us: it may log out
who is silent for ten minutes (RFC 1939 section 3), and some wait for less."""


def still_archived(
    course: Course, session: Session, proven: Sequence[Proven]
) -> list[Proven]:
    """
    Return those of *proven* whose copies are there and whole.

    What an earlier visit archived may have been altered since, or thrown away.
    """
    older = {proof.receipt.row for proof in proven} - course.fresh
    if course.account.trust_archive or not older:
        return list(proven)
    with course.stage(Stage.REMOVE):
        copies = _awake(course, session, course.means.ledger.copies(older))
        whole = {row for row, found in conditions(course, copies) if found in WELL}
    whole |= course.fresh
    still = [proof for proof in proven if proof.receipt.row in whole]
    if len(still) < len(proven):
        course.tally.unproven[Unproven.MISSING] += len(proven) - len(still)
    return still


def conditions(
    course: Course, copies: Iterable[Archived]
) -> Iterator[tuple[RowId, Condition]]:
    """
    Read *copies* again; yield what each row's copy is like.
    """
    for destination, group in groupby(copies, key=home):
        if not course.means.there(destination):
            yield from ((archived.row, Condition.MISSING) for archived in group)
            continue
        with course.archive(destination) as archive:
            for archived in group:
                yield archived.row, archive.check(archived.copy, archived.content)


def _awake(
    course: Course, session: Session, copies: Iterable[Archived]
) -> Iterator[Archived]:
    spoken = course.means.now()
    for copy in copies:
        if course.means.now() - spoken >= STAY_AWAKE:
            with suppress(ServerRefusal):  # an answer is all that is asked for
                session.noop()
            spoken = course.means.now()
        yield copy
