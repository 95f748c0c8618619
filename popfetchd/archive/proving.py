"""
A batch of spool files made durable and read back: each alone, or all together.

Rules of this file:

- Many files are made to last by one syncfs(2): it takes a fraction of the time, as they
  share one commit of the file system's journal (docs/adr/0007-fsync.md).
- That is only done where the kernel tells our descriptor of whatever was lost since it
  was opened. Which file it was it does not tell: all of them are condemned.
- It waits for what others write as well. Once it took long, each file is synced alone.
- Whichever way: each file is read back from the disk, and compared.
"""

from __future__ import annotations

import errno

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from popfetchd import cores
from popfetchd.archive.disk import Disk
from popfetchd.archive.durable import Folder, condemn, prove, read_back, step
from popfetchd.errors import ArchiveError
from popfetchd.values import ContentDigest


MANY = 8
"""Files for which one syncfs is better than an fsync for each."""

LONG = 2.0
"""Seconds. Whoever writes so much at the same time shall not hold up the next batch."""

PROVERS = 4
"""Where there is no such syncfs, files proved side by side: the file system joins their
commits, which makes a batch four times as fast."""

NOT_ALLOWED = frozenset({errno.ENOSYS, errno.EPERM})
"""What a sandbox says to a call that it does not know."""


class Prover:
    """
    Proves the spool files of one visit on *disk*; *now* gives seconds.
    """

    def __init__(self, disk: Disk, now: Callable[[], float]) -> None:
        self._disk = disk
        self._now = now
        self._together = True

    def prove(self, folder: Folder, files: Mapping[str, ContentDigest]) -> None:
        """
        Make *files* durable and read them back; or condemn what is not, and raise.

        Raises NotProved when the disk returns other octets than those of the digest, and
        ArchiveError when a step fails. No file may be proved twice.
        """
        if len(files) < MANY:
            self._each(map, folder, files)
        elif self._synced(folder, files):
            for name, content in files.items():
                read_back(self._disk, folder, name, content)
        else:
            with ThreadPoolExecutor(PROVERS, "prover", cores.anywhere) as provers:
                self._each(provers.map, folder, files)

    def _each(
        self,
        apply: Callable[..., Iterator[None]],
        folder: Folder,
        files: Mapping[str, ContentDigest],
    ) -> None:
        done = apply(partial(prove, self._disk, folder), files.keys(), files.values())
        deque(done, maxlen=0)

    def _synced(self, folder: Folder, files: Mapping[str, ContentDigest]) -> bool:
        # Returns whether all are durable.
        if not self._together:
            return False
        began = self._now()
        try:
            with step("syncfs", folder):
                done = _sync_all(self._disk, folder.fd)
        except ArchiveError:
            for name in files:
                condemn(self._disk, folder, name)
            raise
        self._together = done and self._now() - began < LONG
        return done


def _sync_all(disk: Disk, fd: int) -> bool:
    try:
        telling = disk.tells_of_losses(fd)
        if telling:
            disk.sync_all(fd)
    except OSError as error:
        if error.errno in NOT_ALLOWED:
            return False
        raise
    return telling
