"""
A folder of spool files, where it is not a maildir's tmp/: `.popfetchd-spool/`.

    BASE                 a spool file, as in a maildir's tmp/
    highest.L{ledger}    the highest number that this ledger gave a message here

Rules of this file:

- It is 0700 whatever the archive is; a spool file has the archive's permissions, as it
  becomes the message where that is a file of its own.
- Several visits may share the folder. Each holds a shared kernel lock on it; only who
  can have it alone sweeps, for the spool files of a visit under way have no row.
- An mbox does not show our numbers, so a side file does: written and fsynced before the
  messages appear. It has two slots and the lower is overwritten, so that a power cut
  leaves the other; a slot that does not say the same twice says nothing.
- `prove` may run in several threads; all else in one at a time.
"""

from __future__ import annotations

import fcntl
import os
import re

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from popfetchd.archive import names
from popfetchd.archive.disk import Disk
from popfetchd.archive.durable import (
    FILE_MODE,
    Folder,
    NewFile,
    closing,
    digest,
    let_go,
    look,
    opened,
    step,
    sync_folder,
    write_all,
)
from popfetchd.archive.folders import reach, sync_above
from popfetchd.archive.proving import Prover
from popfetchd.errors import ArchiveError, NotProved
from popfetchd.values import PRIVATE, ContentDigest, LedgerId, Permissions


NAME = ".popfetchd-spool"
"""Hidden, so that it is no mailbox to a reader that lists the folder."""

SLOTS = (0, 4096)
"""Where in the side file: in two blocks of any disk."""

NUMBER = re.compile(rb"(\d{18}) (\d{18})\n")
"""What a slot holds; a base has no longer number (names.py)."""

SIDE_FILE = re.compile(r"highest\.L([0-9a-f]{12})")
"""The name of a side file; its group 1 is the ledger's id."""


class SpoolFolder:
    """
    The spool folder at *path* (absolute). *ledger* and *host* are in its files' names;
    *now* gives seconds since 1970; *permissions* are the archive's.
    """

    def __init__(
        self,
        path: Path,
        ledger: LedgerId,
        *,
        host: str,
        now: Callable[[], float],
        disk: Disk,
        permissions: Permissions = PRIVATE,
    ) -> None:
        self.path = path
        self.ledger = ledger
        self._ours = names.ours(ledger)
        self._side = f"highest.L{ledger}"
        self._host = host
        self._now = now
        self._prover = Prover(disk, now)
        self._disk = disk
        self._permissions = permissions
        self._anchored = False
        self._above: Folder | None = None
        self._folder: Folder | None = None
        self._held = ExitStack()

    def elsewhere(self, path: Path) -> SpoolFolder:
        """
        Return the spool folder of the same ledger at *path*, not open yet.
        """
        return SpoolFolder(
            path,
            self.ledger,
            host=self._host,
            now=self._now,
            disk=self._disk,
            permissions=self._permissions,
        )

    # -- open and close ---------------------------------------------------------------

    def open(self) -> None:
        """
        Reach the folder, making it where it is missing (0700).
        """
        with ExitStack() as reached:
            above, passing = reach(self._disk, self.path, self._permissions, PRIVATE)
            for folder in (above, passing):
                reached.callback(let_go, self._disk, folder.fd)
            with step("open", passing):
                flags = os.O_RDONLY | os.O_DIRECTORY
                here = Folder(self._disk.open(".", flags, 0, passing.fd), self.path)
            reached.callback(let_go, self._disk, here.fd)
            share(self._disk, here)
            self._above, self._folder = above, here
            self._held = reached.pop_all()

    def close(self) -> None:
        """
        Let go of the folder. Never raises; may be called again.
        """
        self._above = self._folder = None
        self._held.close()

    @property
    def folder(self) -> Folder:
        """
        The open folder; ArchiveError when it is not open.
        """
        if self._folder is None:
            raise ArchiveError("open", self.path, "the spool folder is not open")
        return self._folder

    # -- spool files ------------------------------------------------------------------

    def new_file(self, number: int) -> tuple[str, NewFile]:
        """
        Open a new spool file; return its base with it.
        """
        base = names.new_base(self._now(), self.ledger, number, self._host)
        return base, NewFile(self._disk, self.folder, base, self._permissions)

    def prove(self, files: Mapping[str, ContentDigest]) -> None:
        """
        Make the files durable and compare what the disk returns; see proving.py.
        """
        self._prover.prove(self.folder, files)

    def has(self, base: str, content: ContentDigest) -> bool:
        """
        Tell whether the file is there, and whole.
        """
        try:
            return digest(self._disk, self.folder, base) == content
        except ArchiveError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return False
            raise

    def sync(self) -> None:
        """
        Make the files' names last; once also the folder's, which we may have made.
        """
        sync_folder(self._disk, self.folder)
        if self._above is not None and not self._anchored:
            sync_above(self._disk, self._above, self.folder)
            self._anchored = True

    def discard(self, base: str) -> None:
        """
        Unlink the file, if it is there.
        """
        unlink(self._disk, self.folder, base)

    def is_mark(self, base: str) -> bool:
        """
        Tell whether the file *base* is no message's, but a lock's.
        """
        ours = self._ours.match(base)
        return ours is not None and int(ours[1]) == 0

    def has_any(self, bases: Collection[str]) -> bool:
        """
        Tell whether a file of any of *bases* is here.
        """
        return any(look(self._disk, self.folder, base) for base in bases)

    def sweep(self, open_bases: Collection[str], is_over: Callable[[str], bool]) -> int:
        """
        Unlink our files that no open row bears, as *is_over* says; 0 while another
        visit is at work.
        """
        return sweep(self._disk, self.folder, self._ours, open_bases, is_over)

    # -- the highest number -----------------------------------------------------------

    def highest(self) -> int:
        """
        Return the highest number written down here; 0 before the first.
        """
        with self._side_file() as fd:
            return max(self._slots(fd))

    def raise_to(self, bases: Collection[str]) -> None:
        """
        Write down, durably, the highest number in *bases*, if none was higher.
        """
        found = (self._ours.match(base) for base in bases)
        number = max((int(name[1]) for name in found if name), default=0)
        if not number:
            return
        with self._side_file() as fd:
            slots = self._slots(fd)
            if number <= max(slots):
                return
            lower = SLOTS[slots.index(min(slots))]
            with step("write", self.folder, self._side):
                octets = b"%018d %018d\n" % (number, number)
                write_all(self._disk, fd, octets, lower)
            with step("fsync", self.folder, self._side):
                self._disk.fsync(fd)
            if max(self._slots(fd)) != number:
                path = self.folder / self._side
                raise NotProved("read back", path, "other octets than written")

    @contextmanager
    def _side_file(self) -> Iterator[int]:
        # One visit at a time, since two could take the same slot.
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
        with step("open", self.folder, self._side):
            fd = self._disk.open(self._side, flags, FILE_MODE, self.folder.fd)
        with closing(self._disk, fd, self.folder, self._side):
            with step("lock", self.folder, self._side):
                self._disk.flock(fd, fcntl.LOCK_EX)
            yield fd

    def _slots(self, fd: int) -> list[int]:
        with step("read", self.folder, self._side):
            return _slots(self._disk, fd)


