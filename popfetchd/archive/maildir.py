"""
A maildir: one message, one file (https://cr.yp.to/proto/maildir.html).

    tmp/BASE            the spool file
    new/BASE,S=123      published; until the spool file is unlinked both are one file
    cur/BASE,S=123:2,S  a mail reader took it

Rules of this file:

- The order is the promise (docs/adr/0002): prove, (the ledger records), publish, (the
  ledger commits), discard. Each step is durable before the next begins.
- `tmp`, `new` and `cur` are held open: whatever their paths come to mean, these are
  meant. They are on one device, or a link between them could not be atomic.
- Only our own files are ever touched, and only in `tmp/`. What is in `new/` and `cur/`
  belongs to the reader: it may flag, number, move or delete it at any instant.
- Several visits may share one maildir. Each holds a shared kernel lock on `tmp/`; only
  who can have it alone sweeps, for the spool files of a visit under way have no row.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain
from pathlib import Path

from popfetchd.archive import names
from popfetchd.archive.disk import Disk, RealDisk
from popfetchd.archive.durable import (
    Folder,
    NewFile,
    digest,
    let_go,
    look,
    publish,
    step,
    sync_folder,
    sync_found,
)
from popfetchd.archive.finding import Finder, Way
from popfetchd.archive.folders import reach, reach_within, sync_above, sync_names
from popfetchd.archive.proving import Prover
from popfetchd.archive.spool import SpoolFile
from popfetchd.archive.spooling import SpoolFolder, share, sweep, unlink
from popfetchd.errors import ArchiveError, UnsafeArchive
from popfetchd.values import (
    PRIVATE,
    ArchiveFormat,
    Condition,
    ContentDigest,
    Copy,
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


COARSEST = 3.0
"""Seconds after which a change bears another time than the one before it: there are file
systems that count in steps of two, and servers of files whose clock is not ours."""

LOOKS = 2
"""A reader that renames a file while its folder is read can hide it from one look."""


@dataclass(frozen=True, slots=True)
class Place:
    """
    The open folders of a maildir.
    """

    above: Folder
    here: Folder
    tmp: Folder
    new: Folder
    cur: Folder


class Maildir:
    """
    The maildir at *directory* (an absolute path), as an `Archive`.

    *ledger* names the ledger whose numbers its files bear, *host* this machine; *now*
    gives seconds since 1970. *spool*: a folder that takes the place of tmp/ (dated.py).
    *permissions* are given to what is made.
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
        permissions: Permissions = PRIVATE,
    ) -> None:
        self.directory = directory
        self._ledger = ledger
        self._ours = names.ours(ledger)
        self._host = host
        self._now = now
        self._disk = disk or RealDisk()
        self._permissions = permissions
        self._opened_at = 0.0
        self._anchored = False
        self._place: Place | None = None
        self._prover = Prover(self._disk, now)
        self._held = ExitStack()
        self._finder: Finder | None = None
        self._spool: SpoolFolder | None = None
        if spool is not None:
            self._spool = SpoolFolder(
                spool,
                ledger,
                host=host,
                now=now,
                disk=self._disk,
                permissions=permissions,
            )

    # -- open and close ---------------------------------------------------------------

    def open(self) -> None:
        """
        Reach the maildir, making what is missing.

        UnsafeArchive where tmp, new or cur lead elsewhere, and where root must not write.
        """
        self._opened_at = self._now()
        with ExitStack() as reached:
            above, here = reach(self._disk, self.directory, self._permissions)
            self._hold(reached, above, here)
            subfolders = []
            for name in ("tmp", "new", "cur"):
                subfolders.append(
                    reach_within(self._disk, here, name, self._permissions)
                )
                self._hold(reached, subfolders[-1])
            if self._spool is not None:
                self._spool.open()
                reached.callback(self._spool.close)
                subfolders[0] = self._spool.folder
            self._check_devices(subfolders)
            share(self._disk, subfolders[0])
            self._place = Place(above, here, *subfolders)
            self._held = reached.pop_all()

    def close(self) -> None:
        """
        Let go of the maildir. Never raises; may be called again.
        """
        self._place = self._finder = None
        self._held.close()

    def _hold(self, stack: ExitStack, *folders: Folder) -> None:
        for folder in folders:
            stack.callback(let_go, self._disk, folder.fd)

    def _check_devices(self, folders: Iterable[Folder]) -> None:
        devices = set()
        for folder in folders:
            with step("stat", folder):
                devices.add(self._disk.fstat(folder.fd).st_dev)
        if len(devices) > 1:
            raise UnsafeArchive(
                self.directory,
                "tmp (or the spool folder), new and cur are on different devices",
                "put the whole maildir on one file system",
            )

    @property
    def _at(self) -> Place:
        if self._place is None:
            raise ArchiveError("open", self.directory, "the maildir is not open")
        return self._place

    # -- a message's way --------------------------------------------------------------

    def spool(self, listed: Listed, number: int) -> SpoolFile:
        """
        Open a spool file for *listed* in tmp/.
        """
        base = names.new_base(self._now(), self._ledger, number, self._host)

        def evidence(fingerprint: Fingerprint) -> Spooled:
            name = names.final_name(base, fingerprint.stored)
            spool = None if self._spool is None else self._spool.path
            copy = Copy(ArchiveFormat.MAILDIR, self.directory, base, name, spool)
            return Spooled(listed, number, copy, fingerprint)

        file = NewFile(self._disk, self._at.tmp, base, self._permissions)
        return SpoolFile(file, evidence, visit_started=self._opened_at)

    def prove(self, batch: Sequence[Spooled]) -> list[Verified]:
        """
        Make the spool files durable and compare what the disk returns; once for each.

        When a step fails, or the octets differ (NotProved), the file is unlinked.
        """
        contents = {self._mine(s.copy).base: s.fingerprint.content for s in batch}
        self._prover.prove(self._at.tmp, contents)
        return [Verified(spooled) for spooled in batch]

    def publishing(
        self,
        directory: Path,
        left_open: Callable[[Path], LeftOpen],  # noqa: ARG002 -- for an mbox
    ) -> AbstractContextManager[Sequence[Recorded]]:
        """
        Hold nothing, and leave open rows to who made them: a link needs no lock.
        """
        self._check_mine(directory)
        return nullcontext(())

    def place(self, copies: Sequence[Copy]) -> Sequence[Copy]:
        """
        Return *copies*: their names say where they will be.
        """
        return copies

    def publish(self, batch: Sequence[Recorded]) -> list[Published]:
        """
        Link the batch into new/, then make its names last by one fsync.
        """
        if not batch:
            return []
        for recorded in batch:
            copy = self._mine(recorded.copy)
            publish(self._disk, self._at.tmp, copy.base, self._at.new, copy.name)
        sync_folder(self._disk, self._at.new)
        self._anchor()
        return [Published(recorded) for recorded in batch]

    def discard(self, copy: Copy) -> None:
        """
        Unlink the spool file of *copy*: it was published, or is not wanted.
        """
        unlink(self._disk, self._at.tmp, self._mine(copy).base)

    def _anchor(self) -> None:
        # A run killed while it made the maildir has not made its folders last.
        if not self._anchored:
            sync_names(self._disk, self._at.here)
            sync_above(self._disk, self._at.above, self._at.here)
            self._anchored = True

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

    # -- recovery ---------------------------------------------------------------------

    def settle(self, recorded: Recorded) -> Published | None:
        """
        Close what an interrupted visit left open.

        Found whole in new/ or cur/: made to last, published. Not there, but spooled:
        published now, if its digest is right and its name is free; a second link says
        that a reader has moved it. Not spooled either: found in a folder within the
        maildir, where a reader has put it, it is published. None when it is nowhere, or
        not what was recorded: the message is to be fetched again.
        """
        copy = self._mine(recorded.copy)
        if any(self._found(recorded) for _ in range(LOOKS)):
            self._anchor()
            return Published(recorded)
        spooled = look(self._disk, self._at.tmp, copy.base)
        if spooled is None:
            return self._filed(recorded)
        if spooled.st_nlink > 1:
            return self._moved(recorded)
        if digest(self._disk, self._at.tmp, copy.base) != recorded.content:
            return None
        if look(self._disk, self._at.new, copy.name) is not None:
            return None  # somebody else's: a fresh copy gets a fresh name
        return self.publish([recorded])[0]

    def _found(self, recorded: Recorded) -> bool:
        # A mail reader may move the file between the look and the open: look again.
        return any(
            sync_found(self._disk, folder, name, recorded.content)
            for folder in (self._at.new, self._at.cur)
            for name in self._bearers(folder, recorded.copy)
        )

    def _bearers(self, folder: Folder, copy: Copy) -> list[str]:
        # The exact name first: to read a large folder takes long.
        if look(self._disk, folder, copy.name) is not None:
            return [copy.name]
        return [n for n in self._names(folder) if names.base_of(n) == copy.base]

    def _filed(self, recorded: Recorded) -> Published | None:
        # Without a spool file there is no second link to tell: a reader's other folders.
        # (Links may not exist here; or an older ledger was put back, from amid a visit.)
        if not self._within.sync_found(recorded.copy, recorded.content):
            return None
        self._anchor()
        return Published(recorded)

    def _moved(self, recorded: Recorded) -> Published | None:
        # Wherever the reader has put it: the file, and what he did in our folders, last.
        base, content = recorded.copy.base, recorded.content
        if not sync_found(self._disk, self._at.tmp, base, content):
            return None
        sync_folder(self._disk, self._at.new)
        sync_folder(self._disk, self._at.cur)
        self._anchor()
        return Published(recorded)

    def fragments(self) -> int:
        """
        Return 0: what is in new/ or cur/ is whole.
        """
        return 0

    def sweep(self, open_bases: Collection[str]) -> int:
        """
        Unlink the spool files of our ledger whose base no open row bears.

        To be called before `spool`, with the open rows of all accounts. Does nothing
        (0) while another visit has this maildir open.
        """
        return sweep(self._disk, self._at.tmp, self._ours, open_bases)

    def highest_number(self) -> int:
        """
        Return the highest number of our ledger in tmp/, and wherever a mail reader has
        put messages within the maildir; 0 without any.
        """
        filed = (name for _, name in self._within.everything())
        # At once: of 100,000 names each match would cost a microsecond. No name has a /.
        text = "/".join(chain(self._names(self._at.tmp), filed))
        return max(map(int, self._ours.findall(text)), default=0)

    def stamp(self) -> str:
        """
        Return a text that is another one as soon as a name in the maildir has changed.

        Empty where nothing tells: a folder was changed just now, so that one change more
        might bear the same time. By ctime, which nobody can set.
        """
        found = self._within.statuses()
        for way, folder in ((("tmp",), self._at.tmp), ((), self._at.here)):
            with step("stat", folder):
                found[way] = self._disk.fstat(folder.fd)
        latest = max(max(each.st_ctime, each.st_mtime) for each in found.values())
        if latest > self._now() - COARSEST or not all(
            s.st_ctime for s in found.values()
        ):
            return ""
        facts = (
            (way, s.st_dev, s.st_ino, s.st_ctime_ns, s.st_mtime_ns)
            for way, s in sorted(found.items())
        )
        return sha256(repr((self._ledger, *facts)).encode()).hexdigest()

    # -- looking at it again ----------------------------------------------------------

    def check(self, copy: Copy, content: ContentDigest) -> Condition:
        """
        Tell how *copy* is found now, wherever a mail reader put it within the maildir.
        """
        return self._within.condition(self._mine(copy), content)

    @property
    def _within(self) -> Finder:
        if self._finder is None:
            at = self._at
            kept: dict[Way, Folder] = {("new",): at.new, ("cur",): at.cur}
            self._finder = Finder(self._disk, at.here, kept)
        return self._finder

    def _names(self, folder: Folder) -> list[str]:
        with step("list", folder):
            return self._disk.listdir(folder.fd)
