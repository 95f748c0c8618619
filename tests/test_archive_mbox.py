"""
The mbox: a message's way, each step failing, the table of recovery, others at the file.
"""

from __future__ import annotations

import errno
import hashlib
import mailbox
import os

from types import SimpleNamespace

import pytest

from popfetchd.archive import Archive, RealDisk
from popfetchd.archive import locking
from popfetchd.archive.mbox import Mbox
from popfetchd.errors import (
    ArchiveError,
    ArchiveLocked,
    DiskFull,
    NotProved,
    UnsafeArchive,
)
from popfetchd.values import (
    ArchiveFormat,
    Condition,
    Copy,
    LeftOpen,
    LedgerId,
    Listed,
    MessageNumber,
    Octets,
    Published,
    Recorded,
    RowId,
    SessionId,
    UniqueId,
)
from tests.faulty_disk import AlwaysFaultyDisk, FaultyDisk, open_descriptors, path_of


NOW = 1_700_000_000.0
OURS = LedgerId("0123456789ab")
ANOTHER = LedgerId("ffffffffffff")
LETTER = (
    b"Return-Path: <ada@example.org>\r\nSubject: hello\r\n\r\n"
    b"From here on\r\n>From there\r\nbody\r\n"
)
STORED = LETTER.replace(b"\r\n", b"\n")
LISTED = Listed(SessionId("s"), MessageNumber(1), UniqueId("u"), Octets(len(LETTER)))
ENTRY = (
    b"From ada@example.org Tue Nov 14 22:13:20 2023\n"
    b"Return-Path: <ada@example.org>\nSubject: hello\n\n"
    b">From here on\n>>From there\nbody\n\n"
)
THEIRS = b"From bob Thu Jan  1 00:00:00 1970\nSubject: theirs\n\ntext\n\n"


def message(number):
    return LETTER.replace(b"hello", b"hello %d" % number)


def in_mbox(number):
    return ENTRY.replace(b"hello", b"hello %d" % number)


class Trial:
    """
    An mbox, and the rows that a ledger would hold of it.
    """

    def __init__(self, path, disk=None, ledger=OURS, **more):
        self.path = path
        self.rows = {}
        """What is recorded and not yet published."""
        self.claimed = {}
        self.waited = []
        self.archive = Mbox(
            path,
            ledger,
            host="mx",
            now=lambda: NOW,
            disk=disk or RealDisk(),
            pause=self.waited.append,
            **more,
        )

    def open(self):
        self.archive.open()
        return self

    def left_open(self, directory):
        assert self.path == directory
        return LeftOpen(list(self.rows.values()), self.claimed)

    def publishing(self):
        return self.archive.publishing(self.path, self.left_open)

    def spooled(self, octets=LETTER, number=1):
        spool = self.archive.spool(LISTED, number)
        spool.write(octets)
        return spool.finish()

    def proved(self, *messages):
        """
        Messages that are spooled and proved; numbered from 1.
        """
        return [
            self.archive.prove(self.spooled(octets, number))
            for number, octets in enumerate(messages, len(self.rows) + 1)
        ]

    def record(self, proved):
        """
        Record them, as the ledger does, where the mbox says; return the rows.
        """
        copies = self.archive.place([each.spooled.copy for each in proved])
        rows = [
            Recorded(RowId(each.spooled.number), copy, each.spooled.fingerprint.content)
            for each, copy in zip(proved, copies, strict=True)
        ]
        self.rows |= {row.row: row for row in rows}
        return rows

    def commit(self, published):
        for each in published:
            del self.rows[each.recorded.row]

    def archived(self, *messages):
        """
        Take messages the whole way; return their rows.
        """
        proved = self.proved(*messages)
        with self.publishing() as left:
            assert [] == list(left)
            rows = self.record(proved)
            self.commit(self.archive.publish(rows))
        for row in rows:
            self.archive.discard(row.copy)
        return rows

    def settle(self):
        """
        Do what a visit does with what is left open; return what became of each row.
        """
        said = {}
        with self.publishing() as left:
            anew = []
            for row in left:
                found = self.archive.settle(row)
                said[row.row] = type(found).__name__
                if isinstance(found, Published):
                    self.commit([found])
                elif found is None:
                    del self.rows[row.row]
                else:
                    anew.append(found)
            copies = self.archive.place([row.copy for row in anew])
            again = [
                Recorded(row.row, copy, row.content)
                for row, copy in zip(anew, copies, strict=True)
            ]
            self.rows |= {row.row: row for row in again}
            self.commit(self.archive.publish(again))
            for row in left:
                self.archive.discard(row.copy)
        return said

    @property
    def octets(self):
        return self.path.read_bytes()

    @property
    def spool_folder(self):
        return self.path.parent / ".popfetchd-spool"

    def spool_files(self):
        return sorted(p for p in self.spool_folder.iterdir() if ".L" in p.stem[:13])


