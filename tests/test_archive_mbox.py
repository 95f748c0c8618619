"""
The mbox: a message's way, each step failing, the table of recovery, others at the file.
"""

from __future__ import annotations

import errno
import hashlib
import mailbox
import os
import re

from types import SimpleNamespace

import pytest

from popfetchd.archive import Archive, RealDisk, locking
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
    LedgerId,
    LeftOpen,
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
            self.archive.prove([self.spooled(octets, number)])[0]
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


# -- recovery -------------------------------------------------------------------------


class Crash(Exception):
    """
    The end of a visit, at a place of the test's choice.
    """


def die(trial, act):
    """
    Begin to publish, *act*, and die.
    """
    with trial.publishing() as left:
        act(left)
        raise Crash


def die_recorded(trial, *messages):
    """
    Die when *messages* are recorded and not appended yet.
    """
    proved = trial.proved(*messages)
    with pytest.raises(Crash):
        die(trial, lambda _: trial.record(proved))
    trial.archive.close()


def crashed(path, *messages, before=THEIRS[:-1], wrote=None):
    """
    A visit that recorded *messages* and died; the file then held *wrote*, if it is told.
    """
    trial = Trial(path).open()
    path.write_bytes(before)
    die_recorded(trial, *messages)
    if wrote is not None:
        path.write_bytes(wrote)
    return trial


def again(trial):
    """
    The next visit: what became of each row, and the file afterwards.
    """
    after = Trial(trial.path)
    after.rows, after.claimed = trial.rows, trial.claimed
    after.open()
    said = after.settle()
    after.archive.close()
    assert {} == after.rows
    return list(said.values()), after.octets


ONE, TWO = in_mbox(1), in_mbox(2)
BOTH = THEIRS + ONE + TWO
PUBLISHED, ANEW, NOWHERE = "Published", "Recorded", "NoneType"


def flagged(entry):
    """
    What a reader makes of an entry that was read.
    """
    return entry.replace(b"\n\n", b"\nStatus: RO\nX-UID: 7\n\n", 1)


def zeros(octets):
    return b"\0" * len(octets)


@pytest.mark.parametrize(
    ("wrote", "said", "after"),
    [
        (THEIRS[:-1], [ANEW, ANEW], BOTH),
        (THEIRS, [ANEW, ANEW], BOTH),
        (THEIRS[:-1] + b"\0", [ANEW, ANEW], BOTH),
        (THEIRS + ONE[:1], [ANEW, ANEW], BOTH),
        (THEIRS + ONE[:-1], [ANEW, ANEW], BOTH),
        (THEIRS + ONE, [PUBLISHED, ANEW], BOTH),
        (THEIRS + ONE + TWO[:40], [PUBLISHED, ANEW], BOTH),
        (BOTH, [PUBLISHED, PUBLISHED], BOTH),
        (THEIRS + ONE + zeros(TWO), [PUBLISHED, ANEW], BOTH),
        (THEIRS + zeros(ONE) + TWO, [ANEW, ANEW], BOTH),
        (THEIRS[:-1] + zeros(b"\n" + ONE + TWO), [ANEW, ANEW], BOTH),
        (THEIRS + ONE[:70] + zeros(ONE[70:] + TWO[:30]), [ANEW, ANEW], BOTH),
        (BOTH + THEIRS, [PUBLISHED, PUBLISHED], BOTH + THEIRS),
    ],
    ids=[
        "nothing written",
        "only the gap",
        "the gap lost by a power cut",
        "one octet",
        "all but the last octet",
        "one of two",
        "one and a half",
        "all",
        "the second lost by a power cut",
        "the first lost by a power cut",
        "all lost by a power cut",
        "half a page lost by a power cut",
        "all, and others behind it",
    ],
)
def test_what_a_crash_left_is_put_right(tmp_path, wrote, said, after):
    """
    What is ours and not whole is cut off and appended again: nothing partial is in sight.
    """
    trial = crashed(tmp_path / "all.mbox", message(1), message(2), wrote=wrote)

    assert (said, after) == again(trial)


