"""
The locks of an mbox that a visit leaves which dies with nothing left to do.
"""

from __future__ import annotations

import errno
import fcntl
import os

import pytest

from popfetchd.archive import RealDisk, names
from popfetchd.archive.dated import Dated
from popfetchd.archive.mbox import Mbox
from popfetchd.values import ArchiveFormat, Destination, LedgerId, LeftOpen
from tests.faulty_disk import AlwaysFaultyDisk


NOW = 1_700_000_000.0
OURS = LedgerId("0123456789ab")


class Left:
    """
    An mbox, its dot lock and the lock's mark in the spool folder, as a dead visit
    leaves them.
    """

    def __init__(self, folder, content=None):
        self.path = folder / "all.mbox"
        self.lock = folder / "all.mbox.lock"
        self.spool = folder / ".popfetchd-spool"
        self.mark = self.spool / names.new_base(NOW, OURS, 0, "mx")
        named = b"popfetchd L0123456789ab\n%s\n" % os.fsencode(self.path)
        self.path.touch()
        self.spool.mkdir()
        self.mark.write_bytes(named if content is None else content)
        self.lock.hardlink_to(self.mark)

    def sweep(self, *open_bases, disk=None):
        """
        Sweep as the next visit does; return whether lock and mark are there still.
        """
        disk = disk or RealDisk()
        archive = Mbox(self.path, OURS, host="mx", now=lambda: NOW, disk=disk)
        archive.open()
        archive.sweep(open_bases)
        archive.close()
        return self.lock.exists(), self.mark.exists()


@pytest.fixture
def left(tmp_path):
    return Left(tmp_path)


def test_a_dead_lock_is_broken_without_a_message_to_come(left):
    """
    Readers need not wait for the next message.
    """
    assert (False, False) == left.sweep()


def test_a_mark_lasts_as_long_as_its_lock(tmp_path):
    """
    As long as it is held there is the mark that would tell of it; then neither.
    """
    archive = Mbox(tmp_path / "all.mbox", OURS, host="mx", now=lambda: NOW)
    archive.open()
    lock, spool = tmp_path / "all.mbox.lock", tmp_path / ".popfetchd-spool"
    with archive.publishing(tmp_path / "all.mbox", lambda _: LeftOpen([], {})):
        held = [lock.samefile(file) for file in spool.iterdir()]
    archive.close()

    assert [True] == held
    assert ([], False) == (list(spool.iterdir()), lock.exists())


def test_a_lock_stays_while_a_row_is_open(left):
    """
    The mbox may be torn: the visit that settles the row breaks the lock itself.
    """
    (left.spool / "base").touch()
    assert (True, True) == left.sweep("base")
    assert (False, False) == left.sweep("of another archive")


def test_a_lock_stays_while_another_is_at_the_file(left):
    """
    Who has the fcntl lock may be the visit that made the dot lock.
    """
    fd = os.open(left.path, os.O_RDWR)
    try:
        RealDisk().lock_file(fd, fcntl.F_WRLCK)
        assert (True, True) == left.sweep()
    finally:
        os.close(fd)


def test_a_foreign_lock_stays(left):
    """
    Another program took the place of the one that the mark tells of.
    """
    left.lock.unlink()
    left.lock.write_bytes(b"1234:mx\n")
    assert (True, False) == left.sweep()


@pytest.mark.parametrize("content", [b"", b"popfetchd L0123456789ab\n/some"])
def test_a_mark_that_was_never_a_lock_goes(tmp_path, content):
    """
    It is linked into its place only when it is complete.
    """
    left = Left(tmp_path, content)
    left.lock.unlink()
    assert (False, False) == left.sweep()


def test_a_mark_of_an_mbox_that_is_gone_goes(left):
    """
    Nobody waits for a file that is not there.
    """
    left.path.unlink()
    assert (True, False) == left.sweep()


def test_a_lock_that_cannot_be_reached_holds_nothing_up(left):
    """
    It may be another account's, whose visit will tell what is wrong there.
    """
    disk = AlwaysFaultyDisk(lock_file=errno.EIO)
    assert (True, True) == left.sweep(disk=disk)


def test_a_dead_lock_of_another_date_is_broken(tmp_path):
    """
    Nothing may ever be published under that date again.
    """
    left = Left(tmp_path)
    template = tmp_path / "all-{year}.mbox"
    archive = Dated(
        Destination(ArchiveFormat.MBOX, template),
        OURS,
        lambda _: pytest.fail("no archive is opened for that"),
        host="mx",
        now=lambda: NOW,
        disk=RealDisk(),
    )
    archive.open()
    archive.sweep(())
    archive.close()

    assert not left.lock.exists()
