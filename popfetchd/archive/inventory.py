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
"""

from __future__ import annotations

import hashlib
import os

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol

from popfetchd.archive import names
from popfetchd.archive.arrival import arrival
from popfetchd.archive.disk import Disk, RealDisk
from popfetchd.archive.durable import Folder, closing, read, step
from popfetchd.archive.finding import Finder, Way
from popfetchd.archive.form import Header, restored
from popfetchd.archive.likeness import likeness
from popfetchd.values import (
    ArchiveFormat,
    ContentDigest,
    Copy,
    Destination,
    Fingerprint,
    Found,
    Held,
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
        for sent in restored([chunk], StoredForm.LF):
            as_lf.feed(sent)
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


class MaildirInventory:
    """
    The messages of the maildir *place* that *here* stands for, in whichever folder.
    """

    def __init__(
        self, disk: Disk, here: Folder, place: Destination, now: Callable[[], float]
    ) -> None:
        self._disk = disk
        self._place = place
        self._finder = Finder(disk, here)
        self._now = now

    def held(self) -> Iterator[Held]:
        """
        Yield the files in which a reader finds messages.
        """
        for way, name in self._finder.everything():
            yield self._held(way, name)

    def _held(self, way: Way, name: str) -> Held:
        path = self._place.path.joinpath(*way, name)
        base, final = names.base_of(name), names.without_flags(name)
        copy = Copy(ArchiveFormat.MAILDIR, self._place.path, base, final)
        given = names.given(name)
        if given is None:
            return Held(copy, path, base)
        return Held(copy, path, base, ledger=given[1], number=given[2])

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
        given = names.given(name)
        at = given[0] if given else self._now()
        return Found(held, print_, min(at, self._now()))


@contextmanager
def inventory(
    place: Destination, *, now: Callable[[], float], disk: Disk | None = None
) -> Iterator[Inventory | None]:
    """
    Give what stands in *place*, one that has no date to be put in; None: it is not there.
    """
    disk = disk or RealDisk()
    above = Folder(-1, place.path.parent)
    with step("open", above, place.path.name):
        try:
            fd = disk.open(str(place.path), os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            fd = -1
    if fd < 0:
        yield None
        return
    with closing(disk, fd, above, place.path.name):
        yield MaildirInventory(disk, Folder(fd, place.path), place, now)