@pytest.mark.parametrize(
    ("wrote", "said", "behind"),
    [
        (THEIRS + ONE[:50] + THEIRS, [ANEW, ANEW], ONE + TWO),
        (THEIRS + ONE[:50] + THEIRS * 9, [ANEW, ANEW], ONE + TWO),
        (THEIRS + ONE[:50] + b"x", [ANEW, ANEW], b"\n\n" + ONE + TWO),
        (flagged(THEIRS) + flagged(ONE) + TWO, [PUBLISHED, PUBLISHED], b""),
        (flagged(THEIRS) + TWO, [ANEW, PUBLISHED], ONE),
        (flagged(THEIRS), [ANEW, ANEW], ONE + TWO),
        (TWO + flagged(ONE) + THEIRS, [PUBLISHED, PUBLISHED], b""),
        (b"", [ANEW, ANEW], ONE + TWO),
        (b"short", [ANEW, ANEW], b"\n\n" + ONE + TWO),
    ],
    ids=[
        "others wrote into what was torn",
        "others wrote far behind what was torn",
        "one octet that is not ours",
        "all read and flagged",
        "one deleted by its reader",
        "both deleted by their reader",
        "sorted",
        "emptied",
        "replaced",
    ],
)
def test_what_others_did_meanwhile_is_not_touched(tmp_path, wrote, said, behind):
    """
    A message is looked for everywhere; what is missing is appended behind all there is.
    """
    trial = crashed(tmp_path / "all.mbox", message(1), message(2), wrote=wrote)

    assert (said, wrote + behind) == again(trial)


@pytest.mark.parametrize(
    ("wrote", "said", "after"),
    [
        (THEIRS, [NOWHERE, ANEW], THEIRS + TWO),
        (THEIRS + ONE[:40], [NOWHERE, ANEW], THEIRS + ONE[:40] + b"\n\n" + TWO),
        (THEIRS + ONE, [PUBLISHED, ANEW], BOTH),
        (flagged(THEIRS) + ONE, [PUBLISHED, ANEW], flagged(THEIRS) + ONE + TWO),
    ],
    ids=["nothing written", "torn", "whole", "whole elsewhere"],
)
@pytest.mark.parametrize("how", ["gone", "altered"])
def test_without_its_spool_file_a_message_is_fetched_again(
    tmp_path, wrote, said, after, how
):
    """
    Unless it is in the mbox; and what cannot be put back is not cut off.
    """
    trial = crashed(tmp_path / "all.mbox", message(1), message(2), wrote=wrote)
    spool_file = trial.spool_folder / trial.rows[1].copy.base
    spool_file.unlink()
    if how == "altered":
        spool_file.write_bytes(b"something else")

    assert (said, after) == again(trial)


def test_messages_in_a_file_that_shrank_are_found(tmp_path):
    """
    Its reader deleted what stood before them.
    """
    trial = crashed(
        tmp_path / "all.mbox",
        message(1),
        message(2),
        before=THEIRS * 9,
        wrote=ONE + TWO,
    )

    assert ([PUBLISHED, PUBLISHED], ONE + TWO) == again(trial)


def test_a_message_without_an_end_is_torn_without_its_empty_line(tmp_path):
    """
    Though all of its own octets are there.
    """
    entry = ENTRY.replace(b"body\n", b"no end\n")
    sent = LETTER.replace(b"body\r\n", b"no end")
    trial = crashed(tmp_path / "all.mbox", sent, wrote=THEIRS + entry[:-1])

    assert ([ANEW], THEIRS + entry) == again(trial)