def highest_in(disk: Disk, folder: Folder, name: str) -> int:
    """
    Return the highest number that the side file *name* in *folder* tells.
    """
    with opened(disk, folder, name) as fd, step("read", folder, name):
        return max(_slots(disk, fd))


def _slots(disk: Disk, fd: int) -> list[int]:
    # What a failed fsync has left in the cache is not on the disk.
    disk.drop_pages(fd)
    found = [NUMBER.match(disk.pread(fd, 38, slot)) for slot in SLOTS]
    return [int(f[1]) if f and f[1] == f[2] else 0 for f in found]


# -- shared with the maildir's tmp/ ---------------------------------------------------


def share(disk: Disk, folder: Folder) -> None:
    """
    Hold *folder* as one of several visits, until its descriptor is closed.

    It is waited for: who has it alone sweeps, and that is short.
    """
    _lock(disk, folder, fcntl.LOCK_SH)


def sweep(
    disk: Disk,
    folder: Folder,
    ours: re.Pattern[str],
    open_bases: Collection[str],
    is_over: Callable[[str], bool] = lambda _base: True,
) -> int:
    """
    Unlink the files in *folder* whose names are *ours* and whose base no open row bears,
    if *is_over* says so.

    Returns how many; 0 while another visit shares the folder.
    """
    if not _lock(disk, folder, fcntl.LOCK_EX | fcntl.LOCK_NB):
        share(disk, folder)  # the failed try has dropped it
        return 0
    try:
        with step("list", folder):
            found = disk.listdir(folder.fd)
        orphans = [
            name
            for name in found
            if ours.match(name)
            and names.base_of(name) not in open_bases
            and is_over(name)
        ]
        for name in orphans:
            unlink(disk, folder, name)
    finally:
        share(disk, folder)
    return len(orphans)


def unlink(disk: Disk, folder: Folder, name: str) -> None:
    """
    Unlink file *name*, if it is there.
    """
    with step("unlink", folder, name), suppress(FileNotFoundError):
        disk.unlink(name, folder.fd)


def _lock(disk: Disk, folder: Folder, operation: int) -> bool:
    # Where there are no locks nobody gets one alone either, and nobody sweeps.
    try:
        disk.flock(folder.fd, operation)
    except OSError:
        return False
    return True
