"""
The system calls that an archive is written with, and nothing else.

Rules of this file:

- Everything the archive does to a disk goes through one `Disk`. A test passes one that
  fails where it is told to, or one that loses what was not fsynced; nothing is patched.
- A method is one system call, with its arguments and its OSError. What a failure means
  is decided above (durable.py).
"""

from __future__ import annotations

import fcntl
import importlib
import os
import re
import struct

from types import ModuleType
from typing import Protocol


TELLING = frozenset({0xEF53, 0x58465342, 0x9123683E, 0x01021994})
"""The file systems (linux/magic.h: ext4, XFS, Btrfs, tmpfs) whose syncfs(2) makes all
last, and tells of each page that was lost. Others may do so too: it is not known."""

TELLING_SINCE = (5, 17)
"""Linux: since 5.8 syncfs tells of lost pages, since 5.17 of a failed commit as well."""

FLOCK = "hhqqi0q"
"""struct flock (fcntl.h): type, whence, start, length, pid; 0 long reaches to the end."""


class Disk(Protocol):
    """
    A disk. *folder* is the descriptor of an open directory, as dir_fd is in `os`.
    """

    def open(
        self, name: str, flags: int, mode: int = 0, folder: int | None = None
    ) -> int: ...

    def close(self, fd: int) -> None: ...

    def pwrite(self, fd: int, octets: bytes | memoryview, offset: int) -> int: ...

    def pread(self, fd: int, count: int, offset: int) -> bytes: ...

    def fsync(self, fd: int) -> None:
        """Of a file or of a directory."""

    def sync_all(self, fd: int) -> None:
        """The whole file system of *fd*; tells of what was lost since *fd* was opened."""

    def tells_of_losses(self, fd: int) -> bool:
        """Whether `sync_all` makes all last there, and an error is never kept back."""

    def drop_pages(self, fd: int) -> None:
        """Forget the cached pages, so that what is read next comes from the disk."""

    def utime(self, fd: int, seconds: float) -> None: ...

    def chgrp(self, fd: int, gid: int) -> None: ...

    def chmod(self, fd: int, mode: int) -> None: ...

    def truncate(self, fd: int, octets: int) -> None: ...

    def fstat(self, fd: int) -> os.stat_result: ...

    def lstat(self, name: str, folder: int) -> os.stat_result: ...

    def listdir(self, fd: int) -> list[str]: ...

    def mkdir(self, name: str, mode: int, folder: int) -> None: ...

    def link(self, name: str, folder: int, to: str, to_folder: int) -> None: ...

    def rename(self, name: str, folder: int, to: str, to_folder: int) -> None:
        """Rename without ever overwriting (renameat2, RENAME_NOREPLACE)."""

    def unlink(self, name: str, folder: int) -> None: ...

    def rmdir(self, name: str, folder: int) -> None: ...

    def flock(self, fd: int, operation: int) -> None: ...

    def lock_file(self, fd: int, kind: int) -> None:
        """
        Lock the whole file as fcntl(2) does (F_RDLCK, F_WRLCK), until *fd* is closed.

        Mail readers heed it; so does another descriptor of ours (it is an "open file
        description" lock). Never waits: BlockingIOError, another has it.
        """

    def geteuid(self) -> int: ...


class RealDisk:
    """
    The machine's own disk.
    """

    def open(
        self, name: str, flags: int, mode: int = 0, folder: int | None = None
    ) -> int:
        return os.open(name, flags | os.O_CLOEXEC, mode, dir_fd=folder)

    def close(self, fd: int) -> None:
        os.close(fd)

    def pwrite(self, fd: int, octets: bytes | memoryview, offset: int) -> int:
        return os.pwrite(fd, octets, offset)

    def pread(self, fd: int, count: int, offset: int) -> bytes:
        return os.pread(fd, count, offset)

    def fsync(self, fd: int) -> None:
        os.fsync(fd)

    def sync_all(self, fd: int) -> None:
        _libc().sync_all(fd)

    def tells_of_losses(self, fd: int) -> bool:
        new = _version(os.uname().release) >= TELLING_SINCE
        return new and _libc().file_system(fd) in TELLING

    def drop_pages(self, fd: int) -> None:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def utime(self, fd: int, seconds: float) -> None:
        os.utime(fd, (seconds, seconds))

    def chgrp(self, fd: int, gid: int) -> None:
        os.fchown(fd, -1, gid)

    def chmod(self, fd: int, mode: int) -> None:
        os.fchmod(fd, mode)

    def truncate(self, fd: int, octets: int) -> None:
        os.ftruncate(fd, octets)

    def fstat(self, fd: int) -> os.stat_result:
        return os.fstat(fd)

    def lstat(self, name: str, folder: int) -> os.stat_result:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)

    def listdir(self, fd: int) -> list[str]:
        return os.listdir(fd)

    def mkdir(self, name: str, mode: int, folder: int) -> None:
        os.mkdir(name, mode, dir_fd=folder)

    def link(self, name: str, folder: int, to: str, to_folder: int) -> None:
        os.link(
            name, to, src_dir_fd=folder, dst_dir_fd=to_folder, follow_symlinks=False
        )

    def rename(self, name: str, folder: int, to: str, to_folder: int) -> None:
        # What Python has would overwrite.
        _libc().rename(folder, name, to_folder, to)

    def unlink(self, name: str, folder: int) -> None:
        os.unlink(name, dir_fd=folder)

    def rmdir(self, name: str, folder: int) -> None:
        os.rmdir(name, dir_fd=folder)

    def flock(self, fd: int, operation: int) -> None:
        fcntl.flock(fd, operation)

    def lock_file(self, fd: int, kind: int) -> None:
        whole = struct.pack(FLOCK, kind, os.SEEK_SET, 0, 0, 0)
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, whole)

    def geteuid(self) -> int:
        return os.geteuid()


def _libc() -> ModuleType:
    return importlib.import_module("popfetchd.archive.libc")


def _version(release: str) -> tuple[int, ...]:
    # "6.1.0-18-amd64": whatever follows the two numbers, distributions disagree on.
    return tuple(int(number) for number in re.findall(r"\d+", release)[:2])