@pytest.mark.parametrize(
    ("wrote", "count"),
    [
        (THEIRS + ONE[:50] + THEIRS * 9, 1),
        (THEIRS + ONE[:50] + b"x", 1),
        (THEIRS + ONE[:50], 0),
        (THEIRS + ONE[:20] + THEIRS * 9, 0),
        (flagged(THEIRS) + flagged(ONE) + TWO, 0),
        (flagged(THEIRS) * 9, 0),
        (BOTH + THEIRS, 0),
    ],
)
@pytest.mark.parametrize("spool", ["there", "gone"])
def test_parts_that_stay_are_told(tmp_path, wrote, count, spool):
    """
    What was begun and could not be cut off is for a person to see (P5).
    """
    trial = crashed(tmp_path / "all.mbox", message(1), message(2), wrote=wrote)
    if spool == "gone":
        (trial.spool_folder / trial.rows[1].copy.base).unlink()
        count = int(wrote.startswith(THEIRS + b"From ") and ONE not in wrote)
    after = Trial(trial.path).open()
    after.rows = trial.rows
    with after.publishing() as left:
        for row in left:
            after.archive.settle(row)
        found = after.archive.fragments()
    after.archive.close()

    assert count == found


def test_a_spool_file_that_cannot_be_read_is_not_gone(tmp_path):
    """
    A disk that fails is told: the message is not given up for it.
    """
    trial = crashed(tmp_path / "all.mbox", message(1))

    def pread(real, fd, *rest):
        if "N1R" in path_of(fd).name:
            raise OSError(errno.EIO, "no")
        return real(fd, *rest)

    after = Trial(trial.path, AlwaysFaultyDisk(pread=pread)).open()
    after.rows = trial.rows
    with pytest.raises(ArchiveError, match="read back"):
        after.settle()
    after.archive.close()

    assert ([ANEW], BOTH.removesuffix(TWO)) == again(trial)


def test_an_mbox_that_is_gone_is_made_again(tmp_path):
    """
    With what the spool files hold.
    """
    trial = crashed(tmp_path / "all.mbox", message(1), message(2))
    trial.path.unlink()

    assert ([ANEW, ANEW], ONE + TWO) == again(trial)


@pytest.mark.parametrize(("claimed", "said"), [(0, PUBLISHED), (1, ANEW)])
def test_two_equal_messages_are_two(tmp_path, claimed, said):
    """
    One in the file that another's row claims is not ours.
    """
    there = flagged(THEIRS) + ONE
    trial = crashed(tmp_path / "all.mbox", message(1), wrote=there)
    trial.claimed = {trial.rows[1].copy.extent.bare: claimed}

    assert ([said], there + (ONE if claimed else b"")) == again(trial)


def test_two_equal_open_messages_are_two(tmp_path):
    """
    One that is found is found for one of the rows only.
    """
    trial = crashed(
        tmp_path / "all.mbox", message(1), message(1), wrote=flagged(THEIRS) + ONE
    )

    assert ([PUBLISHED, ANEW], flagged(THEIRS) + ONE + ONE) == again(trial)


def test_a_message_in_its_place_is_not_found_a_second_time(tmp_path):
    """
    Of two equal ones, one where it was put and one nowhere: the second is appended.
    """
    trial = crashed(
        tmp_path / "all.mbox", message(1), message(1), wrote=THEIRS + ONE + THEIRS * 9
    )

    assert ([PUBLISHED, ANEW], THEIRS + ONE + THEIRS * 9 + ONE) == again(trial)


def test_a_second_crash_is_put_right_too(tmp_path):
    """
    While what the first left was being appended again, at another place.
    """
    wrote = THEIRS + ONE[:50] + THEIRS
    trial = crashed(tmp_path / "all.mbox", message(1), wrote=wrote)
    second = Trial(trial.path).open()
    second.rows = trial.rows

    def placed_anew(left):
        (row,) = left
        assert row == second.archive.settle(row)
        (copy,) = second.archive.place([row.copy])
        second.rows = {row.row: Recorded(row.row, copy, row.content)}

    with pytest.raises(Crash):
        die(second, placed_anew)
    second.path.write_bytes(wrote + ONE[:60])
    second.archive.close()

    assert ([ANEW], wrote + ONE) == again(second)


def test_rows_that_do_not_adjoin_are_not_cut_off(tmp_path):
    """
    What lies between them may be anybody's.
    """
    trial = crashed(tmp_path / "all.mbox", message(1), message(2), message(3))
    del trial.rows[2]
    trial.path.write_bytes(THEIRS + ONE[:50])
    before = trial.octets

    assert ([ANEW, ANEW], before + b"\n\n" + ONE + in_mbox(3)) == again(trial)