@pytest.fixture
def trial(tmp_path):
    made = Trial(tmp_path / "all.mbox").open()
    yield made
    made.archive.close()


def as_archive(mbox: Mbox) -> Archive:
    """
    What mypy sees of this line is the test: an Mbox is an Archive.
    """
    return mbox


# -- a message's way ------------------------------------------------------------------


def test_a_message_goes_from_the_spool_folder_to_the_mbox(trial):
    """
    Quoted, behind its From_ line, with one empty line; nothing else is left behind.
    """
    (row,) = trial.archived(LETTER)

    assert ENTRY == trial.octets
    assert 0o600 == trial.path.stat().st_mode & 0o777
    assert (0, len(ENTRY)) == row.copy.extent[:2]
    assert (ArchiveFormat.MBOX, trial.path) == (row.copy.format, row.copy.directory)
    assert ["all.mbox"] == [
        p.name for p in trial.path.parent.iterdir() if p != trial.spool_folder
    ]
    assert [] == trial.spool_files()
    assert hashlib.sha256(STORED).digest() == row.content


def test_a_batch_stands_one_behind_the_other(trial):
    """
    And the next batch behind it; each where its row says.
    """
    rows = trial.archived(message(1), message(2)) + trial.archived(message(3))

    assert in_mbox(1) + in_mbox(2) + in_mbox(3) == trial.octets
    assert [0, len(in_mbox(1)), 2 * len(in_mbox(1))] == [
        row.copy.extent.offset for row in rows
    ]


@pytest.mark.parametrize(
    ("before", "added"),
    [
        (b"", b""),
        (THEIRS, b""),
        (THEIRS[:-1], b"\n"),
        (THEIRS[:-2], b"\n\n"),
        (b"no mbox at all", b"\n\n"),
        (b"\n", b"\n"),
    ],
)
def test_what_others_wrote_is_never_altered(trial, before, added):
    """
    What is missing at its end is put behind it, before our From_ line.
    """
    trial.path.write_bytes(before)
    trial.archived(LETTER)

    assert before + added + ENTRY == trial.octets


@pytest.mark.parametrize(
    "octets", [b"", b"no end", b"bare\nand\r\npaired", b"a\r\n\r\n\r\n", b"\0\r\n"]
)
def test_strange_messages_are_proved_too(trial, octets):
    """
    Whatever a server may send.
    """
    (row,) = trial.archived(octets)

    assert Condition.WHOLE == trial.archive.check(row.copy, row.content)


def test_nothing_to_publish_touches_nothing(trial):
    """
    A batch that was adopted whole.
    """
    with trial.publishing():
        assert [] == trial.archive.place([])
        assert [] == trial.archive.publish([])

    assert b"" == trial.octets


def test_python_reads_what_we_wrote(trial):
    """
    As many messages, none split at its From lines.
    """
    trial.archived(*(message(n) for n in range(5)))
    box = mailbox.mbox(trial.path, create=False)
    subjects = [each["subject"] for each in box]
    box.close()

    assert [f"hello {n}" for n in range(5)] == subjects


# -- open -----------------------------------------------------------------------------


def test_the_spool_folder_is_private_and_beside_the_mbox(tmp_path):
    """
    Made with mode 0700 whatever the umask (P4); the mbox itself is made when needed.
    """
    before = os.umask(0)
    try:
        Trial(tmp_path / "deep" / "all.mbox").open().archive.close()
    finally:
        os.umask(before)
    made = list((tmp_path / "deep").rglob("*"))

    assert [".popfetchd-spool"] == [path.name for path in made]
    assert {0o40700} == {path.stat().st_mode for path in made}


def test_two_devices_are_refused(tmp_path):
    """
    The dot lock is a link from one to the other.
    """

    def fstat(real, fd):
        found = real(fd)
        device = path_of(fd).name == ".popfetchd-spool"
        return SimpleNamespace(st_uid=found.st_uid, st_dev=device)

    with pytest.raises(UnsafeArchive, match="is on another device"):
        Trial(tmp_path / "all.mbox", AlwaysFaultyDisk(fstat=fstat)).open()


