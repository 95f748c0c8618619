"""
The same stories, into an mbox: whole visits on a disk that forgets.

Rules of this file:

- The judge reads the mbox by its own code. Half a message is no fault while the dot lock
  stands: no reader looks. Without it there may be none, at any instant.
- No other program is at work here: what readers do to an mbox is tried with real ones
  (tests/live/test_mbox_readers.py, tests/test_archive_mbox_shared.py).
"""

from __future__ import annotations

import errno
import fcntl
import os
import re

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from hypothesis import HealthCheck, given, settings

from popfetchd.archive.opening import archive_at
from popfetchd.values import ArchiveFormat, Destination
from tests.crash.model_disk import File, ModelDisk, failure
from tests.crash.model_fate import OTHERS
from tests.crash.model_ledger import new_ledger
from tests.crash.model_story import Story, stored
from tests.crash.model_world import Broken, World, _adjusted
from tests.crash.stories import stories


EXAMPLES = int(os.environ.get("POPFETCHD_EXAMPLES", "60"))

FOLDER = "/srv/mail"

NAME = "all.mbox"

THEIRS = b"From bob Thu Jan  1 00:00:00 1970\nSubject: theirs\n\ntext\n"
"""What stood there before, without the empty line that should be at its end."""


class MboxDisk(ModelDisk):
    """
    One that can also cut a file off, and lock it as fcntl does.
    """

    def __init__(self, **more) -> None:
        super().__init__(**more)
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
        self.disk = MboxDisk(links=story.links, deaf=story.deaf)
        self.disk.put(self.disk.folder(FOLDER, make=True), NAME, THEIRS)
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

    def judge_whole(self) -> None:
        super().judge_whole()
        spool = self.disk.folder(f"{FOLDER}/.popfetchd-spool")
        left = [name for name in spool.names if not name.startswith("highest.")]
        if left:
            raise Broken(f"left in the spool folder: {left}")
        # Without links a dead visit's lock stays until the next message comes.
        if self._locked() and self._links:
            raise Broken("left: the dot lock")

    def _locked(self) -> bool:
        return f"{NAME}.lock" in self.disk.folder(FOLDER).names

    def _shown(self) -> Counter[bytes]:
        octets = self.disk.folder(FOLDER).names[NAME].octets
        if not octets.startswith(THEIRS):
            raise Broken("what others wrote was altered")
        parts = re.split(rb"(?:\A|(?<=\n\n))From [^\n]*\n", octets)
        entries = [re.sub(rb"(?m)^>(>*From )", rb"\1", p[:-1]) for p in parts[2:]]
        whole = {stored(sent) for sent in self.server.delivered}
        half = [entry for entry in entries if entry not in whole]
        rest = parts[1].removeprefix(THEIRS.partition(b"\n")[2])
        if (half or rest.strip(b"\n")) and not self._locked():
            raise Broken(f"half written, and no lock: {half!r} {rest!r}")
        return Counter(entry for entry in entries if entry in whole)


def play(story: Story) -> None:
    """
    Play *story*, without the other programs, to its end. Raises Broken.
    """
    plans = [
        replace(p, befalls=tuple(b for b in p.befalls if b.deed not in OTHERS))
        for p in story.plans
    ]
    with _adjusted(story):
        made = MboxWorld(story, new_ledger())
        try:
            for plan in plans:
                made.visit(plan)
            made.recover()
        finally:
            made.ledger.close()


@pytest.mark.timeout(121 + EXAMPLES)
@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow])
@given(stories())
def test_no_story_ends_badly(story):
    """
    Nothing is lost, nothing is there twice, no reader sees half of it, and nobody has to
    lend a hand.
    """
    play(story)