def test_a_maildir_s_row_is_not_the_mbox_s(tmp_path):
    """
    One that was left open where a maildir once was is for its own account to settle.
    """
    trial = Trial(tmp_path / "all.mbox").open()
    copy = Copy(ArchiveFormat.MAILDIR, trial.path, "base", "base,S=1")
    row = Recorded(RowId(1), copy, hashlib.sha256().digest())
    trial.rows = {1: row}
    with trial.publishing() as left:
        assert [] == left
        with pytest.raises(ArchiveError, match="no mbox's message"):
            trial.archive.settle(row)
    trial.archive.close()


def test_a_row_of_another_configuration_has_its_own_spool_folder(tmp_path):
    """
    What a dated path once spooled elsewhere is found there, and swept from there.
    """
    elsewhere = tmp_path / "spool"
    trial = Trial(tmp_path / "all.mbox", spool=elsewhere).open()
    die_recorded(trial, message(1))

    assert ([ANEW], ONE) == again(trial)
    assert [] == [path for path in elsewhere.iterdir() if "N1R" in path.name]


def test_a_failing_fsync_is_not_believed(tmp_path):
    """
    What recovery looks for is first made to last, and then read from the disk.
    """
    trial = crashed(tmp_path / "all.mbox", message(1), wrote=THEIRS + ONE)
    done = []

    def noted(name):
        def call(real, fd, *rest):
            if path_of(fd).name == "all.mbox":
                done.append(name)
            return real(fd, *rest)

        return call

    disk = AlwaysFaultyDisk(
        fsync=noted("fsync"), drop_pages=noted("drop"), pread=noted("read")
    )
    after = Trial(trial.path, disk).open()
    after.rows = trial.rows
    after.settle()
    after.archive.close()

    assert ["fsync", "drop", "read"] == done[:3]
    assert "fsync" not in done[1:]


def test_what_cannot_be_cut_off_stays_locked(tmp_path):
    """
    No reader sees half a message; the next visit breaks our own lock and puts it right.
    """

    def fsync(real, fd):
        if path_of(fd).name == "all.mbox":
            raise OSError(errno.EIO, "no")
        real(fd)

    disk = AlwaysFaultyDisk(fsync=fsync, truncate=errno.EIO)
    trial = Trial(tmp_path / "all.mbox", disk).open()
    with pytest.raises(ArchiveError, match="fsync"), trial.publishing():
        trial.archive.publish(trial.record(trial.proved(message(1))))
    trial.archive.close()
    lock = tmp_path / "all.mbox.lock"

    assert lock.read_bytes() == b"popfetchd L0123456789ab\n%s/all.mbox\n" % os.fsencode(
        tmp_path
    )
    assert ([PUBLISHED], ONE) == again(trial)
    assert not lock.exists()


def test_a_recovery_that_cannot_cut_off_leaves_the_lock(tmp_path):
    """
    As it found it.
    """
    trial = crashed(tmp_path / "all.mbox", message(1), wrote=THEIRS + ONE[:9])
    after = Trial(trial.path, AlwaysFaultyDisk(truncate=errno.EIO)).open()
    after.rows = trial.rows
    with pytest.raises(ArchiveError, match="truncate"), after.publishing():
        pass
    after.archive.close()

    assert (tmp_path / "all.mbox.lock").exists()


def test_others_that_write_in_spite_of_our_locks_are_noticed(trial):
    """
    Before we write nothing is written, afterwards nothing of theirs is cut off.
    """

    def act(_):
        rows = trial.record(trial.proved(message(1)))
        trial.path.write_bytes(THEIRS)
        trial.archive.publish(rows)

    with pytest.raises(ArchiveError, match="in spite of our locks"):
        die(trial, act)
    assert trial.octets == THEIRS


