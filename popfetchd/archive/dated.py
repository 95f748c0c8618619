"""
Archives split by date: `/srv/mail/{year}/{month}`, `/srv/support-{year}.mbox`.

    /srv/.popfetchd-spool/     the spool files of all, in the deepest dateless folder
    /srv/support-2023.mbox     where what arrived in 2023 (UTC) is published

Rules of this file:

- A message's date is its arrival (arrival.py): it is known once the message is complete.
  So the spool file is in one folder for all dates, and only what is published is put
  under a date. One folder is swept, and one side file knows the highest number.
- A date is put in as digits, and so is always one component of the path.
- The archive of one date is open only while something is published in it, or looked at:
  ten years of days would be too many descriptors.
"""

from __future__ import annotations

import re
import time

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from popfetchd.archive import names
from popfetchd.archive.disk import Disk
from popfetchd.archive.entries import measured
from popfetchd.archive.interface import Archive
from popfetchd.archive.locking import sweep
from popfetchd.archive.mbox import sized
from popfetchd.archive.spool import SpoolFile
from popfetchd.archive.spooling import NAME, SpoolFolder
from popfetchd.errors import ArchiveError
from popfetchd.values import (
    PRIVATE,
    ArchiveFormat,
    Condition,
    ContentDigest,
    Copy,
    Destination,
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


WORD = re.compile(r"\{(year|month|day)\}")

STRFTIME = {"year": "%Y", "month": "%m", "day": "%d"}


def is_dated(path: Path) -> bool:
    """
    Tell whether *path* asks for a date.
    """
    return WORD.search(str(path)) is not None


def on(template: Path, seconds: float) -> Path:
    """
    Return *template* with the date of *seconds* (since 1970, UTC) put in.
    """
    date = time.gmtime(seconds)

    def digits(word: re.Match[str]) -> str:
        return time.strftime(STRFTIME[word[1]], date)

    return Path(WORD.sub(digits, str(template)))


def dateless(template: Path) -> Path:
    """
    Return the deepest folder of *template* that no date is put into.
    """
    return next(folder for folder in template.parents if not is_dated(folder))


class Dated:
    """
    The archives that *destination* (format, and a path with dates) stands for, as one
    `Archive`. *make* returns the one at a path without dates, not open yet.
    """

    def __init__(
        self,
        destination: Destination,
        ledger: LedgerId,
        make: Callable[[Destination], Archive],
        *,
        host: str,
        now: Callable[[], float],
        disk: Disk,
        permissions: Permissions = PRIVATE,
    ) -> None:
        self._destination = destination
        self._make = make
        self._now = now
        self._disk = disk
        self._opened_at = 0.0
        spool = destination.spool or dateless(destination.path) / NAME
        self._spool = SpoolFolder(
            spool, ledger, host=host, now=now, disk=disk, permissions=permissions
        )
        self._current: Archive | None = None
        self._checked: tuple[Path, Archive] | None = None

    def open(self) -> None:
        """
        Reach the folder of the spool files, making it if it is missing.
        """
        self._opened_at = self._now()
        self._spool.open()

    def close(self) -> None:
        """
        Let go of it. Never raises; may be called again.
        """
        self._forget_checked()
        self._spool.close()

    # -- spool files ------------------------------------------------------------------

    def spool(self, listed: Listed, number: int) -> SpoolFile:
        """
        Open a spool file for *listed*; where it will be published tells its arrival.
        """
        base, file = self._spool.new_file(number)

        def evidence(fingerprint: Fingerprint) -> Spooled:
            return Spooled(listed, number, self._copy(base, fingerprint), fingerprint)

        return SpoolFile(file, evidence, visit_started=self._opened_at)

    def _copy(self, base: str, fingerprint: Fingerprint) -> Copy:
        kind = self._destination.format
        path = on(self._destination.path, fingerprint.arrived_at)
        bears_name = kind is ArchiveFormat.MAILDIR
        name = names.final_name(base, fingerprint.stored) if bears_name else base
        return Copy(kind, path, base, name, self._spool.path)

    def prove(self, batch: Sequence[Spooled]) -> list[Verified]:
        """
        Make the spool files durable and compare what the disk returns; once for each.
        """
        self._spool.prove({s.copy.base: s.fingerprint.content for s in batch})
        return [self._verified(spooled) for spooled in batch]

    def _verified(self, spooled: Spooled) -> Verified:
        copy = spooled.copy
        if copy.format is ArchiveFormat.MAILDIR:
            return Verified(spooled)
        return sized(spooled, measured(self._disk, self._spool.folder, copy.base))

    def discard(self, copy: Copy) -> None:
        """
        Unlink the spool file of *copy*.
        """
        if copy.spool == self._spool.path:
            self._spool.discard(copy.base)
        else:  # another account's, settled with ours
            self._at_hand.discard(copy)

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

    # -- under one date ---------------------------------------------------------------

    @contextmanager
    def publishing(
        self, directory: Path, left_open: Callable[[Path], LeftOpen]
    ) -> Iterator[Sequence[Recorded]]:
        """
        Hold the archive of one date, at *directory*.
        """
        archive = self._opened(directory)
        try:
            with archive.publishing(directory, left_open) as rows:
                self._current = archive
                yield rows
        finally:
            self._current = None
            archive.close()

    def _opened(self, directory: Path) -> Archive:
        kind = self._destination.format
        archive = self._make(Destination(kind, directory, self._spool.path))
        archive.open()
        return archive

    @property
    def _at_hand(self) -> Archive:
        if self._current is None:
            path = self._destination.path
            raise ArchiveError("publish", path, "the archive of no date is held")
        return self._current

    def place(self, copies: Sequence[Copy]) -> Sequence[Copy]:
        """
        Tell where the next *copies* will appear.
        """
        return self._at_hand.place(copies)

    def publish(self, batch: Sequence[Recorded]) -> list[Published]:
        """
        Let the copies appear, durably, all of them or an error.
        """
        self._spool.raise_to([recorded.copy.base for recorded in batch])
        return self._at_hand.publish(batch)

    def settle(self, recorded: Recorded) -> Published | Recorded | None:
        """
        Close what an interrupted visit left open: see Archive.settle.
        """
        return self._at_hand.settle(recorded)

    def fragments(self) -> int:
        """
        Return how many of the messages settled stand half in the archive for good.
        """
        return self._at_hand.fragments()

    # -- looking at it again ----------------------------------------------------------

    def check(self, copy: Copy, content: ContentDigest) -> Condition:
        """
        Tell how *copy* is found now. The last date looked at stays open.
        """
        if self._checked is None or self._checked[0] != copy.directory:
            self._forget_checked()
            self._checked = (copy.directory, self._opened(copy.directory))
        return self._checked[1].check(copy, content)

    def _forget_checked(self) -> None:
        checked, self._checked = self._checked, None
        if checked is not None:
            checked[1].close()
