"""
An mbox while it is open and locked: what stands in it, and what we add.

Rules of this file:

- It knows octets and extents, no ledger and no evidence: mbox.py decides.
- Nothing that others wrote is ever altered. What is cut off is ours, or what a power cut
  made of it.
- After an error of write or fsync what is in the cache is no proof of what is on the
  disk. So before anything is looked for, the file is fsynced and its pages are dropped.
"""

from __future__ import annotations

import os
import re

from collections import Counter
from collections.abc import Iterable, Iterator

from popfetchd.archive import mboxrd
from popfetchd.archive.disk import Disk
from popfetchd.archive.durable import READ_OCTETS, Folder, step, write_all
from popfetchd.values import Condition, ContentDigest, Extent


MOST_GAP = 2
"""Line ends that at most were put behind what others wrote: one to end it, one empty."""

BEGINNING = re.compile(rb"From [^\n]*\n")


class MboxFile:
    """
    The mbox *name* in *folder*, open as *fd*.
    """

    def __init__(self, disk: Disk, folder: Folder, name: str, fd: int) -> None:
        self._disk = disk
        self._folder = folder
        self._name = name
        self._fd = fd

    # -- reading ----------------------------------------------------------------------

    def stat(self) -> os.stat_result:
        """
        Return what is known of the file.
        """
        with step("stat", self._folder, self._name):
            return self._disk.fstat(self._fd)

    def size(self) -> int:
        """
        Return how many octets it holds.
        """
        return self.stat().st_size

    def read(self, start: int, end: int) -> Iterator[bytes]:
        """
        Return the octets from *start* to *end*, or to the file's end, in pieces.
        """
        while start < end:
            with step("read", self._folder, self._name):
                octets = self._disk.pread(
                    self._fd, min(end - start, READ_OCTETS), start
                )
            if not octets:
                return
            yield octets
            start += len(octets)

    def gap(self) -> bytes:
        """
        Return the line ends that are missing at its end, before a From_ line.
        """
        size = self.size()
        tail = b"\n\n" if not size else b"".join(self.read(max(0, size - 2), size))
        missing = MOST_GAP - (len(tail) - len(tail.rstrip(b"\n")))
        return b"\n" * missing

    def holds(self, extent: Extent, content: ContentDigest) -> bool:
        """
        Tell whether just the message of digest *content* stands at *extent*.
        """
        end = extent.offset + extent.length
        first = min(end, extent.offset + mboxrd.LONGEST_FROM_LINE)
        begins = BEGINNING.match(b"".join(self.read(extent.offset, first)))
        if begins is None or self.size() < end:
            return False
        message = mboxrd.Content()
        for octets in self.read(extent.offset + begins.end(), end):
            message.feed(octets)
        return message.is_of(content)

    def remains(self, extent: Extent) -> Condition:
        """
        Tell what became of the message at *extent*, which is not in the file any more.
        """
        size, end = self.size(), extent.offset + extent.length
        first = b"".join(self.read(extent.offset, extent.offset + 5))
        behind = b"".join(self.read(end, end + 5))
        if first == b"From " and extent.offset < size < end:
            return Condition.TRUNCATED
        if size >= end and behind in {b"", b"From "}:
            return Condition.ALTERED
        return Condition.MISSING

    def bare_digests(self) -> Counter[ContentDigest]:
        """
        Return the `Bare` digests of all messages, and how often each is there.
        """
        return Counter(mboxrd.bare_digests(self.read(0, self.size())))

    def is_torn(self, expected: Iterable[bytes], offset: int) -> bool:
        """
        Tell whether, from *offset* on, only *expected* stands there, or zeros.

        Zeros are what a power cut leaves where the size was kept and the octets were
        not. Octets behind *expected*, or behind the file's end, do not matter.
        """
        for octets in expected:
            found = b"".join(self.read(offset, offset + len(octets)))
            if found != octets[: len(found)] and any(
                there and there != ours
                for there, ours in zip(found, octets, strict=False)
            ):
                return False
            offset += len(octets)
        return True

    def zeros_before(self, offset: int) -> int:
        """
        Count the zeros, MOST_GAP at most, that stand just before *offset*: a lost gap.
        """
        before = b"".join(self.read(max(0, offset - MOST_GAP), offset))
        return len(before) - len(before.rstrip(b"\0"))

    # -- writing ----------------------------------------------------------------------

    def write(self, chunks: Iterable[bytes], offset: int) -> int:
        """
        Write *chunks* from *offset* on; return where they end.
        """
        for octets in chunks:
            with step("write", self._folder, self._name):
                write_all(self._disk, self._fd, octets, offset)
            offset += len(octets)
        return offset

    def sync(self) -> None:
        """
        Make it last, and forget the cached pages: what is read next is on the disk.
        """
        with step("fsync", self._folder, self._name):
            self._disk.fsync(self._fd)
        with step("fadvise", self._folder, self._name):
            self._disk.drop_pages(self._fd)

    def cut(self, size: int) -> None:
        """
        Cut the file off at *size*. It lasts after the next `sync`.
        """
        with step("truncate", self._folder, self._name):
            self._disk.truncate(self._fd, size)
