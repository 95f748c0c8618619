"""
The one write path: how octets come to stand on a disk so that we may believe it.

    create → write … → close      a spool file, under a name of its own
    prove                         fsync, forget the cache, read back, compare
    publish                       link to the final name; never over anything
    sync_folder                   only now does the name last

Rules of this file:

- Each step is a function of its own and fails as an ArchiveError of its own name.
- After any error of write, fsync or close a file is condemned: it is unlinked, and the
  message is retrieved anew. The kernel reports a lost page once; a second fsync of the
  same file would report success for what the first one lost. So there is no second.
- fsync promises what the disk promises. A disk that lies about its cache is found out
  only when it returns other octets than it was given, which is why they are read back.
- A file is opened by the descriptor of its folder, never through a symbolic link, and
  created exclusively with mode 0600: nobody else's file, and nobody else's to read. If
  the operator wrote otherwise it is given its group and its mode then, while it is
  empty and before it has a name that anybody knows.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from popfetchd.archive.disk import Disk
from popfetchd.archive.form import widened
from popfetchd.errors import ArchiveError, NotPermitted, NotProved
from popfetchd.values import PRIVATE, ContentDigest, Permissions


FILE_MODE = 0o600
"""With which every file is created, whatever mode it is given at once."""

READ_OCTETS = 64 * 1024
"""
Read at a time: hashing is at full speed, and memory does not grow with the message. More
is no faster, and each thread that proves holds two of these.
"""

CLOSED = -1
"""In place of a descriptor: there is none any more."""

DENIED = frozenset({errno.EPERM, errno.EINVAL})
"""What fchown(2) says of a group that is not ours, EINVAL within a user namespace."""

NO_LINKS_HERE = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP})
"""What link(2) says where the file system has no hard links (FAT, some FUSE)."""


@dataclass(frozen=True, slots=True)
class Folder:
    """
    An open directory: whatever its path comes to mean, this is the one that was meant.
    """

    fd: int
    path: Path

    def __truediv__(self, name: str) -> Path:
        return self.path / name


class step:  # noqa: N801 -- used as contextlib's own are
    """
    Tell an OSError of what is done inside as a failure of *what*.

    It was done to file *name* in *folder*, or to the folder itself.
    """

    # A dozen of them for each message: a generator would take three times as long.
    __slots__ = ("_folder", "_name", "_what")

    def __init__(self, what: str, folder: Folder, name: str = "") -> None:
        self._what = what
        self._folder = folder
        self._name = name

    def __enter__(self) -> None: ...

    def __exit__(
        self, _kind: object, error: BaseException | None, _trace: object
    ) -> None:
        if isinstance(error, OSError):
            where = self._folder / self._name
            raise ArchiveError.from_os(self._what, where, error) from error


class NewFile:
    """
    A file that is being written. Any failure condemns it.
    """

    def __init__(
        self,
        disk: Disk,
        folder: Folder,
        name: str,
        permissions: Permissions = PRIVATE,
    ) -> None:
        self._disk = disk
        self._folder = folder
        self._name = name
        self._size = 0
        self._over = False
        # O_RDWR: an exact spool file has to be read again (`to_crlf`).
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with step("create", folder, name):
            self._fd = disk.open(name, flags, FILE_MODE, folder.fd)
        with self._or_condemned("create"):
            permit(disk, self._fd, folder / name, permissions)

    def write(self, octets: bytes) -> None:
        """
        Write all of *octets* at the end; ArchiveError (DiskFull) when that fails.
        """
        with self._or_condemned("write"):
            self._put(octets, self._size)
            self._size += len(octets)

    def to_crlf(self, lines: int) -> None:
        """
        Turn each of the file's *lines* LF into CRLF, in place.

        From the end to the start, so that nothing is overwritten before it is read.
        """
        with self._or_condemned("rewrite"):
            end, self._size = self._size, self._size + lines
            target = self._size
            while end:
                start = max(0, end - READ_OCTETS)
                octets = self._disk.pread(self._fd, end - start, start)
                wider = widened(octets)
                target -= len(wider)
                self._put(wider, target)
                end = start

    def contents(self) -> Iterator[bytes]:
        """
        Return what was written so far, in pieces.
        """
        with self._or_condemned("read"):
            yield from read(self._disk, self._fd)

    def set_time(self, seconds: float) -> None:
        """
        Set the time of modification, in seconds since 1970.
        """
        with self._or_condemned("utime"):
            self._disk.utime(self._fd, seconds)

    def close(self) -> None:
        """
        Close the file. It stays, and is not durable yet: `prove` is next.
        """
        with self._or_condemned("close"):
            fd, self._fd = self._fd, CLOSED  # whatever close(2) will say
            self._disk.close(fd)
            self._over = True

    def condemn(self) -> None:
        """
        Close and unlink the file, unless it was closed properly. Never raises.
        """
        if self._over:
            return
        self._over = True
        if self._fd != CLOSED:
            let_go(self._disk, self._fd)
        condemn(self._disk, self._folder, self._name)

    def _or_condemned(self, what: str) -> Condemning:
        if self._over:
            raise ArchiveError(what, self._folder / self._name, "the file is closed")
        return Condemning(self, step(what, self._folder, self._name))

    def _put(self, octets: bytes, offset: int) -> None:
        write_all(self._disk, self._fd, octets, offset)


class Condemning:
    """
    A *step* whose failure condemns *file*.
    """

    __slots__ = ("_file", "_step")

    def __init__(self, file: NewFile, step: step) -> None:
        self._file = file
        self._step = step

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: object, error: BaseException | None, trace: object
    ) -> None:
        if isinstance(error, OSError | ArchiveError):
            self._file.condemn()
            self._step.__exit__(kind, error, trace)


def permit(disk: Disk, fd: int, path: Path, permissions: Permissions) -> None:
    """
    Give what is open as *fd*, a file or a folder, its group and then its mode.

    Nothing is done to what has them, nor where none were written. Raises NotPermitted.
    """
    if permissions == PRIVATE:
        return
    with _permitted("stat", path):
        found = disk.fstat(fd)
    group = permissions.group
    if group is not None and found.st_gid != group.gid:
        with _permitted(f"chgrp to {group.name}", path):
            disk.chgrp(fd, group.gid)
    mode = permissions.mode
    if stat.S_ISDIR(found.st_mode):
        # A group that is inherited goes on being inherited, if nobody names another.
        inherited = 0 if group else found.st_mode & stat.S_ISGID
        mode = permissions.folder_mode | inherited
    if stat.S_IMODE(found.st_mode) != mode:
        with _permitted(f"chmod to {mode:04o}", path):
            disk.chmod(fd, mode)


@contextmanager
def _permitted(what: str, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in DENIED:
            raise NotPermitted(what, path, os.strerror(error.errno)) from error
        raise ArchiveError.from_os(what, path, error) from error


def write_all(disk: Disk, fd: int, octets: bytes, offset: int) -> None:
    """
    Write all of *octets* at *offset*; OSError when that fails.
    """
    rest = memoryview(octets)
    while rest:
        written = disk.pwrite(fd, rest, offset)
        if not written:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rest, offset = rest[written:], offset + written


def condemn(disk: Disk, folder: Folder, name: str) -> None:
    """
    Unlink a file that is not to be believed. Never raises: an error is on its way.

    If even that fails, the file has no row in the ledger, and is swept one day.
    """
    with suppress(OSError):
        disk.unlink(name, folder.fd)


def prove(disk: Disk, folder: Folder, name: str, content: ContentDigest) -> None:
    """
    Make file *name* durable and read it back; or condemn it and raise.

    Raises NotProved when the disk returns other octets than those of *content*, and
    ArchiveError when a step fails.

    The descriptor is not the one that wrote: a batch of files would hold too many. A
    page lost in between is still reported here (Linux since 4.16 keeps what nobody was
    told); and were it not, the octets read back would tell.
    """
    with _or_condemned(disk, folder, name) as fd:
        sync_file(disk, fd, folder, name)
        _compare(disk, fd, folder, name, content)


def read_back(disk: Disk, folder: Folder, name: str, content: ContentDigest) -> None:
    """
    Do the same with a file that is durable already.
    """
    with _or_condemned(disk, folder, name) as fd:
        _compare(disk, fd, folder, name, content)


@contextmanager
def _or_condemned(disk: Disk, folder: Folder, name: str) -> Iterator[int]:
    try:
        with opened(disk, folder, name) as fd:
            yield fd
    except ArchiveError:
        condemn(disk, folder, name)
        raise


def sync_file(disk: Disk, fd: int, folder: Folder, name: str) -> None:
    """
    Fsync *fd*, which is file *name* in *folder*.
    """
    with step("fsync", folder, name):
        disk.fsync(fd)


def _compare(
    disk: Disk, fd: int, folder: Folder, name: str, content: ContentDigest
) -> None:
    with step("fadvise", folder, name):
        disk.drop_pages(fd)
    with step("read back", folder, name):
        found = _digest(disk, fd)
    if found != content:
        raise NotProved("read back", folder / name, "other octets than written")


def sync_found(disk: Disk, folder: Folder, name: str, content: ContentDigest) -> bool:
    """
    Make a file that others may move, and its name in *folder*, last.

    False when it is not there (any more), or holds other octets than those of *content*.
    """
    with step("open", folder, name):
        try:
            fd = disk.open(name, os.O_RDONLY | os.O_NOFOLLOW, 0, folder.fd)
        except FileNotFoundError:
            return False
    with closing(disk, fd, folder, name):
        with step("fsync", folder, name):
            disk.fsync(fd)
        with step("read back", folder, name):
            if _digest(disk, fd) != content:
                return False
    sync_folder(disk, folder)
    return True


def look(disk: Disk, folder: Folder, name: str) -> os.stat_result | None:
    """
    Return what is known of *name* in *folder*; None when it is not there.
    """
    with step("look", folder, name):
        try:
            return disk.lstat(name, folder.fd)
        except FileNotFoundError:
            return None


def digest(
    disk: Disk, folder: Folder, name: str, *, fresh: bool = False
) -> ContentDigest:
    """
    Return the SHA-256 of file *name*, read through a descriptor of its own.

    *fresh*: from the disk, whatever the cache holds.
    """
    with opened(disk, folder, name) as fd, step("read back", folder, name):
        if fresh:
            disk.drop_pages(fd)
        return _digest(disk, fd)


def _digest(disk: Disk, fd: int) -> ContentDigest:
    content = hashlib.sha256()
    for octets in read(disk, fd):
        content.update(octets)
    return ContentDigest(content.digest())


def read(disk: Disk, fd: int) -> Iterator[bytes]:
    """
    Return a file's octets from its start, in pieces.
    """
    offset = 0
    while octets := disk.pread(fd, READ_OCTETS, offset):
        yield octets
        offset += len(octets)


def opened(disk: Disk, folder: Folder, name: str) -> closing:
    """
    Open file *name* for reading, never through a symbolic link; close it afterwards.
    """
    with step("open", folder, name):
        fd = disk.open(name, os.O_RDONLY | os.O_NOFOLLOW, 0, folder.fd)
    return closing(disk, fd, folder, name)


class closing:  # noqa: N801 -- used as contextlib's own is
    """
    Close *fd* afterwards; what went wrong before counts for more than its close.
    """

    __slots__ = ("_disk", "_fd", "_folder", "_name")

    def __init__(self, disk: Disk, fd: int, folder: Folder, name: str = "") -> None:
        self._disk = disk
        self._fd = fd
        self._folder = folder
        self._name = name

    def __enter__(self) -> int:
        return self._fd

    def __exit__(
        self, _kind: object, error: BaseException | None, _trace: object
    ) -> None:
        if error is not None:
            let_go(self._disk, self._fd)
            return
        with step("close", self._folder, self._name):
            self._disk.close(self._fd)


def let_go(disk: Disk, fd: int) -> None:
    """
    Close *fd*, through which nothing was written. Never raises.
    """
    with suppress(OSError):
        disk.close(fd)


def publish(disk: Disk, source: Folder, name: str, target: Folder, to: str) -> None:
    """
    Give file *name* of *source* its name *to* in *target*, unless that name is taken.

    Where links do not exist the file is renamed instead, and its old name is gone.
    Done again, it does nothing. It lasts only after `sync_folder(target)`.
    """
    try:
        disk.link(name, source.fd, to, target.fd)
    except OSError as error:
        if error.errno in NO_LINKS_HERE:
            with step("rename", target, to):
                disk.rename(name, source.fd, to, target.fd)
        elif not _is_same_file(disk, source, name, target, to):
            raise ArchiveError.from_os("link", target / to, error) from error


def _is_same_file(
    disk: Disk, source: Folder, name: str, target: Folder, to: str
) -> bool:
    one, other = look(disk, source, name), look(disk, target, to)
    if one is None or other is None:
        return False
    return (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)


def sync_folder(disk: Disk, folder: Folder) -> None:
    """
    Make the names in *folder* last.
    """
    with step("fsync", folder):
        disk.fsync(folder.fd)
