"""
RETR, each message streamed into a spool file, and on to be archived.

Rules of this file:

- What failed before comes alone, so that nothing else is blamed for it (P3).
- A message is whole once what the server says behind it makes sense. Some servers do not
  stuff dots: such a message seems to end early, and its rest comes as the next reply. Where
  the line drops, silence makes sense, half a line does not.
- What will not fit the disk, or the time, is left for another visit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby

from popfetchd.archive.interface import Archive
from popfetchd.errors import (
    CommandRefused,
    LimitExceeded,
    NearlyFull,
    NetworkError,
    RemoteError,
    ServerRefusal,
)
from popfetchd.pop3.session import Session
from popfetchd.values import Listed, MessageNumber, Spooled, Stage
from popfetchd.visit.archiving import Keeper, Kept, keep_batch
from popfetchd.visit.course import LARGEST_MESSAGE, Course, noted


GIVE_WAY = 0.1
"""The part of the deadline at which no further RETR is sent, so that the visit can end
with what it has instead of being cut off."""


def retrieve(
    course: Course, session: Session, archive: Archive, wanted: Sequence[Listed]
) -> list[Kept]:
    """
    Retrieve *wanted* as far as time and room allow; return what is in the archive.

    A message that fails alone is counted against itself; what ends the session is
    raised: NetworkError, RemoteError, ArchiveError.
    """
    if not wanted:
        return []
    course.watch.listed(len(wanted), sum(m.octets or 0 for m in wanted))
    kept: list[Kept] = []
    refused: list[tuple[Listed, ServerRefusal]] = []
    numbers = iter(course.means.ledger.reserve(len(wanted)))
    keeper = Keeper(lambda batch: kept.extend(keep_batch(course, archive, batch)))
    chosen = _while_room(course, course.while_time(wanted, GIVE_WAY))
    try:
        with course.stage(Stage.RETRIEVE), keeper:
            for together in _together(course, chosen):
                intake = Intake(archive, keeper, numbers, refused)
                _receive(course, session, intake, together)
    except NetworkError:  # some servers hang up once they have refused a message
        _count_refused(course, refused, kept)
        raise
    _count_refused(course, refused, kept)
    return kept


def _count_refused(
    course: Course,
    refused: Sequence[tuple[Listed, ServerRefusal]],
    kept: Sequence[Kept],
) -> None:
    strangers = [m for m, _ in refused if m.unique_id not in course.failures]
    if len(strangers) > 1 and not kept:
        raise refused[0][1]  # it is not the messages, then
    for listed, refusal in refused:
        course.failed(listed, refusal)


def _together(course: Course, chosen: Iterable[Listed]) -> Iterator[Iterable[Listed]]:
    # What failed before comes alone: in a pipeline nobody could tell whose fault
    # it is when the server gets out of step.
    for failed, messages in groupby(chosen, lambda m: m.unique_id in course.failures):
        if failed:
            yield from ([message] for message in messages)
        else:
            yield messages


def _receive(
    course: Course, session: Session, intake: Intake, messages: Iterable[Listed]
) -> None:
    asked: dict[MessageNumber, Listed] = {}
    with course.blaming(asked), _believing(course, session, intake):
        replies = session.retrieve(
            noted(messages, asked),
            octets=lambda number: asked[number].octets or 0,
            followed=True,
        )
        for number, body in replies:
            intake.believe()
            if isinstance(body, ServerRefusal):
                intake.refused.append((asked[number], _of_the_message(body)))
            else:
                intake.latest = _spool(course, intake, asked[number], body)
            del asked[number]


@contextmanager
def _believing(course: Course, session: Session, intake: Intake) -> Iterator[None]:
    try:
        yield
    except (NetworkError, RemoteError) as error:
        if isinstance(error, NetworkError) and not session.unread:
            intake.believe()  # it had ended, and nothing came behind it
        elif intake.latest is not None:
            course.failed(intake.latest.listed, error)
            intake.archive.discard(intake.latest.copy)
        raise
    intake.believe()


def _while_room(course: Course, wanted: Iterable[Listed]) -> Iterator[Listed]:
    # Before the disk is full: what others write there must not fail because of us.
    path, least = course.account.destination.path, course.account.min_free
    free = course.means.free(path)
    for listed in wanted:
        # More than is ever taken is a claim that nobody need believe.
        claim = listed.octets or 0
        left = free - (claim if claim <= LARGEST_MESSAGE else 0)
        if left < least:  # a smaller one may find room
            course.full = course.full or NearlyFull(path, free, least)
            continue
        free = left
        yield listed


def _spool(
    course: Course, intake: Intake, listed: Listed, body: Iterator[bytes]
) -> Spooled:
    limit = course.account.max_message_size or LARGEST_MESSAGE
    octets = 0
    spool = intake.archive.spool(listed, next(intake.numbers))
    try:
        for chunk in body:
            spool.write(chunk)
            octets += len(chunk)
            _within(limit, octets)
            course.watch.received(len(chunk))
        return spool.finish()
    except BaseException:
        spool.abandon()
        raise


def _within(limit: int, octets: int) -> None:
    if octets > limit:
        raise LimitExceeded("max_message_size", limit)


@dataclass
class Intake:
    """
    Where retrieved messages go, and refusals. *latest* has ended, but may have ended early.
    """

    archive: Archive
    keeper: Keeper
    numbers: Iterator[int]
    refused: list[tuple[Listed, ServerRefusal]]
    latest: Spooled | None = None

    def believe(self) -> None:
        """
        Keep the latest message: what came behind it was no part of it.
        """
        latest, self.latest = self.latest, None
        if latest is not None:
            self.keeper.take(latest)


def _of_the_message(refusal: ServerRefusal) -> ServerRefusal:
    # With a response code the server speaks of itself, not of this message.
    if not isinstance(refusal, CommandRefused):
        raise refusal
    return refusal
