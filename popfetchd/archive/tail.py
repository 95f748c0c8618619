"""
The end of an mbox while we hold its locks: what a crash left there, and what we append.

Rules of this file:

- What is looked for is first made to last and its cached pages are dropped: what is then
  found is on the disk.
- A row is settled where its octets stand as recorded. Elsewhere it counts only as one of
  those messages in the file that no archived row claims: two equal messages are two.
- An append is all or nothing. What fails half-way is cut off again, if nobody else has
  written behind it; what cannot be cut off is `torn`, and the dot lock stays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

from popfetchd.archive.mboxfile import MOST_GAP, MboxFile
from popfetchd.errors import ArchiveError, NotProved
from popfetchd.values import (
    ContentDigest,
    Copy,
    Extent,
    LeftOpen,
    Published,
    Recorded,
    RowId,
)


class Tail:
    """
    The end of the mbox *file*, at *path*.

    *entry* gives what is to stand in an mbox for the spool file of a copy; *spooled*
    tells whether the spool file of a row is there and whole.
    """

    def __init__(
        self,
        file: MboxFile,
        path: Path,
        entry: Callable[[Copy], Iterable[bytes]],
        spooled: Callable[[Recorded], bool],
    ) -> None:
        self._file = file
        self._path = path
        self._entry = entry
        self._spooled = spooled
        self._end = 0
        self._gap = b""
        self._whole: set[RowId] = set()
        self._as_we_left_it = False
        """The file ends just where the first missing row was to be: none is elsewhere."""
        self._claimed: Counter[ContentDigest] = Counter()
        self._spare: Counter[ContentDigest] | None = None
        self.fragments = 0
        """Messages settled of which a part stands where others wrote behind it."""
        self.torn = False
        """A part of a message stands at the end, and could not be cut off."""

    # -- recovery ---------------------------------------------------------------------

    def recover(self, left: LeftOpen) -> None:
        """
        Learn what became of the open rows, and cut off what is theirs and not whole.
        """
        rows = sorted(left.rows, key=_offset)
        if rows:
            self._file.sync()
            self._claimed = Counter(left.claimed)
            self._look_for(rows)
        self._end, self._gap = self._file.size(), self._file.gap()

    def _look_for(self, rows: Sequence[Recorded]) -> None:
        whole = [row for row in rows if self._file.holds(_extent(row), row.content)]
        broken = next((row for row in rows if row not in whole), None)
        if broken is not None:
            behind = [row for row in rows if _offset(row) >= _offset(broken)]
            self._as_we_left_it = self._cut_off(behind)
            if self._as_we_left_it:
                whole = [row for row in whole if row not in behind]
        self._whole = {row.row for row in whole}
        self._claimed.update(_extent(row).bare for row in whole)

    def _cut_off(self, rows: Sequence[Recorded]) -> bool:
        # Returns whether the file ends, now, where the first of *rows* was to begin.
        size, first = self._file.size(), _offset(rows[0])
        if not first - MOST_GAP <= size <= _end(rows[-1]) or not _adjoin(rows):
            return False
        if not all(self._is_ours(row) for row in rows if _offset(row) < size):
            return False
        end = min(size, first) - self._file.zeros_before(first)
        if end < size:
            self.torn = True
            self._file.cut(end)
            self.torn = False
        return True

    def _is_ours(self, row: Recorded) -> bool:
        # And can be appended again.
        return self._spooled(row) and self._file.is_torn(
            self._entry(row.copy), _offset(row)
        )

    def settle(self, recorded: Recorded) -> Published | Recorded | None:
        """
        Tell what became of an open row: see Archive.settle.
        """
        if recorded.row in self._whole or self._is_elsewhere(_extent(recorded).bare):
            return Published(recorded)
        spooled = self._spooled(recorded)
        self.fragments += self._stands_in_part(recorded, spooled=spooled)
        return recorded if spooled else None

    def _is_elsewhere(self, bare: ContentDigest) -> bool:
        if self._as_we_left_it:
            return False
        if self._spare is None:
            self._spare = self._file.bare_digests()
            self._spare.subtract(self._claimed)
        self._spare[bare] -= 1
        return self._spare[bare] >= 0

    def _stands_in_part(self, row: Recorded, *, spooled: bool) -> bool:
        # Where the From_ line stands that it was to have, it was begun.
        if self._as_we_left_it:
            return False
        line = next(iter(self._entry(row.copy))) if spooled else b"From "
        at = _offset(row)
        return b"".join(self._file.read(at, at + len(line))) == line

    # -- appending --------------------------------------------------------------------

    def place(self, copies: Sequence[Copy]) -> Iterator[Extent]:
        """
        Return where *copies* will stand, one behind the other. No I/O.
        """
        at = self._end + len(self._gap)
        for copy in copies:
            length, bare = known(copy).length, known(copy).bare
            yield Extent(at, length, bare)
            at += length

    def publish(self, batch: Sequence[Recorded]) -> list[Published]:
        """
        Append the batch, make it last, and read it back; all of it or an error.
        """
        end = _end(batch[-1])
        if self._file.size() != self._end:
            raise ArchiveError(
                "append", self._path, "others wrote in spite of our locks"
            )
        try:
            self._append(batch)
            self._file.sync()
            self._prove(batch)
        except BaseException:
            self._take_back(end)
            raise
        self._end, self._gap = end, b""
        return [Published(recorded) for recorded in batch]

    def _append(self, batch: Sequence[Recorded]) -> None:
        at = self._file.write([self._gap], self._end)
        for recorded in batch:
            at = self._file.write(self._entry(recorded.copy), at)
            if at != _end(recorded):
                raise ArchiveError("append", self._path, "not as it was recorded")

    def _prove(self, batch: Sequence[Recorded]) -> None:
        for recorded in batch:
            if not self._file.holds(_extent(recorded), recorded.content):
                raise NotProved("read back", self._path, "other octets than written")

    def _take_back(self, end: int) -> None:
        # Never raises: an error is on its way. The rows stay open, and their spool files.
        self.torn = True
        with suppress(ArchiveError):
            if self._end < self._file.size() <= end:
                self._file.cut(self._end)
            self.torn = False


def known(copy: Copy) -> Extent:
    """
    Return the extent of a copy in an mbox; ArchiveError when it was never given one.
    """
    if copy.extent is None:
        raise ArchiveError("settle", copy.directory, "no mbox's message was recorded")
    return copy.extent


def _extent(recorded: Recorded) -> Extent:
    return known(recorded.copy)


def _offset(recorded: Recorded) -> int:
    return _extent(recorded).offset


def _end(recorded: Recorded) -> int:
    extent = _extent(recorded)
    return extent.offset + extent.length


def _adjoin(rows: Sequence[Recorded]) -> bool:
    return all(_end(one) == _offset(other) for one, other in pairwise(rows))
