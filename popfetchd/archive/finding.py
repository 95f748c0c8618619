"""
Where a message of a maildir is now that a mail reader may have taken it.

Rules of this file:

- It writes nothing, and reads from the disk, whatever the cache holds. It looks into new/ and
  cur/, then into those of each folder within the maildir (Maildir++: `.Name`), for the
  base of the name, under whatever flags.
- The exact name is looked for first. To read all folders takes long: what they hold is
  kept, and read again only after one of them has changed.
"""

from __future__ import annotations

import os
import stat

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

from popfetchd.archive import names
from popfetchd.archive.disk import Disk
from popfetchd.archive.durable import (
    Folder,
    digest,
    look,
    opened,
    step,
    sync_folder,
    sync_found,
)
from popfetchd.errors import ArchiveError
from popfetchd.values import Condition, ContentDigest, Copy


LEAVES = ("new", "cur")
"""The folders in which readers find mail."""

Way = tuple[str, ...]
"""From the maildir to one of them: ("cur",) or (".Sent", "cur")."""


class Finder:
    """
    Finds copies in the maildir that *here* stands for.

    *kept*: those of its folders that are held open, and need not be opened each time.
    """

    def __init__(
        self, disk: Disk, here: Folder, kept: Mapping[Way, Folder] | None = None
    ) -> None:
        self._disk = disk
        self._here = here
        self._kept = kept or {}
        self._stamps: dict[Way, int] = {}
        self._bearers: dict[str, tuple[Way, str]] = {}

    def condition(self, copy: Copy, content: ContentDigest) -> Condition:
        """
        Tell how *copy*, whose stored form had the digest *content*, is found now.
        """
        for way, name in self._places(copy):
            found = self._read(way, name, content)
            if found is not None:
                return found
        return Condition.MISSING

    def sync_found(self, copy: Copy, content: ContentDigest) -> bool:
        """
        Make *copy*, whole, and its name last where it is found; False if it is nowhere.
        """
        return any(self._synced(*place, content) for place in self._places(copy))

    def _synced(self, way: Way, name: str, content: ContentDigest) -> bool:
        with ExitStack() as held:
            folder = self._reached(way, held)
            if folder is None or not sync_found(self._disk, folder, name, content):
                return False
            for depth in range(len(way)):  # who filed it may have made these folders
                above = self._reached(way[:depth], held)
                if above is not None:
                    sync_folder(self._disk, above)
            return True

    def _places(self, copy: Copy) -> Iterator[tuple[Way, str]]:
        for leaf in LEAVES:
            yield (leaf,), copy.name
        if copy.base in self._bearers:
            yield self._bearers[copy.base]
        if self._refresh() and copy.base in self._bearers:
            yield self._bearers[copy.base]

    def _read(self, way: Way, name: str, content: ContentDigest) -> Condition | None:
        # None: it is not there, or was moved while we looked.
        with ExitStack() as held:
            folder = self._reached(way, held)
            found = None if folder is None else look(self._disk, folder, name)
            if folder is None or found is None:
                return None
            try:
                right = digest(self._disk, folder, name, fresh=True) == content
            except ArchiveError as error:
                if isinstance(error.__cause__, FileNotFoundError):
                    return None
                raise
        if right:
            return Condition.WHOLE if len(way) == 1 else Condition.MOVED
        shorter = found.st_size < names.stored_in(name)
        return Condition.TRUNCATED if shorter else Condition.ALTERED

    # -- what the folders hold --------------------------------------------------------

    def everything(self) -> Iterator[tuple[Way, str]]:
        """
        Yield each file in which a reader finds a message: the way to it, and its name.
        """
        for way in self._ways():
            for name in self._names(way):
                if not name.startswith("."):  # by custom, none of the maildir's
                    yield way, name

    @contextmanager
    def opened(self, way: Way, name: str) -> Iterator[int | None]:
        """
        Open a file that `everything` gave; None if it is no message, or there no more.
        """
        with ExitStack() as held:
            folder = self._reached(way, held)
            found = None if folder is None else look(self._disk, folder, name)
            if folder is None or found is None or not stat.S_ISREG(found.st_mode):
                yield None
            else:
                yield held.enter_context(opened(self._disk, folder, name))

    def statuses(self) -> dict[Way, os.stat_result]:
        """
        Return what the system says of each folder that a reader finds mail in.
        """
        found = {}
        for way in self._ways():
            with ExitStack() as held:
                folder = self._reached(way, held)
                if folder is not None:
                    with step("stat", folder):
                        found[way] = self._disk.fstat(folder.fd)
        return found

    def _refresh(self) -> bool:
        # Reads the folders again, if one of them has changed; returns whether.
        stamps = {way: found.st_mtime_ns for way, found in self.statuses().items()}
        if stamps == self._stamps:
            return False
        self._stamps = stamps
        self._bearers = {
            names.base_of(name): (way, name)
            for way in stamps
            for name in self._names(way)
        }
        return True

    def _ways(self) -> Iterator[Way]:
        inner = [(name,) for name in self._names(()) if name.startswith(".")]
        for folder in ((), *inner):
            for leaf in LEAVES:
                yield (*folder, leaf)

    def _names(self, way: Way) -> list[str]:
        with ExitStack() as held:
            folder = self._reached(way, held)
            if folder is None:
                return []
            # By a descriptor of its own: how far it was read is one for all who share it.
            fd = held.enter_context(opened(self._disk, folder, "."))
            with step("list", folder):
                return self._disk.listdir(fd)

    def _reached(self, way: Way, held: ExitStack) -> Folder | None:
        # Opened anew each time, never through a link: readers make and remove folders.
        if way in self._kept:
            return self._kept[way]
        folder = self._here
        for name in (".", *way):
            found = look(self._disk, folder, name)
            if found is None or not stat.S_ISDIR(found.st_mode):
                return None
            fd = held.enter_context(opened(self._disk, folder, name))
            folder = Folder(fd, folder / name)
        return folder
