"""
Tests of popfetchd/archive/proving.py.
"""

from __future__ import annotations

import errno
import hashlib
import os

import pytest

from popfetchd.archive.durable import Folder
from popfetchd.archive.proving import LONG, MANY, Prover
from popfetchd.errors import ArchiveError, DiskFull, NotProved
from tests.faulty_disk import AlwaysFaultyDisk, FaultyDisk


def telling(_real, _fd):
    """
    An answer of `tells_of_losses`, whatever file system the tests run on.
    """
    return True


class Trial:
    """
    Files in a folder, and a prover whose clock is *seconds*.
    """

    def __init__(self, path, disk):
        self.folder = Folder(os.open(path, os.O_RDONLY), path)
        self.disk = disk
        self.seconds = 0.0
        self.prover = Prover(disk, lambda: self.seconds)

    def spool(self, count, prefix="a"):
        """
        Write *count* files; return their digests by name.
        """
        contents = {}
        for number in range(count):
            octets = f"{prefix}{number}".encode()
            (self.folder.path / f"{prefix}{number}").write_bytes(octets)
            contents[f"{prefix}{number}"] = hashlib.sha256(octets).digest()
        return contents

    def prove(self, count, prefix="a"):
        """
        Spool and prove *count* files; return how often each way of syncing was gone.
        """
        before = len(self.disk.calls)
        self.prover.prove(self.folder, self.spool(count, prefix))
        done = [name for name, _ in self.disk.calls[before:]]
        return done.count("sync_all"), done.count("fsync")

    def left(self):
        return sorted(file.name for file in self.folder.path.iterdir())


@pytest.fixture
def make(tmp_path):
    made = []

    def trial(disk):
        made.append(Trial(tmp_path, disk))
        return made[-1]

    yield trial
    for each in made:
        os.close(each.folder.fd)


def test_few_files_are_synced_each(make):
    """
    A poll that finds little waits for nobody else's writes.
    """
    trial = make(AlwaysFaultyDisk(tells_of_losses=telling))

    assert (0, MANY - 1) == trial.prove(MANY - 1)


def test_many_files_are_synced_at_once(make):
    """
    And each is read back from the disk nevertheless.
    """
    trial = make(AlwaysFaultyDisk(tells_of_losses=telling))

    assert (1, 0) == trial.prove(MANY)
    called = [name for name, _ in trial.disk.calls]
    assert MANY == called.count("drop_pages")
    assert called.index("sync_all") < called.index("drop_pages") < called.index("pread")


def test_where_losses_are_kept_back_each_is_synced(make):
    """
    An old kernel, or a file system of which it is not known.
    """
    trial = make(AlwaysFaultyDisk(tells_of_losses=lambda *_: False))

    assert (0, MANY) == trial.prove(MANY)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EPERM])
@pytest.mark.parametrize("call", ["tells_of_losses", "sync_all"])
def test_where_the_call_is_forbidden_each_is_synced(make, call, number):
    """
    A sandbox that knows no syncfs is not asked again.
    """
    trial = make(AlwaysFaultyDisk(**{"tells_of_losses": telling, call: number}))

    assert MANY == trial.prove(MANY)[1]
    assert (0, MANY) == trial.prove(MANY, "b")


def test_who_waited_long_syncs_each_from_then_on(make):
    """
    A backup that writes to the same disk holds up one batch, not all of them.
    """
    trial = make(AlwaysFaultyDisk(tells_of_losses=telling))

    def slow(real, fd):
        trial.seconds += LONG
        return real(fd)

    trial.disk.faults["sync_all"] = slow

    assert (1, 0) == trial.prove(MANY)
    assert (0, MANY) == trial.prove(MANY, "b")


def test_a_failing_syncfs_condemns_all(make):
    """
    Nobody can tell which file it was; none is left, none is synced again (P1).
    """
    trial = make(AlwaysFaultyDisk(tells_of_losses=telling, sync_all=errno.ENOSPC))

    with pytest.raises(DiskFull, match="syncfs"):
        trial.prove(MANY)
    assert [] == trial.left()
    assert "fsync" not in dict(trial.disk.calls)


def test_one_that_is_not_read_back_as_written_is_condemned(make):
    """
    The octets on the disk decide, not what syncfs said.
    """
    trial = make(AlwaysFaultyDisk(tells_of_losses=telling))
    files = trial.spool(MANY)
    (trial.folder.path / "a3").write_bytes(b"other")

    with pytest.raises(NotProved):
        trial.prover.prove(trial.folder, files)
    assert "a3" not in trial.left()


@pytest.mark.parametrize("count", [1, MANY])
def test_any_failing_call_is_told(make, count):
    """
    Whichever of the calls fails, no file of the batch counts as proved.
    """
    clean = FaultyDisk({("tells_of_losses", 0): telling})
    make(clean).prove(count)

    for call in clean.calls:
        trial = make(FaultyDisk({("tells_of_losses", 0): telling, call: errno.EIO}))
        with pytest.raises(ArchiveError):
            trial.prove(count)
