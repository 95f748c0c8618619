"""
How an mbox is locked, so that no mail reader and no delivery agent writes in between.

    1. fcntl write lock on the file     mutt, Dovecot, procmail, Python; goes when we die
    2. dot lock FILE.lock               the same and others; stays when we die

Rules of this file:

- Both, or neither: whoever has one of them and waits for the other may wait for us. So
  what was got is let go of before the next try, and there is an end to trying.
- The dot lock is linked into its place from a file that is complete and fsynced: at no
  instant, and after no power cut, does it stand there without telling whose it is.
- It names the ledger. One that names ours, while we hold the fcntl lock, was left by a
  visit that died: only then is a lock broken.
- A file that was replaced while we waited is not the mbox any more: try again.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from popfetchd.archive.disk import Disk
from popfetchd.archive.durable import (
    FILE_MODE,
    NO_LINKS_HERE,
    Folder,
    closing,
    condemn,
    let_go,
    look,
    opened,
    step,
    sync_file,
)
from popfetchd.archive.spooling import SpoolFolder, unlink
from popfetchd.errors import ArchiveError, ArchiveLocked, UnsafeArchive


LONGEST_WAIT = 30.0
"""Seconds to wait for others: a reader that writes a large file anew takes some."""

PAUSE = 0.1
"""Seconds between two tries: neither lock can be waited for with a limit."""

TAKEN = frozenset({errno.EAGAIN, errno.EACCES})
"""What fcntl(2) says when another has the lock."""

NOT_OURS = frozenset({errno.ENOENT, errno.ELOOP, errno.EACCES})
"""What opening a dot lock says that has just gone, or is none that we would make."""

T = TypeVar("T")


class MboxLock:
    """
    The locks on mbox *name* in *folder*; *pause* waits so many seconds.
    """

    def __init__(
        self,
        disk: Disk,
        folder: Folder,
        name: str,
        spool: SpoolFolder,
        pause: Callable[[float], None],
    ) -> None:
        self._disk = disk
        self._folder = folder
        self._name = name
        self._dot = f"{name}.lock"
        self._spool = spool
        self._mark = f"popfetchd L{spool.ledger}\n".encode()
        self._pause = pause
        self.keep = False
        """Leave the dot lock when the locks are released: the file is torn."""

    @contextmanager
    def held(self) -> Iterator[int]:
        """
        Give the open file, made if it is missing, while nobody else may use it.

        Raises ArchiveLocked when others hold it for longer than LONGEST_WAIT.
        """
        base = self._marked()
        try:
            fd = self._first(lambda: self._both_locked(base))
        except BaseException:
            condemn(self._disk, self._spool.folder, base)
            raise
        with closing(self._disk, fd, self._folder, self._name):
            try:
                self._spool.discard(base)
                yield fd
            finally:
                # The dot lock first: without the other it would look like a dead one.
                if not self.keep and self._is_ours():
                    unlink(self._disk, self._folder, self._dot)

    @contextmanager
    def reading(self) -> Iterator[int | None]:
        """
        Give the open file while nobody may write into it; None when there is none.

        Only the fcntl lock is taken: who only reads leaves nothing behind.
        """
        if look(self._disk, self._folder, self._name) is None:
            yield None
            return
        fd = self._first(lambda: self._file_locked(os.O_RDONLY))
        with closing(self._disk, fd, self._folder, self._name):
            yield fd

    def _first(self, attempt: Callable[[], T | None]) -> T:
        for _ in range(round(LONGEST_WAIT / PAUSE)):
            got = attempt()
            if got is not None:
                return got
            self._pause(PAUSE)
        raise ArchiveLocked(self._folder / self._name, LONGEST_WAIT)

    def _both_locked(self, base: str) -> int | None:
        fd = self._file_locked(os.O_RDWR | os.O_CREAT)
        if fd is None:
            return None
        try:
            if self._dot_locked(base):
                return fd
        except BaseException:
            let_go(self._disk, fd)
            raise
        let_go(self._disk, fd)
        return None

    # -- the fcntl lock ---------------------------------------------------------------

    def _file_locked(self, flags: int) -> int | None:
        with step("open", self._folder, self._name):
            flags |= os.O_NOFOLLOW
            fd = self._disk.open(self._name, flags, FILE_MODE, self._folder.fd)
        try:
            found = self._stat(fd)
            kind = fcntl.F_WRLCK if flags & os.O_RDWR else fcntl.F_RDLCK
            if self._is_locked(fd, kind) and self._is_in_place(found):
                return fd
        except BaseException:
            let_go(self._disk, fd)
            raise
        let_go(self._disk, fd)
        return None

    def _stat(self, fd: int) -> os.stat_result:
        with step("stat", self._folder, self._name):
            found = self._disk.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise UnsafeArchive(
                self._folder / self._name,
                "is no file, and an mbox is one file",
                "write another path, or `format: maildir` where it is a maildir",
            )
        return found

    def _is_in_place(self, found: os.stat_result) -> bool:
        named = look(self._disk, self._folder, self._name)
        return named is not None and _identity(named) == _identity(found)

    def _is_locked(self, fd: int, kind: int) -> bool:
        try:
            self._disk.lock_file(fd, kind)
        except OSError as error:
            if error.errno in TAKEN:
                return False
            raise ArchiveError.from_os(
                "lock", self._folder / self._name, error
            ) from error
        return True

    # -- the dot lock -----------------------------------------------------------------

    def _marked(self) -> str:
        # The lock, complete before it is in its place.
        base, file = self._spool.new_file(0)
        file.write(self._mark)
        file.close()
        sync_file(self._disk, self._spool.folder, base)
        return base

    def _dot_locked(self, base: str) -> bool:
        if self._linked(base):
            return True
        if not self._is_ours():
            return False
        unlink(self._disk, self._folder, self._dot)
        return self._linked(base)

    def _linked(self, base: str) -> bool:
        source = self._spool.folder
        try:
            self._disk.link(base, source.fd, self._dot, self._folder.fd)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in NO_LINKS_HERE:
                path = self._folder / self._dot
                raise ArchiveError.from_os("lock", path, error) from error
            return self._renamed(base)
        return True

    def _renamed(self, base: str) -> bool:
        with step("lock", self._folder, self._dot):
            try:
                self._disk.rename(
                    base, self._spool.folder.fd, self._dot, self._folder.fd
                )
            except FileExistsError:
                return False
        return True

    def _is_ours(self) -> bool:
        try:
            with (
                opened(self._disk, self._folder, self._dot) as fd,
                step("read", self._folder, self._dot),
            ):
                return self._disk.pread(fd, 2 * len(self._mark), 0) == self._mark
        except ArchiveError as error:
            cause = error.__cause__
            if isinstance(cause, OSError) and cause.errno in NOT_OURS:
                return False
            raise


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino
