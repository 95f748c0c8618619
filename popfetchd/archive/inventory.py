"""
What stands in an archive, read again: to find what the ledger does not know, and to make
a ledger anew.

Rules of this file:

- It only reads, makes nothing, and locks nothing: mail that comes or is moved meanwhile
  may be seen or not.
- Memory does not grow with the messages, and hardly with their number.
- A stored message tells its content, its header and when it arrived. It does not tell its
  form for certain: one without any CR is taken for LF, as nearly all are. One that held
  bare LFs and no CR is mistaken; its digest is right all the same, and its form is
  corrected when it is retrieved again.
- In an mbox it does not tell whether its last line had an end: nearly all had.
"""

from __future__ import annotations

import hashlib
import os
import re

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from popfetchd.archive import mboxrd, names
from popfetchd.archive.arrival import arrival
from popfetchd.archive.disk import Disk, RealDisk
from popfetchd.archive.durable import CLOSED, Folder, closing, read, step
from popfetchd.archive.finding import Finder, Way
from popfetchd.archive.form import EMPTY_LINE_FIRST, Header, restored
from popfetchd.archive.likeness import likeness
from popfetchd.archive.mboxfile import BEGINNING, MboxFile
from popfetchd.archive.places import places
from popfetchd.archive.spooling import NAME, SIDE_FILE, highest_in
from popfetchd.values import (
    ArchiveFormat,
    ContentDigest,
    Copy,
    Destination,
    Extent,
    Fingerprint,
    Found,
    Held,
    LedgerId,
    Octets,
    StoredForm,
)


class Inventory(Protocol):
    """
    What stands in one place of an archive. ArchiveError when it cannot be read.
    """

    def held(self) -> Iterator[Held]:
        """Yield what is there, in no order."""

    def read(self, held: Held) -> Found | None:
        """Read one of them; None: it has been moved, or is gone."""

    def numbers(self) -> Iterator[tuple[LedgerId, int]]:
        """Yield which numbers ledgers have given here, each of them or the highest."""


@contextmanager
def inventory(
    place: Destination, *, now: Callable[[], float], disk: Disk | None = None
) -> Iterator[Inventory | None]:
    """
    Give what stands in *place*, one that has no date to be put in; None: it is not there.
    """
    disk = disk or RealDisk()
    is_mbox = place.format is ArchiveFormat.MBOX
    above = Folder(CLOSED, place.path.parent)
    flags = os.O_RDONLY | (0 if is_mbox else os.O_DIRECTORY)
    with step("open", above, place.path.name):
        try:
            fd = disk.open(str(place.path), flags)
        except FileNotFoundError:
            fd = CLOSED
    if fd == CLOSED:
        yield None
        return
    with closing(disk, fd, above, place.path.name):
        if is_mbox:
            yield MboxInventory(disk, fd, place, now)
        else:
            yield MaildirInventory(disk, fd, place, now)


def ledgers_at(destination: Destination, now: Callable[[], float]) -> set[LedgerId]:
    """
    Return the ledgers that gave numbers to what is archived at *destination*.
    """
    return {ledger for ledger, _ in _numbers(places(destination), now)}


def highest_at(
    former: Iterable[Destination], ledger: LedgerId, now: Callable[[], float]
) -> int:
    """
    Return the highest number that *ledger* gave in *former*, places without dates; or 0.
    """
    found = (number for giver, number in _numbers(former, now) if giver == ledger)
    return max(found, default=0)


def _numbers(
    stand: Iterable[Destination], now: Callable[[], float]
) -> Iterator[tuple[LedgerId, int]]:
    for place in stand:
        with inventory(place, now=now) as stock:
            if stock is not None:
                yield from stock.numbers()


def fingerprint(chunks: Iterable[bytes], otherwise: float) -> Fingerprint:
    """
    Return what the stored message in *chunks* is.

    *otherwise* (seconds since 1970) is its arrival where its header does not tell.
    """
    content, as_lf, exact = hashlib.sha256(), Header(), Header()
    stored = lines = returns = 0
    for chunk in chunks:
        content.update(chunk)
        stored += len(chunk)
        lines += chunk.count(b"\n")
        returns += chunk.count(b"\r")
        exact.feed(chunk)
        as_lf.feed(b"".join(restored([chunk], StoredForm.LF)))
    form, header = (StoredForm.EXACT, exact) if returns else (StoredForm.LF, as_lf)
    return Fingerprint(
        octets=Octets(stored if returns else stored + lines),
        stored=Octets(stored),
        form=form,
        header=header.finish(),
        content=ContentDigest(content.digest()),
        likeness=likeness(header.kept),
        arrived_at=arrival(header.kept, otherwise),
    )


def spooled(disk: Disk, path: Path) -> Iterator[tuple[LedgerId, int]]:
    """
    Yield the numbers that a folder of spool files tells: in names, and in side files.
    """
    folder = Folder(CLOSED, path.parent)
    with step("look for", folder, path.name):
        if not path.is_dir():
            return
    with step("open", folder, path.name):
        fd = disk.open(str(path), os.O_RDONLY | os.O_DIRECTORY)
    with closing(disk, fd, folder, path.name):
        here = Folder(fd, path)
        with step("list", here):
            found = disk.listdir(fd)
        for name in found:
            given, side = names.given(name), SIDE_FILE.fullmatch(name)
            if given is not None:
                yield given[1:]
            elif side is not None:
                yield LedgerId(side[1]), highest_in(disk, here, name)


