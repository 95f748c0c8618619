"""
What a visit may ask of an archive, whatever its format.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from popfetchd.archive.spool import SpoolFile
from popfetchd.values import (
    Condition,
    ContentDigest,
    Copy,
    LeftOpen,
    Listed,
    Published,
    Recorded,
    Spooled,
    Verified,
)


class Archive(Protocol):
    """
    The destination of one account's messages.

    In order: `open`; `settle` what a crash left, `sweep`; then for each batch `spool`,
    `prove`, and within `publishing`: (the ledger records, asking `place`),
    `publish`, (the ledger commits); then `discard`; `close`. `prove` may run in another
    thread than `spool`. Each raises ArchiveError (DiskFull, NotProved, UnsafeArchive)
    when a step of it fails.
    """

    def open(self) -> None:
        """Reach the place, and make it if it is missing."""

    def spool(self, listed: Listed, number: int) -> SpoolFile:
        """Open a spool file for *listed*; *number* is one that the ledger reserved."""

    def prove(self, batch: Sequence[Spooled]) -> list[Verified]:
        """Make the spool files durable, read them back, compare; once for each."""

    def publishing(
        self, directory: Path, left_open: Callable[[Path], LeftOpen]
    ) -> AbstractContextManager[Sequence[Recorded]]:
        """
        Hold *directory*, where copies are about to appear, as long as its format needs.

        Gives the open rows of that place, if we hold it alone: they are to be settled
        before anything is recorded. *left_open* is asked once the place is held.
        """

    def place(self, copies: Sequence[Copy]) -> Sequence[Copy]:
        """Tell where the next *copies* will appear, in this order. No I/O."""

    def publish(self, batch: Sequence[Recorded]) -> list[Published]:
        """Let the copies appear in the archive, durably, all of them or an error."""

    def discard(self, copy: Copy) -> None:
        """Unlink the spool file of *copy*, if it is there."""

    def settle(self, recorded: Recorded) -> Published | Recorded | None:
        """
        Close what an interrupted visit left open; None: the copy is nowhere.

        The row itself: its spool file is whole, and is to be placed and published anew.
        Within `publishing`, as there may be others at the place.
        """

    def fragments(self) -> int:
        """
        Return how many of the messages settled stand half in the archive for good.

        Others wrote behind them; a person may want to look. Within `publishing`.
        """

    def sweep(self, open_bases: Collection[str]) -> int:
        """Unlink our spool files that no open row of the ledger bears; return how many."""

    def highest_number(self) -> int:
        """Return the highest number of our ledger in the archive; 0 without any."""

    def stamp(self) -> str:
        """
        Return a text that is another one when `highest_number` may be; empty: it may be.
        """

    def check(self, copy: Copy, content: ContentDigest) -> Condition:
        """Read *copy* again: is it the stored form of digest *content*, and where."""

    def close(self) -> None:
        """Let go of the place. Never raises; may be called again."""