def test_what_others_append_while_we_fail_is_left_alone(tmp_path):
    """
    Cut off is only what is ours, at the very end.
    """
    path = tmp_path / "all.mbox"

    def fsync(real, fd):
        if path_of(fd) == path:
            with path.open("ab") as file:
                file.write(THEIRS)
            raise OSError(errno.EIO, "no")
        real(fd)

    trial = Trial(path, AlwaysFaultyDisk(fsync=fsync)).open()
    with pytest.raises(ArchiveError), trial.publishing():
        trial.archive.publish(trial.record(trial.proved(message(1))))
    trial.archive.close()

    assert ONE + THEIRS == trial.octets


def test_a_disk_that_returns_other_octets_is_found_out(tmp_path):
    """
    What was appended is read back from the disk; what differs is cut off again.
    """

    def pread(real, fd, count, offset):
        octets = real(fd, count, offset)
        in_it = path_of(fd).name == "all.mbox"
        return octets.replace(b"body", b"bodz") if in_it else octets

    trial = Trial(tmp_path / "all.mbox", AlwaysFaultyDisk(pread=pread)).open()
    with pytest.raises(NotProved), trial.publishing():
        trial.archive.publish(trial.record(trial.proved(message(1))))
    trial.archive.close()

    assert b"" == trial.octets
    assert ([ANEW], ONE) == again(trial)


def test_a_spool_file_that_changed_is_not_appended(trial):
    """
    Not a message longer or shorter than was recorded.
    """
    proved = trial.proved(message(1), message(2))
    (trial.spool_folder / proved[0].spooled.copy.base).write_bytes(b"short")
    with pytest.raises(ArchiveError, match="not as it was"), trial.publishing():
        trial.archive.publish(trial.record(proved))
    assert b"" == trial.octets


# -- the highest number, and sweeping -------------------------------------------------


def test_the_highest_number_is_known_before_its_message_appears(tmp_path):
    """
    So that a ledger that was rolled back is found out, whenever the machine died.
    """
    seen = []

    def pwrite(real, fd, octets, offset):
        if path_of(fd).name == "all.mbox":
            seen.append(trial.archive.highest_number())
        return real(fd, octets, offset)

    trial = Trial(tmp_path / "all.mbox", AlwaysFaultyDisk(pwrite=pwrite)).open()
    assert 0 == trial.archive.highest_number()
    trial.archived(message(1), message(2))

    assert {2} == set(seen)
    assert 2 == trial.archive.highest_number()
    trial.archive.close()


def test_only_our_own_orphans_are_swept(trial):
    """
    A spool file without a row, of our ledger; nothing while another visit is at work.
    """
    one, other = trial.spooled(number=1).copy, trial.spooled(number=2).copy
    beside = Trial(trial.path.parent / "beside.mbox").open()

    assert 0 == trial.archive.sweep(())
    beside.archive.close()
    assert 1 == trial.archive.sweep({other.base})
    assert not (trial.spool_folder / one.base).exists()
    assert (trial.spool_folder / other.base).exists()


# -- looking at it again --------------------------------------------------------------


@pytest.mark.parametrize(
    ("then", "expected"),
    [
        (THEIRS + ONE, Condition.WHOLE),
        (THEIRS + ONE + THEIRS, Condition.WHOLE),
        (flagged(THEIRS) + flagged(ONE), Condition.MOVED),
        (ONE + THEIRS, Condition.MOVED),
        (THEIRS + ONE.replace(b"body", b"bodz"), Condition.ALTERED),
        (THEIRS + ONE.replace(b"body", b"bodz") + THEIRS, Condition.ALTERED),
        (THEIRS + ONE.replace(b"From ada", b"Grom ada"), Condition.ALTERED),
        (THEIRS + ONE[:-9], Condition.TRUNCATED),
        (THEIRS, Condition.MISSING),
        (THEIRS * 9, Condition.MISSING),
        (THEIRS + b"something else that is short", Condition.MISSING),
        (b"", Condition.MISSING),
        (None, Condition.MISSING),
    ],
)
def test_how_a_copy_is_found(trial, then, expected):
    """
    What readers do to a file is no damage; a bit that flipped is.
    """
    trial.path.write_bytes(THEIRS)
    (row,) = trial.archived(message(1))
    if then is None:
        trial.path.unlink()
    else:
        trial.path.write_bytes(then)

    assert expected == trial.archive.check(row.copy, row.content)
    assert expected == trial.archive.check(row.copy, row.content)


