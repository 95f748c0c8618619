"""
An mbox: many messages, one file, in the variant mboxrd (mboxrd.py).

    .popfetchd-spool/BASE    the spool file, in a folder beside the mbox
    support.mbox             published: appended, behind what is there
    support.mbox.lock        while somebody writes into it (locking.py)

Rules of this file:

- The order is the promise (docs/adr/0006): prove, lock, settle what *anybody* left open
  in this file, (the ledger records where each message will stand), append, fsync, drop
  the cache and read back, (the ledger commits), unlock, discard.
- What readers and delivery agents do between two visits is theirs: they delete, flag and
  write the whole file anew. So a message is looked for where it was put, then anywhere.
- Cut off is only what is ours and not whole, at the file's very end, and only if its
  spool files are there to put it back. In any other case nothing is touched and the
  message is appended anew.
- Not for NFS: its locks and its caches keep none of this.
"""

from __future__ import annotations

import time

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from popfetchd.archive.disk import Disk, RealDisk
from popfetchd.archive.durable import (
    Folder,
    let_go,
    step,
)
from popfetchd.archive.entries import entry, measured
from popfetchd.archive.folders import reach, sync_above, sync_names
from popfetchd.archive.locking import MboxLock, sweep
from popfetchd.archive.mboxfile import MboxFile
from popfetchd.archive.spool import SpoolFile
from popfetchd.archive.spooling import NAME, SpoolFolder
from popfetchd.archive.tail import Tail
from popfetchd.errors import ArchiveError, UnsafeArchive
from popfetchd.values import (
    PRIVATE,
    ArchiveFormat,
    Condition,
    ContentDigest,
    Copy,
    Extent,
    Fingerprint,
    LedgerId,
    LeftOpen,
    Listed,
    Permissions,
    Published,
    Recorded,
    Spooled,
    Verified,
)