@pytest.mark.parametrize("kind", ["folder", "fifo", "link"])
def test_what_is_no_file_is_refused(trial, kind):
    """
    A folder (a maildir, perhaps), a pipe that would hang us, a link to elsewhere.
    """
    {
        "folder": trial.path.mkdir,
        "fifo": lambda: os.mkfifo(trial.path),
        "link": lambda: trial.path.symlink_to("elsewhere"),
    }[kind]()

    with pytest.raises(ArchiveError), trial.publishing():
        pass
    assert not (trial.path.parent / "elsewhere").exists()


def test_an_mbox_that_is_not_open_says_so(tmp_path):
    """
    Before `open`, after `close`, and outside of its locks.
    """
    trial = Trial(tmp_path / "all.mbox")
    with pytest.raises(ArchiveError, match="the spool folder is not open"):
        trial.spooled()
    with pytest.raises(ArchiveError, match="not open"), trial.publishing():
        pass
    trial.open()
    with pytest.raises(ArchiveError, match="the mbox is not locked"):
        trial.archive.place([])
    trial.archive.close()
    trial.archive.close()


def test_another_mbox_s_message_is_refused(trial, tmp_path):
    """
    A row whose copy is elsewhere must not be settled, published or discarded here.
    """
    other = Trial(tmp_path / "other.mbox").open()
    (theirs,) = other.archived(LETTER)
    other.archive.close()

    for act in (
        lambda: trial.archive.settle(theirs),
        lambda: trial.archive.publish([theirs]),
        lambda: trial.archive.discard(theirs.copy),
        lambda: trial.archive.check(theirs.copy, theirs.content),
        lambda: trial.archive.publishing(other.path, None).__enter__(),
    ):
        with pytest.raises(UnsafeArchive, match="the copy belongs in"):
            act()


# -- each step failing ----------------------------------------------------------------


def test_any_failing_call_is_told_and_the_next_visit_puts_it_right(tmp_path):
    """
    Each call from recording to the last unlink, failing in each way: the right error, no
    part of a message in sight, and after the next visit each message is there once.
    """
    clean = FaultyDisk()
    trial = Trial(tmp_path / "clean" / "all.mbox", clean).open()
    trial.path.write_bytes(THEIRS[:-1])
    proved = trial.proved(message(1), message(2))
    start = len(clean.calls)
    with trial.publishing():
        trial.archive.publish(trial.record(proved))
    calls = clean.calls[start:]
    trial.archive.close()
    assert 60 < len(calls) < 200

    for nth, call in enumerate(calls):
        for number, kind in ((errno.EIO, ArchiveError), (errno.ENOSPC, DiskFull)):
            disk = FaultyDisk({call: failing(call[0], number)})
            trial = Trial(tmp_path / f"{nth}-{number}" / "all.mbox", disk).open()
            trial.path.write_bytes(THEIRS[:-1])
            proved = trial.proved(message(1), message(2))
            failed = publish_or_fail(trial, proved, kind)
            assert failed or call[0] in MAY_FAIL, call
            assert trial.octets in (THEIRS[:-1], THEIRS + in_mbox(1) + in_mbox(2))
            trial.archive.close()
            again_and_whole(trial, proved, call)


def failing(name, number):
    """
    Return a fault; a close that fails has closed all the same (close(2)).
    """

    def close(real, fd):
        real(fd)
        raise OSError(number, os.strerror(number))

    return close if name == "close" else number


MAY_FAIL = {"geteuid"}
"""Calls whose failure is no failure of ours."""


def publish_or_fail(trial, proved, kind):
    """
    Return whether it failed, which it must as *kind*.
    """
    try:
        with trial.publishing():
            published = trial.archive.publish(trial.record(proved))
        trial.commit(published)
    except kind:
        return True
    return False


def again_and_whole(trial, proved, why):
    """
    Make the next visit on a disk that works; all must be there, once.
    """
    again = Trial(trial.path).open()
    again.rows = trial.rows
    again.settle()
    if not trial.rows and trial.octets == THEIRS[:-1]:
        with again.publishing():
            again.commit(again.archive.publish(again.record(proved)))
    again.archive.close()
    assert THEIRS + in_mbox(1) + in_mbox(2) == again.octets, why
    assert not again.path.with_name("all.mbox.lock").exists()
