"""
How an mbox is locked, so that no mail reader and no delivery agent writes in between.

    1. fcntl write lock on the file     mutt, Dovecot, procmail, Python; goes when we die
    2. dot lock FILE.lock               the same and others; stays when we die

Rules of this file:

- Both, or neither: whoever has one of them and waits for the other may wait for us. So
  what was got is let go of before the next try, and there is an end to trying.
- The dot lock is linked into its place from a file that is complete and proved: at no
  instant, and after no power cut, does it stand there without telling whose it is.
- It names the ledger. One that names ours, while we hold the fcntl lock, was left by a
  visit that died: only then is a lock broken.
- It names the mbox too, and its file stays in the spool folder as long as it: a visit
  that died with nothing left to do leaves no open row, and readers must not wait for
  the next message (`sweep`). (Where there are no links they do.)
- An mbox of ours that is empty is given the archive's permissions: a visit that died may
  have made it a moment ago.
- A file that was replaced while we waited is not the mbox any more: try again.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import stat
import time

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
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
    permit,
    step,
)
from popfetchd.archive.folders import reach, sync_names
from popfetchd.archive.spooling import SpoolFolder, unlink
from popfetchd.errors import ArchiveError, ArchiveLocked, UnsafeArchive
from popfetchd.values import PRIVATE, ContentDigest, Permissions


LONGEST_WAIT = 30.0
"""Seconds to wait for others: a reader that writes a large file anew takes some."""

PAUSE = 0.1
"""Seconds between two tries: neither lock can be waited for with a limit."""

TAKEN = frozenset({errno.EAGAIN, errno.EACCES})
"""What fcntl(2) says when another has the lock."""

NOT_OURS = frozenset({errno.ENOENT, errno.ELOOP, errno.EACCES})
"""What opening a dot lock says that has just gone, or is none that we would make."""

T = TypeVar("T")

MARK = re.compile(rb"popfetchd L[0-9a-f]+\n(/.+)\n", re.DOTALL)
"""What a dot lock of ours says; its group 1 is the mbox."""

LONGEST_MARK = 8192
"""Octets of it: a path has 4,096 at most (PATH_MAX)."""


class MboxLock:
    """
    The locks on mbox *name* in *folder*; *pause* waits so many seconds. *permissions* are
    given to a file that is made.
    """

    def __init__(
        self,
        disk: Disk,
        folder: Folder,
        name: str,
        spool: SpoolFolder,
        pause: Callable[[float], None],
        *,
        permissions: Permissions = PRIVATE,
    ) -> None:
        self._disk = disk
        self._folder = folder
        self._name = name
        self._dot = f"{name}.lock"
        self._spool = spool
        self._mark = f"popfetchd L{spool.ledger}\n".encode()
        self._path = os.fsencode(folder / name)
        self._pause = pause
        self._permissions = permissions
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
                yield fd
            finally:
                # The dot lock first: without the other it would look like a dead one.
                # And for good before its file: one that a power cut gave back would stay.
                if not self.keep:
                    self._unlink_ours()
                self._spool.discard(base)

    def free_dead(self) -> bool:
        """
        Unlink the dot lock if a visit of ours left it that is dead. Never waits.

        False when somebody else is at the file. The caller knows that no open row needs
        the lock: to settle that would break it.
        """
        if look(self._disk, self._folder, self._name) is None:
            return True
        fd = self._file_locked(os.O_RDWR)
        if fd is None:
            return False
        with closing(self._disk, fd, self._folder, self._name):
            self._unlink_ours()
        return True

    def _unlink_ours(self) -> None:
        if self._is_ours():
            unlink(self._disk, self._folder, self._dot)
        # Also where another broke it: a power cut would give it back, without its file.
        sync_names(self._disk, self._folder)

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
                if flags & os.O_CREAT:
                    self._permit(fd, found)
                return fd
        except BaseException:
            let_go(self._disk, fd)
            raise
        let_go(self._disk, fd)
        return None

    def _permit(self, fd: int, found: os.stat_result) -> None:
        if self._permissions == PRIVATE or found.st_size:
            return
        if found.st_uid == self._disk.geteuid():
            permit(self._disk, fd, self._folder / self._name, self._permissions)

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
        mark = self._mark + self._path + b"\n"
        file.write(mark)
        file.close()
        self._spool.prove({base: ContentDigest(hashlib.sha256(mark).digest())})
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
                return self._disk.pread(fd, len(self._mark), 0) == self._mark
        except ArchiveError as error:
            cause = error.__cause__
            if isinstance(cause, OSError) and cause.errno in NOT_OURS:
                return False
            raise


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def sweep(disk: Disk, spool: SpoolFolder, open_bases: Collection[str]) -> int:
    """
    Unlink the files in *spool* that no open row bears, and before them the dot locks
    that our dead visits left. 0 while another visit is at work.
    """

    def is_over(base: str) -> bool:
        if not spool.is_mark(base):
            return True
        if spool.has_any(open_bases):  # that row's visit knows whether the file is torn
            return False
        with suppress(ArchiveError):  # another account's, perhaps
            return _freed(disk, spool, base)
        return False

    return spool.sweep(open_bases, is_over)


def _freed(disk: Disk, spool: SpoolFolder, base: str) -> bool:
    with opened(disk, spool.folder, base) as fd, step("read", spool.folder, base):
        named = MARK.fullmatch(disk.pread(fd, LONGEST_MARK, 0))
    if named is None:  # not complete: it never was a lock
        return True
    path = Path(os.fsdecode(named[1]))
    above, here = reach(disk, path.parent)
    with closing(disk, above.fd, above), closing(disk, here.fd, here):
        return MboxLock(disk, here, path.name, spool, time.sleep).free_dead()