def test_a_copy_that_never_had_a_place_is_missing(trial):
    """
    Such as one that was only spooled.
    """
    trial.path.touch()
    spooled = trial.spooled()

    assert Condition.MISSING == trial.archive.check(
        spooled.copy, spooled.fingerprint.content
    )


def test_an_unchanged_file_is_read_once(tmp_path):
    """
    However many of its messages are looked for; a flagged one costs no whole reading.
    """
    disk = FaultyDisk()
    trial = Trial(tmp_path / "all.mbox", disk).open()
    rows = trial.archived(*(message(n) for n in range(10)))
    trial.path.write_bytes(b"".join(flagged(in_mbox(n)) for n in range(10)))
    costs = []
    for row in rows:
        before = len([1 for name, _ in disk.calls if name == "pread"])
        assert Condition.MOVED == trial.archive.check(row.copy, row.content)
        costs.append(len([1 for name, _ in disk.calls if name == "pread"]) - before)
    trial.archive.close()

    assert costs[0] > max(costs[1:])
    assert 3 >= max(costs[1:])


# -- locks ----------------------------------------------------------------------------


def test_a_foreign_dot_lock_is_waited_for_and_never_broken(trial):
    """
    For half a minute; then it is told who is in the way and what to do.
    """
    lock = trial.path.with_name("all.mbox.lock")
    lock.write_bytes(b"1234:mx\n")

    with pytest.raises(ArchiveLocked) as raised, trial.publishing():
        pass
    assert b"1234:mx\n" == lock.read_bytes()
    assert round(locking.LONGEST_WAIT / locking.PAUSE) == len(trial.waited)
    assert f"{trial.path}: lock: locked by another program for 30 s" == str(
        raised.value
    )
    assert [] == trial.spool_files()


@pytest.mark.parametrize("content", [b"", b"popfetchd Lffffffffffff\n", None])
def test_only_a_lock_that_names_our_ledger_is_ours(trial, content):
    """
    An empty one, another ledger's, a link to who knows where: foreign.
    """
    lock = trial.path.with_name("all.mbox.lock")
    if content is None:
        lock.symlink_to("nowhere")
    else:
        lock.write_bytes(content)

    with pytest.raises(ArchiveLocked), trial.publishing():
        pass


def test_a_lock_that_our_dead_visit_left_is_broken(trial):
    """
    At once: we hold the fcntl lock, so its maker does not live.
    """
    trial.path.with_name("all.mbox.lock").write_bytes(b"popfetchd L0123456789ab\n")
    trial.archived(LETTER)

    assert [] == trial.waited
    assert not trial.path.with_name("all.mbox.lock").exists()


def test_another_visit_of_ours_is_waited_for(trial):
    """
    Its dot lock names our ledger, and is not taken for a dead one's.
    """
    beside = Trial(trial.path).open()
    with trial.publishing():
        with pytest.raises(ArchiveLocked), beside.publishing():
            pass
        assert trial.path.with_name("all.mbox.lock").exists()
    with beside.publishing():
        pass
    beside.archive.close()


def test_nothing_is_held_while_others_are_waited_for(trial):
    """
    Who has the dot lock and waits for the file itself is not waited for in vain.
    """
    lock = trial.path.with_name("all.mbox.lock")
    lock.touch()
    could = []

    def pause(seconds):
        fd = os.open(trial.path, os.O_RDWR)
        RealDisk().lock_file(fd, locking.fcntl.F_WRLCK)
        os.close(fd)
        could.append(seconds)
        lock.unlink()

    trial.archive._pause = pause
    with trial.publishing():
        pass

    assert [locking.PAUSE] == could


def test_a_file_that_was_replaced_meanwhile_is_not_written(tmp_path):
    """
    Python's mailbox renames a new file over the old one: ours must be the new one.
    """
    path = tmp_path / "all.mbox"
    path.write_bytes(b"old")
    replaced = []

    def lock_file(real, fd, kind):
        real(fd, kind)
        if not replaced:
            (tmp_path / "new").write_bytes(THEIRS)
            (tmp_path / "new").rename(path)
            replaced.append(1)

    trial = Trial(path, AlwaysFaultyDisk(lock_file=lock_file)).open()
    trial.archived(LETTER)
    trial.archive.close()

    assert THEIRS + ENTRY == trial.octets


