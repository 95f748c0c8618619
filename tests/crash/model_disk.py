"""
A disk in memory that keeps what a real one promises, and not a bit more.

Rules of this file:

- It is a `Disk` (popfetchd/archive/disk.py). What is read is what was written last, as
  the page cache shows it; what a power cut leaves is what was fsynced, and of
  everything else any part: see `cut`.
- A file: fsync makes its octets and its time last, not its name. Of octets that were
  not fsynced any page may survive; the others are as before, or zero.
- A directory: fsync makes its names last, not the files behind them. Each change of a
  name that was not fsynced survives or not, whatever came before or after it.
- A rename by another program is one change: either name stands after a cut, never
  both, never none (what every journaling file system keeps). Ours, where there are no
  links, is two changes, since such file systems (FAT) have no journal.
- An fsync of a file that fails has lost its pages and takes them for clean: it will not
  fail twice (Linux). One of a directory that fails leaves the names to be fsynced
  again: names go through the journal, and a file system whose journal fails takes no
  more writes.
- A syncfs is an fsync of everything. When it fails, all that was dirty is lost.
- `drop_pages` is advice. A *deaf* disk ignores it; then a device that lies about its
  fsync cannot be found out by anybody, and does not lie here.
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import stat

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.crash.model_fate import FAILURES, Deed, Fate


PAGE = 32
"""Octets of a page: a small letter has several, and each may be lost alone."""

LONGEST_WRITE = 100
"""Octets that one pwrite takes: all writers have to go on after a short write."""

UID = 1000
"""Whose everything is: not root's, who refuses more."""


@dataclass(eq=False)
class File:
    """
    What is read of it, and what a cut leaves at least.
    """

    number: int
    octets: bytes = b""
    time: float = 0.0
    durable: bytes = b""
    durable_time: float = 0.0
    dirty: bool = False

    def write(self, octets: bytes, offset: int) -> None:
        gap = bytes(max(0, offset - len(self.octets)))
        head, tail = self.octets[:offset], self.octets[offset + len(octets) :]
        self.octets = head + gap + octets + tail
        self.dirty = True

    def sync(self) -> None:
        if self.dirty:
            self.durable, self.durable_time = self.octets, self.time
            self.dirty = False

    def forget(self) -> None:
        """
        Let go of clean pages: what is read next is what the disk has.
        """
        if not self.dirty:
            self.octets, self.time = self.durable, self.durable_time

    def survive(self, survives: Callable[[], bool]) -> None:
        """
        Become what a cut leaves: the durable octets, and any of the other pages.
        """
        if self.dirty:
            size = len(self.octets if survives() else self.durable)
            pages = range(0, size, PAGE)
            found = b"".join(
                (self.octets if survives() else self.durable)[page : page + PAGE].ljust(
                    PAGE, b"\0"
                )
                for page in pages
            )
            self.durable, self.dirty = found[:size], False
        self.forget()


@dataclass(eq=False)
class Directory:
    """
    The names in it, and those that stood at the last cut.
    """

    number: int
    names: dict[str, Inode] = field(default_factory=dict)
    durable: dict[str, Inode] = field(default_factory=dict)


Inode = File | Directory


@dataclass(eq=False)
class Change:
    """
    Names that change together; None: the name goes. *lasts* once it is fsynced.

    *needs*: where it moves an inode from; where that is not, there is nothing to move.
    """

    edits: tuple[tuple[Directory, str, Inode | None], ...]
    needs: tuple[Directory, str, Inode] | None = None
    lasts: bool = False

    def touches(self, directory: Directory) -> bool:
        return any(edited is directory for edited, _, _ in self.edits)

    @property
    def can_be(self) -> bool:
        if self.needs is None:
            return True
        directory, name, inode = self.needs
        return directory.names.get(name) is inode

    def make(self) -> None:
        for directory, name, inode in self.edits:
            if inode is None:
                directory.names.pop(name, None)
            else:
                directory.names[name] = inode


@dataclass(frozen=True)
class Opened:
    """
    What a descriptor stands for.
    """

    inode: Inode
    flags: int


