"""
The same stories, into an mbox on the model disk, and others who write into it.

Rules of this file:

- The judge reads the mbox by its own code. Half a message is no fault while the dot lock
  stands: no reader looks. Without it there may be none, at any instant; unless another
  program broke our lock, which it may take for a dead one's.
- Others write between two visits: an agent that delivers behind what stands there, and a
  reader that flags all and writes the whole file anew. Both end what they find open, and
  both fsync. What programs do that keep the locks is tried with real ones
  (tests/live/test_mbox_readers.py, tests/test_archive_mbox_shared.py).
"""

from __future__ import annotations

import errno
import fcntl
import re

from collections import Counter
from dataclasses import replace
from pathlib import Path

from popfetchd.archive.opening import archive_at
from popfetchd.values import ArchiveFormat, Destination
from tests.crash.model_disk import File, ModelDisk, failure
from tests.crash.model_story import Plan, Story, Theirs, stored
from tests.crash.model_world import Broken, World


FOLDER = "/srv/mail"

NAME = "all.mbox"

FLAGS = b"Status: RO\n"

BEGINNING = re.compile(rb"(?:\A|(?<=\n\n))(?=From )")

HEADER_END = re.compile(rb"\n(\r?\n)")
"""A message whose stored form is exact may have a header of CRLF lines."""


def theirs(number: int) -> bytes:
    """
    Return message *number* of others, without the empty line that should be at its end.
    """
    return b"From bob Thu Jan  1 00:00:00 1970\nSubject: theirs %03d\n\ntext\n" % number


class MboxDisk(ModelDisk):
    """
    One that can also cut a file off, and lock it as fcntl does.
    """

    def __init__(self, *, links: bool = True, deaf: bool = False) -> None:
        super().__init__(links=links, deaf=deaf)
        self._file_locks: dict[int, tuple[File, int]] = {}

    def kill(self) -> None:
        super().kill()
        self._file_locks.clear()

    def close(self, fd: int) -> None:
        super().close(fd)
        self._file_locks.pop(fd, None)

    def truncate(self, fd: int, octets: int) -> None:
        with self._call("truncate"):
            file = self._file(fd)
            file.octets, file.dirty = file.octets[:octets], True

    def lock_file(self, fd: int, kind: int) -> None:
        with self._call("lock_file"):
            file = self._file(fd)
            others = [
                k for f, (x, k) in self._file_locks.items() if x is file and f != fd
            ]
            if fcntl.F_WRLCK in others or (others and kind == fcntl.F_WRLCK):
                raise failure(errno.EAGAIN)
            self._file_locks[fd] = (file, kind)


class MboxWorld(World):
    """
    An account whose archive is an mbox.
    """

    def __init__(self, story: Story, path: Path) -> None:
        super().__init__(story, path)
        self._links = story.links
        self._theirs = 1
        """How many messages others have written; the first stood there before us."""
        self._broken_in = False
        self.disk = MboxDisk(links=story.links, deaf=story.deaf)
        folder = self.disk.folder(FOLDER, make=True)
        assert folder is not None
        self.disk.put(folder, NAME, theirs(0))
        self.account = replace(
            self.account,
            destination=Destination(ArchiveFormat.MBOX, Path(FOLDER) / NAME),
        )

    def _open_archive(self, _account, destination):
        archive = archive_at(
            destination,
            self.ledger.id,
            host="model",
            now=self.now,
            disk=self.disk,
            pause=lambda _: None,
        )
        archive.open()
        return archive

    # -- others -----------------------------------------------------------------------

    def _prepare(self, plan: Plan) -> None:
        super()._prepare(plan)
        for deed in plan.theirs:
            self.came[deed.name] += 1
            self._break_in()
            octets = self._file.octets
            octets = (
                flagged(octets) if deed is Theirs.FLAGS else self._delivered(octets)
            )
            self._file.octets, self._file.dirty = octets, True
            self._file.sync()

    def _break_in(self) -> None:
        if self._locked:
            self.disk.remove(self._folder, f"{NAME}.lock")
            self._broken_in = True

    def _delivered(self, octets: bytes) -> bytes:
        self._theirs += 1
        end = len(octets) - len(octets.rstrip(b"\n"))
        return octets + b"\n" * max(0, 2 - end) + theirs(self._theirs - 1) + b"\n"

    # -- the judge --------------------------------------------------------------------

    def judge_whole(self) -> None:
        super().judge_whole()
        spool = self.disk.folder(f"{FOLDER}/.popfetchd-spool")
        assert spool is not None
        left = [name for name in spool.names if not name.startswith("highest.")]
        if left:
            raise Broken(f"left in the spool folder: {left}")
        # Without links a dead visit's lock stays until the next message comes.
        if self._locked and self._links:
            raise Broken("left: the dot lock")

    def _shown(self) -> Counter[bytes]:
        octets = self._file.octets.replace(b"\n" + FLAGS, b"\n")
        if any(theirs(number) not in octets for number in range(self._theirs)):
            raise Broken("what others wrote was altered")
        entries = [unquoted(part) for part in BEGINNING.split(octets) if part]
        whole = {stored(sent) for sent in self.server.delivered}
        others = {theirs(number).rstrip() for number in range(self._theirs)}
        half = [e for e in entries if e not in whole and e.rstrip(b"\n") not in others]
        if half and not self._locked and not self._broken_in:
            raise Broken(f"half written, and no lock: {half!r}")
        return Counter(entry for entry in entries if entry in whole)

    @property
    def _folder(self):
        return self.disk.folder(FOLDER)

    @property
    def _file(self) -> File:
        return self._folder.names[NAME]

    @property
    def _locked(self) -> bool:
        return f"{NAME}.lock" in self._folder.names


def flagged(octets: bytes) -> bytes:
    """
    Return an mbox as a reader writes it that has read all.
    """
    return b"".join(
        part
        if FLAGS in part
        else HEADER_END.sub(rb"\n" + FLAGS + rb"\1", part, count=1)
        for part in BEGINNING.split(octets)
    )


def unquoted(part: bytes) -> bytes:
    """
    Return the message that stands in an mbox as *part*.
    """
    if part.startswith(b"From bob "):
        return part
    message = part.partition(b"\n")[2].removesuffix(b"\n")
    return re.sub(rb"(?m)^>(>*From )", rb"\1", message)