def test_where_no_links_are_the_lock_is_renamed_into_place(tmp_path):
    """
    FAT has none; the lock is whole at each instant all the same.
    """
    trial = Trial(tmp_path / "all.mbox", AlwaysFaultyDisk(link=errno.EPERM)).open()
    trial.archived(message(1))
    lock = tmp_path / "all.mbox.lock"
    lock.touch()
    with pytest.raises(ArchiveLocked), trial.publishing():
        pass
    trial.archive.close()

    assert ONE == trial.octets


def test_a_lock_that_goes_while_it_is_looked_at_is_tried_again(tmp_path):
    """
    Its owner was just done.
    """
    lock = tmp_path / "all.mbox.lock"
    lock.touch()

    def open_(real, name, *rest):
        if name == lock.name:
            lock.unlink(missing_ok=True)
        return real(name, *rest)

    trial = Trial(tmp_path / "all.mbox", AlwaysFaultyDisk(open=open_)).open()
    trial.archived(message(1))
    trial.archive.close()

    assert [locking.PAUSE] == trial.waited


def test_our_dead_lock_that_another_breaks_first_is_his(tmp_path):
    """
    Between our look and our link: wait for him.
    """
    lock = tmp_path / "all.mbox.lock"
    lock.write_bytes(b"popfetchd L0123456789ab\n")

    def unlink(real, name, *rest):
        real(name, *rest)
        if name == lock.name:
            lock.write_bytes(b"his")

    trial = Trial(tmp_path / "all.mbox", FaultyDisk({("unlink", 0): unlink})).open()
    with pytest.raises(ArchiveLocked), trial.publishing():
        pass
    trial.archive.close()

    assert b"his" == lock.read_bytes()


def test_a_lock_that_another_took_from_us_is_left_to_him(trial):
    """
    It is not ours to remove.
    """
    lock = trial.path.with_name("all.mbox.lock")
    with trial.publishing():
        lock.unlink()
        lock.write_bytes(b"his")

    assert b"his" == lock.read_bytes()


def test_who_reads_waits_for_who_writes(trial):
    """
    What is half written anew is not taken for damage.
    """
    (row,) = trial.archived(LETTER)
    beside = Trial(trial.path).open()
    with beside.publishing(), pytest.raises(ArchiveLocked):
        trial.archive.check(row.copy, row.content)
    beside.archive.close()


def test_nothing_stays_open(tmp_path):
    """
    Whatever fails while the locks are taken.
    """
    clean = FaultyDisk()
    trial = Trial(tmp_path / "clean" / "all.mbox", clean).open()
    start = len(clean.calls)
    with trial.publishing():
        pass
    calls = [call for call in clean.calls[start:] if call[0] != "close"]
    trial.archive.close()
    before = open_descriptors()
    for nth, call in enumerate(calls):
        disk = FaultyDisk({call: errno.EIO})
        trial = Trial(tmp_path / str(nth) / "all.mbox", disk).open()
        with pytest.raises(ArchiveError), trial.publishing():
            pass
        trial.archive.close()
        assert before == open_descriptors(), call


@pytest.mark.parametrize("call", ["open", "fstat", "flock"])
def test_nothing_stays_open_where_it_cannot_be_opened(tmp_path, call):
    """
    Each failing call of `open` itself.
    """
    clean = FaultyDisk()
    Trial(tmp_path / "deep" / "all.mbox", clean).open().archive.close()
    before = open_descriptors()
    for nth in range(len([1 for name, _ in clean.calls if name == call])):
        path = tmp_path / f"{call}{nth}" / "all.mbox"
        try:
            Trial(path, FaultyDisk({(call, nth): errno.EIO})).open().archive.close()
        except ArchiveError:
            assert call != "flock"

    assert before == open_descriptors()


# -- the order of what is made to last ------------------------------------------------