class ModelDisk:
    """
    *links*: whether there are hard links. *deaf*: whether `drop_pages` does nothing.
    """

    def __init__(self, *, links: bool = True, deaf: bool = False) -> None:
        self.fate = Fate(())
        self._links = links
        self._deaf = deaf
        self._numbers = itertools.count(2)
        self._root = Directory(next(self._numbers))
        self._changes: list[Change] = []
        self._opened: dict[int, Opened] = {}
        self._locks: dict[int, tuple[Inode, int]] = {}
        self._descriptors = itertools.count(3)

    # -- what may become of it --------------------------------------------------------

    def kill(self) -> None:
        """
        The process that had files open is gone; the disk is as it was.
        """
        self._opened.clear()
        self._locks.clear()

    def cut(self, survives: Callable[[], bool]) -> None:
        """
        Be cut off. *survives* is asked of each thing that was not fsynced, in the order
        in which the names changed, then of the files.
        """
        self.kill()
        for directory in self._directories():
            directory.names = dict(directory.durable)
        for change in self._changes:
            if change.lasts or (survives() and change.can_be):
                change.make()
        self._changes.clear()
        for directory in self._directories():
            directory.durable = dict(directory.names)
            for inode in directory.names.values():
                if isinstance(inode, File):
                    inode.survive(survives)

    def _directories(self) -> list[Directory]:
        # Also those that hang on a change which was not fsynced.
        found = {id(self._root): self._root}
        waiting = [self._root]
        for change in self._changes:
            waiting += [i for _, _, i in change.edits if isinstance(i, Directory)]
        while waiting:
            directory = waiting.pop()
            found[id(directory)] = directory
            below = [*directory.names.values(), *directory.durable.values()]
            waiting += [
                i for i in below if isinstance(i, Directory) and id(i) not in found
            ]
        return list(found.values())

    # -- other programs ---------------------------------------------------------------

    def folder(self, path: str, *, make: bool = False) -> Directory | None:
        """
        Return the directory at *path*; None where there is none, unless it is to be made
        (and to last).
        """
        here = self._root
        for part in path.strip("/").split("/"):
            below = here.names.get(part)
            if below is None and make:
                below = Directory(next(self._numbers))
                self._change((here, part, below))
                self._changes[-1].lasts = True
            if not isinstance(below, Directory):
                return None
            here = below
        return here

    def move(self, source: Directory, name: str, target: Directory, to: str) -> None:
        """
        Rename as one change.
        """
        inode = source.names[name]
        self._change((source, name, None), (target, to, inode))
        self._changes[-1].needs = (source, name, inode)

    def remove(self, folder: Directory, name: str) -> None:
        """
        Unlink.
        """
        self._change((folder, name, None))

    def put(self, folder: Directory, name: str, octets: bytes) -> File:
        """
        Make a durable file.
        """
        file = File(next(self._numbers), octets, durable=octets)
        self._change((folder, name, file))
        self._changes[-1].lasts = True
        return file

    def files(self) -> Iterator[tuple[str, str, File]]:
        """
        Return all files, each with the name of its folder and its own.
        """
        waiting = [("", self._root)]
        while waiting:
            folder, directory = waiting.pop()
            for name, inode in directory.names.items():
                if isinstance(inode, Directory):
                    waiting.append((name, inode))
                else:
                    yield folder, name, inode

    # -- the system calls -------------------------------------------------------------

    def open(
        self, name: str, flags: int, mode: int = 0, folder: int | None = None
    ) -> int:
        if flags & os.O_CREAT:
            inode = self._create(name, flags, folder)
        else:
            with self._call("open"):
                inode = self._found(name, folder)
        if flags & os.O_DIRECTORY and not isinstance(inode, Directory):
            raise failure(errno.ENOTDIR)
        fd = next(self._descriptors)
        self._opened[fd] = Opened(inode, flags)
        return fd

    def _create(self, name: str, flags: int, folder: int | None) -> Inode:
        with self._call("create"):
            directory = self._directory(folder)
            if name in directory.names:
                if flags & os.O_EXCL:
                    raise failure(errno.EEXIST)
                return directory.names[name]
            file = File(next(self._numbers))
            self._change((directory, name, file))
            return file

    def _found(self, name: str, folder: int | None) -> Inode:
        if folder is None:
            assert name == "/", "relative paths are not for us"
            return self._root
        directory = self._directory(folder)
        if name == ".":
            return directory
        if name not in directory.names:
            raise failure(errno.ENOENT)
        return directory.names[name]

    def close(self, fd: int) -> None:
        with self._call("close"):
            if fd not in self._opened:
                raise failure(errno.EBADF)
            del self._opened[fd]
            self._locks.pop(fd, None)

    def pwrite(self, fd: int, octets: bytes | memoryview, offset: int) -> int:
        with self._call("pwrite"):
            some = bytes(octets[:LONGEST_WRITE])
            self._file(fd).write(some, offset)
        return len(some)

    def pread(self, fd: int, count: int, offset: int) -> bytes:
        with self._call("pread"):
            return self._file(fd).octets[offset : offset + count]

    def fsync(self, fd: int) -> None:
        opened = self._of(fd)
        if opened.flags & os.O_PATH:
            raise failure(errno.EBADF)
        if isinstance(opened.inode, Directory):
            self._sync_names(opened.inode)
        else:
            self._sync_octets(opened.inode)

    def _sync_names(self, directory: Directory) -> None:
        with self._call("fsync folder"):
            for change in self._changes:
                change.lasts |= change.touches(directory)

    def _sync_octets(self, file: File) -> None:
        deed = self.fate.meet("fsync file")
        if deed in FAILURES or (deed is Deed.LIE and not self._deaf):
            file.dirty = False  # whatever was dirty is lost, and counts as written
        else:
            file.sync()
        if deed in FAILURES:
            raise failure(getattr(errno, deed.name))
        self.fate.meet("fsync file done")

    def sync_all(self, fd: int) -> None:
        self._of(fd)
        deed = self.fate.meet("syncfs")
        lost = deed in FAILURES or (deed is Deed.LIE and not self._deaf)
        for _, _, file in self.files():
            if lost:
                file.dirty = False
            else:
                file.sync()
        if deed in FAILURES:
            raise failure(getattr(errno, deed.name))
        for change in self._changes:
            change.lasts = True
        self.fate.meet("syncfs done")

    def tells_of_losses(self, fd: int) -> bool:
        # What has no links (FAT) has no journal either.
        self._of(fd)
        return self._links

    def drop_pages(self, fd: int) -> None:
        with self._call("drop_pages"):
            if not self._deaf:
                self._file(fd).forget()

    def utime(self, fd: int, seconds: float) -> None:
        with self._call("utime"):
            file = self._file(fd)
            file.time, file.dirty = seconds, True

    def fstat(self, fd: int) -> os.stat_result:
        with self._call("fstat"):
            return self._stat(self._of(fd).inode)

    def lstat(self, name: str, folder: int) -> os.stat_result:
        with self._call("lstat"):
            return self._stat(self._found(name, folder))

    def _stat(self, inode: Inode) -> os.stat_result:
        if isinstance(inode, Directory):
            kind, size, time, links = stat.S_IFDIR | 0o700, 0, 0.0, 2
        else:
            kind, size, time = stat.S_IFREG | 0o600, len(inode.octets), inode.time
            links = sum(file is inode for _, _, file in self.files())
        return os.stat_result(
            (kind, inode.number, 1, links, UID, UID, size, time, time, time)
        )

    def listdir(self, fd: int) -> list[str]:
        # What is renamed while a folder is read may be missed under either name.
        opened = self._of(fd)
        if opened.flags & os.O_PATH or not isinstance(opened.inode, Directory):
            raise failure(errno.EBADF)
        names = list(opened.inode.names)
        with self._call("listdir"):
            return [name for name in names if name in opened.inode.names]

    def mkdir(self, name: str, mode: int, folder: int) -> None:
        with self._call("mkdir"):
            directory = self._directory(folder)
            if name in directory.names:
                raise failure(errno.EEXIST)
            self._change((directory, name, Directory(next(self._numbers))))

    def link(self, name: str, folder: int, to: str, to_folder: int) -> None:
        with self._call("link"):
            if not self._links:
                raise failure(errno.EPERM)
            inode, target = self._movable(name, folder, to, to_folder)
            self._change((target, to, inode))

    def rename(self, name: str, folder: int, to: str, to_folder: int) -> None:
        with self._call("rename"):
            inode, target = self._movable(name, folder, to, to_folder)
            self._change((target, to, inode))
            self._change((self._directory(folder), name, None))

    def _movable(
        self, name: str, folder: int, to: str, to_folder: int
    ) -> tuple[Inode, Directory]:
        target = self._directory(to_folder)
        inode = self._found(name, folder)
        if to in target.names:
            raise failure(errno.EEXIST)
        return inode, target

    def unlink(self, name: str, folder: int) -> None:
        with self._call("unlink"):
            directory = self._directory(folder)
            if name not in directory.names:
                raise failure(errno.ENOENT)
            self._change((directory, name, None))

    def flock(self, fd: int, operation: int) -> None:
        with self._call("flock"):
            inode, wanted = self._of(fd).inode, operation & ~fcntl.LOCK_NB
            others = [
                held
                for holder, (locked, held) in self._locks.items()
                if locked is inode and holder != fd
            ]
            self._locks.pop(fd, None)  # a try that fails has dropped what was held
            if fcntl.LOCK_EX in others or (others and wanted == fcntl.LOCK_EX):
                raise failure(errno.EWOULDBLOCK)
            self._locks[fd] = (inode, wanted)

    def geteuid(self) -> int:
        return UID

    # -- within -----------------------------------------------------------------------

    @contextmanager
    def _call(self, moment: str) -> Iterator[None]:
        # A call that fails has done nothing.
        deed = self.fate.meet(moment)
        if deed in FAILURES:
            raise failure(getattr(errno, deed.name))
        yield
        self.fate.meet(f"{moment} done")

    def _change(self, *edits: tuple[Directory, str, Inode | None]) -> None:
        self._changes.append(Change(edits))
        self._changes[-1].make()

    def _of(self, fd: int | None) -> Opened:
        if fd not in self._opened:
            raise failure(errno.EBADF)
        return self._opened[fd]

    def _file(self, fd: int) -> File:
        inode = self._of(fd).inode
        if not isinstance(inode, File):
            raise failure(errno.EISDIR)
        return inode

    def _directory(self, fd: int | None) -> Directory:
        inode = self._of(fd).inode
        if not isinstance(inode, Directory):
            raise failure(errno.ENOTDIR)
        return inode


def failure(number: int) -> OSError:
    """
    Return the error that the kernel gives.
    """
    return OSError(number, os.strerror(number))
