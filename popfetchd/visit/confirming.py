"""
What TOP 0 can tell: that a message is the one its receipt is for, or is archived.

Rules of this file:

- A header that does not agree proves nothing; such a message is retrieved, and matched
  by its content.
- TOP is asked for half the visit's time at most, and not of what failed before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from popfetchd.archive.form import header_digest
from popfetchd.archive.likeness import likeness
from popfetchd.errors import ServerRefusal
from popfetchd.pop3.session import Session
from popfetchd.removal import Proven, proven_by_header
from popfetchd.selection import Removable, Selection
from popfetchd.values import (
    NEVER,
    HeaderDigest,
    Listed,
    MessageNumber,
    Messages,
    Receipt,
    RowId,
    Stage,
    Unproven,
)
from popfetchd.visit.course import Course, noted


LEAVE_HALF = 0.5
"""The part at which no further TOP is sent: there is time to retrieve what is new, and
to send a DELE, which takes as long, for each TOP. The next visit goes on."""


def confirm(
    course: Course, session: Session, plan: Selection
) -> tuple[list[Proven], list[Removable]]:
    """
    Return what is due and proven by its header, and what has to be retrieved for that.
    """
    due = {removable.listed.number: removable for removable in plan.removable}
    if due and course.tally.removals_paused:
        course.tally.unproven[Unproven.PAUSED] += len(due)
        return [], []
    proven: list[Proven] = []
    unconfirmed = [d for d in due.values() if course.may_retry(d.listed)]
    rows = [removable.row for removable in due.values()]
    receipts = {r.row: r for r in course.means.ledger.receipts(rows)}
    with course.stage(Stage.REMOVE):
        for listed, answer in _headers(
            course, session, [d.listed for d in due.values()]
        ):
            proof = _proof(course, due[listed.number], receipts, answer)
            if proof is None:
                unconfirmed.append(due[listed.number])
            else:
                proven.append(proof)
    return proven, unconfirmed


def _proof(
    course: Course,
    due: Removable,
    receipts: dict[RowId, Receipt],
    answer: bytes | ServerRefusal,
) -> Proven | None:
    if isinstance(answer, ServerRefusal):
        course.tally.unproven[Unproven.REFUSED] += 1
        return None
    proof = proven_by_header(receipts[due.row], due.listed, header_digest(answer))
    if proof is None:
        course.tally.unproven[Unproven.MISMATCH] += 1
    return proof


def recognise(course: Course, session: Session, plan: Selection) -> Messages:
    """
    Return the wanted messages without those that TOP shows to be archived.
    """
    # After a reset thousands of messages have new names. What TOP shows to be in
    # the archive need not be retrieved; what it cannot tell, its content will.
    if course.habits.drains:  # only what is retrieved makes room
        return plan.wanted
    wanted = plan.wanted if plan.astray else ()
    astray = (m for m in wanted if m.octets in plan.astray)
    done = course.asked | course.failures.keys()
    strangers = [m for m in astray if m.unique_id not in done]
    with course.stage(Stage.LIST):
        answers = [*_named(course, session, strangers[:1])]
        if answers:  # the server knows TOP
            answers += _named(course, session, strangers[1:])
    course.asked.update(m.unique_id for m, _ in answers if m.unique_id)
    # What is due to be removed has to be retrieved anyhow, to prove it.
    wait = course.account.delete_after
    moment = -NEVER if wait is None else course.means.now() - wait
    later_than = (course.account.delete_since, moment)
    headers = [(m, digest) for m, digest in answers if digest is not None]
    known = course.means.ledger.recognise(course.account.name, headers, later_than)
    course.tally.matched += len(known)
    course.tally.waiting -= len(known)
    return plan.wanted.without(known)


def _named(
    course: Course, session: Session, strangers: Sequence[Listed]
) -> Iterator[tuple[Listed, HeaderDigest | None]]:
    # One for each answer; None: the header does not name the message.
    for listed, answer in _headers(course, session, strangers):
        if not isinstance(answer, ServerRefusal):
            named = likeness(answer) is not None
            yield listed, header_digest(answer) if named else None


def _headers(
    course: Course, session: Session, messages: Iterable[Listed]
) -> Iterator[tuple[Listed, bytes | ServerRefusal]]:
    # Not of what failed before: it is retrieved when all else is done.
    well = (m for m in messages if m.unique_id not in course.failures)
    asked: dict[MessageNumber, Listed] = {}
    with course.blaming(asked):
        for number, answer in session.top(
            noted(course.while_time(well, LEAVE_HALF), asked), 0
        ):
            yield asked.pop(number), answer