class Noting(RealDisk):
    """
    Notes what is made to last, and what becomes visible, in order.
    """

    def __init__(self, folder):
        self.folder = folder
        self.done = []

    def called(self, path):
        name = os.path.relpath(path, self.folder.parent)
        return re.sub(r"\d+\.L\w+N(\d+)R\w+\.mx", r"N\1", name)

    def fsync(self, fd):
        self.done.append(f"fsync {self.called(path_of(fd))}")
        super().fsync(fd)

    def pwrite(self, fd, octets, offset):
        note = f"write {self.called(path_of(fd))}"
        if self.done[-1:] != [note]:
            self.done.append(note)
        return super().pwrite(fd, octets, offset)

    def link(self, name, folder, to, to_folder):
        self.done.append(f"link {to}")
        super().link(name, folder, to, to_folder)

    def unlink(self, name, folder):
        self.done.append(f"unlink {self.called(path_of(folder) / name)}")
        super().unlink(name, folder)


SPOOL = "mail/.popfetchd-spool"


def test_the_order_of_a_batch_is_the_promise(tmp_path):
    """
    The lock is whole before it is there; spool files and number last before the first
    octet stands in the mbox, and the names of mbox and lock with them; the mbox itself
    before the row may be committed.
    """
    disk = Noting(tmp_path / "mail")
    trial = Trial(tmp_path / "mail" / "all.mbox", disk).open()
    proved = trial.proved(message(1), message(2))
    disk.done.clear()
    with trial.publishing():
        trial.archive.publish(trial.record(proved))
        disk.done.append("commit")
    trial.archive.close()

    assert [
        f"write {SPOOL}/N0",
        f"fsync {SPOOL}/N0",
        "link all.mbox.lock",
        f"write {SPOOL}/highest.L0123456789ab",
        f"fsync {SPOOL}/highest.L0123456789ab",
        f"fsync {SPOOL}",
        "fsync mail",
        "fsync mail",
        "fsync .",
        "write mail/all.mbox",
        "fsync mail/all.mbox",
        "commit",
        "unlink mail/all.mbox.lock",
        "fsync mail",
        f"unlink {SPOOL}/N0",
    ] == disk.done


def test_what_is_found_is_made_to_last(tmp_path):
    """
    The mbox, its name and its folder's, before a row may be committed; and that the lock
    is gone, afterwards.
    """
    trial = crashed(tmp_path / "mail" / "all.mbox", message(1), wrote=THEIRS + ONE)
    disk = Noting(tmp_path / "mail")
    after = Trial(trial.path, disk).open()
    after.rows = trial.rows
    disk.done.clear()
    with after.publishing() as (row,):
        assert isinstance(after.archive.settle(row), Published)
    after.archive.close()

    assert ["fsync mail/all.mbox", "fsync mail", "fsync .", "fsync mail"] == [
        step for step in disk.done if step.startswith("fsync") and SPOOL not in step
    ]


def test_only_the_end_is_read_after_a_crash(tmp_path):
    """
    Where the file ends as we left it, no message is looked for in all the rest.
    """
    before = THEIRS * 2000
    trial = crashed(
        tmp_path / "all.mbox", message(1), before=before, wrote=before + ONE[:9]
    )
    offsets = []

    def pread(real, fd, count, offset):
        if path_of(fd).name == "all.mbox":
            offsets.append(offset)
        return real(fd, count, offset)

    after = Trial(trial.path, AlwaysFaultyDisk(pread=pread)).open()
    after.rows = trial.rows
    after.settle()
    after.archive.close()

    assert before + ONE == after.octets
    assert min(offsets) >= len(before) - 2


def test_a_batch_may_follow_what_was_settled(tmp_path):
    """
    Within the same locks, behind it.
    """
    trial = crashed(tmp_path / "all.mbox", message(1))
    after = Trial(trial.path).open()
    after.rows = trial.rows
    proved = after.proved(message(2))
    with after.publishing() as (row,):
        after.archive.publish([after.archive.settle(row)])
        after.archive.publish(after.record(proved))
    after.archive.close()

    assert BOTH == after.octets