class MaildirInventory:
    """
    The messages of the maildir *place*, open as *fd*, in whichever of its folders.
    """

    def __init__(
        self, disk: Disk, fd: int, place: Destination, now: Callable[[], float]
    ) -> None:
        self._disk = disk
        self._place = place
        self._finder = Finder(disk, Folder(fd, place.path))
        self._now = now

    def held(self) -> Iterator[Held]:
        """
        Yield the files in which a reader finds messages.
        """
        for way, name in self._finder.everything():
            yield self._held(way, name)

    def _held(self, way: Way, name: str) -> Held:
        directory = self._place.path
        base, final = names.base_of(name), names.without_flags(name)
        copy = Copy(ArchiveFormat.MAILDIR, directory, base, final, self._place.spool)
        given = names.given(name)
        number = given[2] if given else 0
        return Held(copy, directory.joinpath(*way, name), base, number)

    def read(self, held: Held) -> Found | None:
        """
        Read the file; of one that popfetchd named, its name tells when it was archived.
        """
        *way, name = held.path.relative_to(self._place.path).parts
        with self._finder.opened(tuple(way), name) as fd:
            if fd is None:
                return None
            with step("read", Folder(fd, held.path)):
                modified = self._disk.fstat(fd).st_mtime
                print_ = fingerprint(read(self._disk, fd), modified)
        now, given = self._now(), names.given(name)
        return Found(held, print_, min(given[0], now) if given else now)

    def numbers(self) -> Iterator[tuple[LedgerId, int]]:
        """
        Yield those in the names of messages, and of what a crash has left in tmp/.
        """
        for _, name in self._finder.everything():
            given = names.given(name)
            if given is not None:
                yield given[1:]
        yield from spooled(self._disk, self._place.spool or self._place.path / "tmp")


READERS_MARKS = re.compile(
    rb"^(?:status|x-status|x-uid|x-keywords|x-imap[a-z]*):.*\n(?:[ \t].*\n)*",
    re.IGNORECASE | re.MULTILINE,
)
"""What mail readers put into the headers of an mbox; from a server they hardly come."""


class MboxInventory:
    """
    The messages of the mbox *place*, open as *fd*.
    """

    def __init__(
        self, disk: Disk, fd: int, place: Destination, now: Callable[[], float]
    ) -> None:
        self._disk = disk
        self._place = place
        self._now = now
        self._above = Folder(CLOSED, place.path.parent)
        self._file = MboxFile(disk, self._above, place.path.name, fd)

    def held(self) -> Iterator[Held]:
        """
        Yield the messages; what finds each again is what readers do not change of it.
        """
        place, end = self._place, self._file.size()
        begins = list(mboxrd.beginnings(self._file.read(0, end)))
        for offset, behind in zip(begins, [*begins[1:], end], strict=False):
            letter = mboxrd.Letter()
            for octets in self._behind_from_line(offset, behind):
                letter.feed(octets)
            bare = letter.digest()
            extent = Extent(offset, behind - offset, bare)
            base = f"found-{bare.hex()}"
            spool = place.spool or place.path.parent / NAME
            copy = Copy(ArchiveFormat.MBOX, place.path, base, base, spool, extent)
            yield Held(copy, place.path, bare.hex())

    def _behind_from_line(self, offset: int, end: int) -> Iterator[bytes]:
        first = min(end, offset + mboxrd.LONGEST_FROM_LINE)
        begins = BEGINNING.match(b"".join(self._file.read(offset, first)))
        return self._file.read(offset + (begins.end() if begins else 0), end)

    def read(self, held: Held) -> Found | None:
        """
        Read the message as it was stored, as far as that can be told.
        """
        extent = held.copy.extent
        if extent is None:
            return None
        now, end = self._now(), extent.offset + extent.length
        stored = mboxrd.stored(self._behind_from_line(extent.offset, end))
        return Found(held, fingerprint(_unmarked(stored), now), now)

    def numbers(self) -> Iterator[tuple[LedgerId, int]]:
        """
        Yield those that side files tell: the messages themselves bear none.
        """
        place = self._place
        yield from spooled(self._disk, place.spool or place.path.parent / NAME)


def _unmarked(chunks: Iterator[bytes]) -> Iterator[bytes]:
    # The header whole, for a field may be cut by a chunk's end.
    header = b""
    for chunk in chunks:
        header += chunk
        end = EMPTY_LINE_FIRST.search(header)
        if end is not None or len(header) > mboxrd.LONGEST_HEADER:
            break
    end = EMPTY_LINE_FIRST.search(header)
    behind = end.end() if end else len(header)
    yield READERS_MARKS.sub(b"", header[:behind]) + header[behind:]
    yield from chunks
