"""
A batch of messages made durable: prove, record, publish, commit (docs/adr/0002).

Rules of this file:

- The order of the steps is the promise (P1, P2): nothing is told to be archived before
  its copy is read back, recorded, published and committed.
- A batch of large messages is kept in a thread of its own while the next one arrives,
  one at a time: the disk and the digests need no interpreter. One of many small messages
  is work for the interpreter alone; two threads would only take it from each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Self

from popfetchd import cores
from popfetchd.archive.interface import Archive
from popfetchd.values import (
    Alike,
    Listed,
    Receipt,
    Recorded,
    RowId,
    Spooled,
    Stage,
    UniqueId,
    Unproven,
    Verified,
)
from popfetchd.visit.course import Course
from popfetchd.visit.settle import settle_rows
from popfetchd.visit.standing import SPOILED, conditions


BATCH_MESSAGES = 250
"""Messages made durable together: one commit, one fsync of the folder."""

BATCH_OCTETS = 8 * 1024**2
"""Octets after which a batch is full, so that proving overlaps with receiving."""


@dataclass(frozen=True, slots=True)
class Kept:
    """
    A message of this session that is in the archive.
    """

    listed: Listed
    receipt: Receipt | None
    """None: it is there with other octets, which proves nothing."""
    spooled: Spooled


class Keeper:
    """
    Makes one batch durable after the other.

    *keep* is never called twice at once. What *keep* raises is raised by the next
    `take`, or at the end. Messages that are complete are kept also when the line drops.
    The last batch is kept by who waits for it: a visit that finds few needs no thread.
    (2,000 messages of 2 kB: a fifth less time than with all batches in the thread.)
    """

    def __init__(self, keep: Callable[[list[Spooled]], None]) -> None:
        self._keep = keep
        self._batch: list[Spooled] = []
        self._octets = 0
        self._running: Future[None] | None = None
        self._thread = ThreadPoolExecutor(1, "keeper", cores.anywhere)

    def take(self, spooled: Spooled) -> None:
        """
        Add a message to the batch; hand the batch on when it is full.
        """
        self._batch.append(spooled)
        self._octets += spooled.fingerprint.stored
        if self._octets >= BATCH_OCTETS:
            self._wait()
            self._running = self._thread.submit(self._keep, self._taken())
        elif len(self._batch) >= BATCH_MESSAGES:
            self._wait()
            self._keep(self._taken())

    def _taken(self) -> list[Spooled]:
        batch, self._batch, self._octets = self._batch, [], 0
        return batch

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
                self._keep(self._taken())


def keep_batch(
    course: Course, archive: Archive, batch: Sequence[Spooled]
) -> list[Kept]:
    """
    Return the messages of *batch*, each in the archive: durable, and read back.

    ArchiveError or LedgerError when one cannot be; then none of them is told to be.
    """
    with course.stage(Stage.ARCHIVE):
        verified = sorted(archive.prove(batch), key=_place)
    return [
        kept
        for place, together in groupby(verified, key=_place)
        for kept in _keep_at(course, archive, place, list(together))
    ]


def _keep_at(
    course: Course, archive: Archive, place: Path, verified: Sequence[Verified]
) -> list[Kept]:
    # The archive protocol, for one batch (docs/adr/0002). Its order is the promise.
    ledger, name = course.means.ledger, course.account.name
    batch = [proved.spooled for proved in verified]
    with course.stage(Stage.ARCHIVE):
        _give_up_spoiled(course, batch)
        with archive.publishing(place, ledger.left_open) as left_open:
            settle_rows(course, archive, left_open)
            entries = ledger.record(name, verified, archive.place)
            recorded = [entry for entry in entries if isinstance(entry, Recorded)]
            fresh = {r.row: r for r in ledger.commit(archive.publish(recorded))}
        for spooled in batch:
            archive.discard(spooled.copy)
        ledger.forgive(name, _unique_ids(batch))
    _count(course, batch, entries)
    course.fresh |= fresh.keys()
    return [
        Kept(spooled.listed, _receipt(entry, fresh), spooled)
        for spooled, entry in zip(batch, entries, strict=True)
    ]


def _give_up_spoiled(course: Course, batch: Sequence[Spooled]) -> None:
    # Where QUIT hides what was retrieved, these octets may be the last whole ones:
    # a copy that has gone bad is none to drop them for (P1).
    if course.account.trust_archive or not course.habits.hides_retrieved:
        return
    ledger = course.means.ledger
    contents = {spooled.fingerprint.content for spooled in batch}
    copies = ledger.holding(course.account.name, contents)
    older = (copy for copy in copies if copy.row not in course.fresh)
    ledger.damage([row for row, found in conditions(course, older) if found in SPOILED])


def _count(
    course: Course,
    batch: Sequence[Spooled],
    entries: Sequence[Recorded | Receipt | Alike],
) -> None:
    for spooled, entry in zip(batch, entries, strict=True):
        if isinstance(entry, Recorded):
            course.tally.archived += 1
            course.tally.archived_octets += spooled.fingerprint.octets
            continue
        course.tally.matched += 1
        if isinstance(entry, Alike) and course.account.delete_after is not None:
            course.tally.unproven[Unproven.ALTERED] += 1
    numbers = (spooled.listed.number for spooled in batch)
    course.tally.waiting -= sum(number not in course.again for number in numbers)
    course.watch.archived(len(batch))


def _place(verified: Verified) -> Path:
    return verified.spooled.copy.directory


def _receipt(
    entry: Recorded | Receipt | Alike, fresh: Mapping[RowId, Receipt]
) -> Receipt | None:
    if isinstance(entry, Recorded):
        return fresh[entry.row]
    return entry if isinstance(entry, Receipt) else None


def _unique_ids(batch: Sequence[Spooled]) -> list[UniqueId]:
    ids = (spooled.listed.unique_id for spooled in batch)
    return [unique_id for unique_id in ids if unique_id is not None]