class Mbox:
    """
    The mbox at *directory* (an absolute path; of a file), as an `Archive`.

    *ledger*, *host*, *now*, *permissions*: as for a `Maildir`. *spool*: the folder of its spool files,
    else one beside it. *pause* waits so many seconds for other programs' locks.
    """

    def __init__(
        self,
        directory: Path,
        ledger: LedgerId,
        *,
        host: str,
        now: Callable[[], float],
        disk: Disk | None = None,
        spool: Path | None = None,
        pause: Callable[[float], None] = time.sleep,
        permissions: Permissions = PRIVATE,
    ) -> None:
        self.directory = directory
        self._disk = disk or RealDisk()
        self._now = now
        self._pause = pause
        self._permissions = permissions
        self._spool = SpoolFolder(
            spool or directory.parent / NAME,
            ledger,
            host=host,
            now=now,
            disk=self._disk,
            permissions=permissions,
        )
        self._opened_at = 0.0
        self._anchored = False
        self._above: Folder | None = None
        self._folder: Folder | None = None
        self._held = ExitStack()
        self._others: dict[Path, SpoolFolder] = {}
        self._tail: Tail | None = None
        self._index: tuple[object, Counter[ContentDigest]] = (None, Counter())

    # -- open and close ---------------------------------------------------------------

    def open(self) -> None:
        """
        Reach the folder of the mbox, and that of its spool files (0700 if made).

        UnsafeArchive where root must not write, where they are on two devices, and
        where something else than a file bears the mbox's name.
        """
        self._opened_at = self._now()
        with ExitStack() as reached:
            above, here = reach(self._disk, self.directory.parent, self._permissions)
            for folder in (above, here):
                reached.callback(let_go, self._disk, folder.fd)
            self._spool.open()
            reached.callback(self._spool.close)
            self._check_device(here)
            self._above, self._folder = above, here
            self._held = reached.pop_all()

    def close(self) -> None:
        """
        Let go of the mbox. Never raises; may be called again.
        """
        self._above = self._folder = None
        self._others.clear()
        self._held.close()

    def _check_device(self, here: Folder) -> None:
        devices = set()
        for folder in (here, self._spool.folder):
            with step("stat", folder):
                devices.add(self._disk.fstat(folder.fd).st_dev)
        if len(devices) > 1:
            raise UnsafeArchive(
                self.directory,
                f"{self._spool.path} is on another device",
                "put the mbox and the folder of its spool files on one file system",
            )

    @property
    def _here(self) -> Folder:
        if self._folder is None:
            raise ArchiveError("open", self.directory, "the mbox is not open")
        return self._folder

    def _mine(self, copy: Copy) -> Copy:
        self._check_mine(copy.directory)
        return copy

    def _check_mine(self, directory: Path) -> None:
        if directory != self.directory:
            raise UnsafeArchive(
                self.directory,
                f"the copy belongs in {directory}",
                "please report this: it is a fault of popfetchd",
            )

    # -- spool files ------------------------------------------------------------------

    def spool(self, listed: Listed, number: int) -> SpoolFile:
        """
        Open a spool file for *listed*.
        """
        base, file = self._spool.new_file(number)

        def evidence(fingerprint: Fingerprint) -> Spooled:
            path = self._spool.path
            copy = Copy(ArchiveFormat.MBOX, self.directory, base, base, path)
            return Spooled(listed, number, copy, fingerprint)

        return SpoolFile(file, evidence, visit_started=self._opened_at)

    def prove(self, batch: Sequence[Spooled]) -> list[Verified]:
        """
        Make the spool files durable and compare what the disk returns; once for each.

        Now it is also known how much room their messages take in the mbox.
        """
        contents = {self._mine(s.copy).base: s.fingerprint.content for s in batch}
        self._spool.prove(contents)
        return [sized(spooled, self._extent(spooled.copy)) for spooled in batch]

    def _extent(self, copy: Copy) -> Extent:
        return measured(self._disk, self._spool.folder, copy.base)

    def _entry(self, copy: Copy) -> Iterator[bytes]:
        return entry(self._disk, self._spool_of(copy).folder, copy.base)

    def _spool_of(self, copy: Copy) -> SpoolFolder:
        # A row may come from another configuration, whose spool folder was another.
        if copy.spool is None or copy.spool == self._spool.path:
            return self._spool
        if copy.spool not in self._others:
            other = self._spool.elsewhere(copy.spool)
            other.open()
            self._held.callback(other.close)
            self._others[copy.spool] = other
        return self._others[copy.spool]

    def _is_spooled(self, recorded: Recorded) -> bool:
        spool = self._spool_of(recorded.copy)
        return spool.has(recorded.copy.base, recorded.content)

    def discard(self, copy: Copy) -> None:
        """
        Unlink the spool file of *copy*: it was published, or is not wanted.
        """
        self._spool_of(self._mine(copy)).discard(copy.base)

    def sweep(self, open_bases: Collection[str]) -> int:
        """
        Unlink our spool files that no open row bears; 0 while another visit is at work.
        """
        return sweep(self._disk, self._spool, open_bases)

    def highest_number(self) -> int:
        """
        Return the highest number of our ledger that was ever published from here.
        """
        return self._spool.highest()

    def stamp(self) -> str:
        """
        Return none: to ask for the highest number costs no more.
        """
        return ""

    # -- within its locks -------------------------------------------------------------

    @contextmanager
    def publishing(
        self, directory: Path, left_open: Callable[[Path], LeftOpen]
    ) -> Iterator[Sequence[Recorded]]:
        """
        Lock the mbox; give the rows that anybody left open in it.

        ArchiveLocked when other programs hold it for too long.
        """
        self._check_mine(directory)
        lock = self._lock()
        with lock.held() as fd:
            file = MboxFile(self._disk, self._here, self.directory.name, fd)
            tail = Tail(file, self.directory, self._entry, self._is_spooled)
            try:
                yield self._recovered(tail, left_open(directory))
            finally:
                self._tail = None
                lock.keep = tail.torn

    def _recovered(self, tail: Tail, left: LeftOpen) -> Sequence[Recorded]:
        # A row without an extent is a maildir's that once stood here.
        rows = [row for row in left.rows if row.copy.extent is not None]
        tail.recover(LeftOpen(rows, left.claimed))
        if rows:
            self._anchor()
        self._tail = tail
        return rows

    def _lock(self) -> MboxLock:
        name = self.directory.name
        return MboxLock(
            self._disk,
            self._here,
            name,
            self._spool,
            self._pause,
            permissions=self._permissions,
        )

    @property
    def _locked(self) -> Tail:
        if self._tail is None:
            raise ArchiveError("append", self.directory, "the mbox is not locked")
        return self._tail

    def settle(self, recorded: Recorded) -> Published | Recorded | None:
        """
        Tell what became of an open row: see Archive.settle.
        """
        self._mine(recorded.copy)
        return self._locked.settle(recorded)

    def fragments(self) -> int:
        """
        Return how many of the messages settled stand half in the mbox for good.
        """
        return self._locked.fragments

    def place(self, copies: Sequence[Copy]) -> list[Copy]:
        """
        Tell where *copies* will stand: behind what is there, one behind the other.
        """
        places = self._locked.place(copies)
        return [_at(copy, where) for copy, where in zip(copies, places, strict=True)]

    def publish(self, batch: Sequence[Recorded]) -> list[Published]:
        """
        Append the batch where the ledger says, make it last, and read it back.
        """
        if not batch:
            return []
        copies = [self._mine(recorded.copy) for recorded in batch]
        # First, so that what a crash leaves at the end can be told to be ours.
        for spool in dict.fromkeys(map(self._spool_of, copies)):
            spool.raise_to([copy.base for copy in copies])
            spool.sync()
        self._anchor()
        return self._locked.publish(batch)

    def _anchor(self) -> None:
        # The mbox's name, each time: a reader may just have renamed it here. And that of
        # the dot lock: what a power cut leaves of an append is not for readers.
        sync_names(self._disk, self._here)
        if not self._anchored and self._above is not None:
            sync_above(self._disk, self._above, self._here)
            self._anchored = True

    # -- looking at it again ----------------------------------------------------------

    def check(self, copy: Copy, content: ContentDigest) -> Condition:
        """
        Tell how *copy* is found now, wherever a reader who wrote the mbox anew put it.
        """
        self._mine(copy)
        with self._lock().reading() as fd:
            if fd is None or copy.extent is None:
                return Condition.MISSING
            file = MboxFile(self._disk, self._here, self.directory.name, fd)
            if file.holds(copy.extent, content):
                return Condition.WHOLE
            if self._digests(file)[copy.extent.bare]:
                return Condition.MOVED
            return file.remains(copy.extent)

    def _digests(self, file: MboxFile) -> Counter[ContentDigest]:
        # To read the whole file takes long: once, as long as it stays as it is.
        found = file.stat()
        stamp = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
        if stamp != self._index[0]:
            self._index = (stamp, file.bare_digests())
        return self._index[1]


def sized(spooled: Spooled, extent: Extent) -> Verified:
    """
    Return that *spooled* was proved, and what room it takes.
    """
    copy = _at(spooled.copy, extent)
    return Verified(Spooled(spooled.listed, spooled.number, copy, spooled.fingerprint))


def _at(copy: Copy, extent: Extent) -> Copy:
    return Copy(copy.format, copy.directory, copy.base, copy.name, copy.spool, extent)
