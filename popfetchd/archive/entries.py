"""
Spool files as entries of an mbox.

Rules of this file:

- The same spool file gives the same octets each time: what was appended can be compared
  with it, and appended again. So the From_ line's date is the file's time of
  modification, which is the message's arrival (spool.py), and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from popfetchd.archive import mboxrd
from popfetchd.archive.disk import Disk
from popfetchd.archive.durable import Folder, opened, read, step
from popfetchd.archive.form import HEADER_KEPT
from popfetchd.values import Extent


UNPLACED = -1
"""The offset of a message whose place is not known yet."""


def entry(
    disk: Disk, folder: Folder, base: str, seen: Callable[[bytes], None] | None = None
) -> Iterator[bytes]:
    """
    Return, in pieces, what is to stand in an mbox for spool file *base*.

    *seen* is shown the message's own octets. Raises ArchiveError.
    """

    def stored() -> Iterator[bytes]:
        for octets in read(disk, fd):
            if seen is not None:
                seen(octets)
            yield octets

    with opened(disk, folder, base) as fd, step("read", folder, base):
        arrived_at = disk.fstat(fd).st_mtime
        line = mboxrd.from_line(disk.pread(fd, HEADER_KEPT, 0), arrived_at)
        yield from mboxrd.entry(line, stored())


def measured(disk: Disk, folder: Folder, base: str) -> Extent:
    """
    Return how much room spool file *base* takes in an mbox, its place not known yet.
    """
    bare = mboxrd.Bare()
    length = sum(len(octets) for octets in entry(disk, folder, base, bare.feed))
    return Extent(UNPLACED, length, bare.digest())
