"""
The maildir: a message's way, the table of settling, and what sweeping leaves alone.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re

from pathlib import Path
from types import SimpleNamespace

import pytest

from popfetchd.archive import Archive, Maildir, RealDisk, restore
from popfetchd.archive.maildir import COARSEST
from popfetchd.errors import ArchiveError, DiskFull, NotProved, UnsafeArchive
from popfetchd.values import (
    ArchiveFormat,
    ContentDigest,
    Copy,
    LedgerId,
    Listed,
    MessageNumber,
    Octets,
    Recorded,
    RowId,
    SessionId,
    UniqueId,
)
from tests.faulty_disk import (
    AlwaysFaultyDisk,
    FaultyDisk,
    open_descriptors,
    path_of,
)


NOW = 1_700_000_000.0
OURS = LedgerId("0123456789ab")
ANOTHER = LedgerId("ffffffffffff")
LETTER = b"Subject: hello\r\n\r\nbody\r\n"
STORED = LETTER.replace(b"\r\n", b"\n")
LISTED = Listed(SessionId("s"), MessageNumber(1), UniqueId("u"), Octets(len(LETTER)))


class Trial:
    """
    A maildir, and a message on its way through it.
    """

    def __init__(self, path, disk=None, ledger=OURS):
        self.path = path
        self.archive = Maildir(
            path, ledger, host="mx", now=lambda: NOW, disk=disk or RealDisk()
        )

    def open(self):
        self.archive.open()
        return self

    def spooled(self, octets=LETTER, number=1):
        spool = self.archive.spool(LISTED, number)
        spool.write(octets)
        return spool.finish()

    def recorded(self, octets=LETTER, number=1):
        """
        A message that is spooled, proved and recorded: where a crash leaves an open row.
        """
        spooled = self.spooled(octets, number)
        self.archive.prove([spooled])
        return Recorded(RowId(number), spooled.copy, spooled.fingerprint.content)

    def has(self, folder):
        return sorted(entry.name for entry in (self.path / folder).iterdir())


@pytest.fixture
def trial(tmp_path):
    made = Trial(tmp_path / "mail").open()
    yield made
    made.archive.close()


def as_archive(maildir: Maildir) -> Archive:
    """
    What mypy sees of this line is the test: a Maildir is an Archive.
    """
    return maildir


# -- open -----------------------------------------------------------------------------


def test_a_maildir_is_made_for_us_alone(tmp_path):
    """
    The folder and its three are there, mode 0700 whatever the umask (P4).
    """
    before = os.umask(0)
    try:
        Trial(tmp_path / "deep" / "mail").open().archive.close()
    finally:
        os.umask(before)
    made = [tmp_path / "deep", *(tmp_path / "deep").rglob("*")]

    assert ["cur", "deep", "mail", "new", "tmp"] == sorted(path.name for path in made)
    assert {0o40700} == {path.stat().st_mode for path in made}


def test_a_reader_s_maildir_is_taken_as_it_is(trial):
    """
    Opening it again changes nothing.
    """
    (trial.path / "cur" / "theirs:2,S").write_bytes(b"x")
    Trial(trial.path).open().archive.close()

    assert ["theirs:2,S"] == trial.has("cur")


@pytest.mark.parametrize("name", ["tmp", "new", "cur"])
def test_a_link_in_a_maildir_is_refused(tmp_path, name):
    """
    It would lead the mail elsewhere than where the ledger says.
    """
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "mail").mkdir()
    (tmp_path / "mail" / name).symlink_to("../elsewhere")

    with pytest.raises(UnsafeArchive, match=f"{name}: open: is a symbolic link"):
        Trial(tmp_path / "mail").open()


def test_three_folders_on_two_devices_are_refused(tmp_path):
    """
    No link could be made between them.
    """
    Trial(tmp_path / "mail").open().archive.close()

    def fstat(real, fd):
        return SimpleNamespace(st_uid=os.geteuid(), st_dev=path_of(fd).name == "new")

    with pytest.raises(UnsafeArchive, match="different devices") as raised:
        Trial(tmp_path / "mail", AlwaysFaultyDisk(fstat=fstat)).open()
    assert "put the whole maildir on one file system" == raised.value.hint


def test_every_failing_call_of_open_is_told_and_nothing_stays_open(tmp_path):
    """
    An ArchiveError, no descriptor is left; only locks may be missing (NFS).
    """
    clean = FaultyDisk()
    Trial(tmp_path / "clean", clean).open().archive.close()
    before = open_descriptors()
    for nth, call in enumerate(clean.calls):
        if call[0] in {"geteuid", "close", "flock"}:
            continue  # what fails to close would stay open
        with pytest.raises(ArchiveError):
            Trial(tmp_path / str(nth), FaultyDisk({call: errno.EIO})).open()

    assert before == open_descriptors()
    for call in [("close", 0), ("flock", 0)]:
        Trial(tmp_path / "clean", FaultyDisk({call: errno.EIO})).open().archive.close()


def test_a_maildir_that_is_not_open_says_so(tmp_path):
    """
    Before `open` and after `close`, which may be called again.
    """
    trial = Trial(tmp_path / "mail")
    with pytest.raises(ArchiveError, match="the maildir is not open"):
        trial.spooled()
    trial.open().archive.close()
    trial.archive.close()
    with pytest.raises(ArchiveError, match="the maildir is not open"):
        trial.archive.highest_number()


def test_what_was_opened_is_what_is_used(trial, tmp_path):
    """
    A maildir that is renamed and replaced by a link still gets its own mail.
    """
    (tmp_path / "trap").mkdir()
    for name in ("tmp", "new", "cur"):
        (tmp_path / "trap" / name).mkdir()
    trial.path.rename(tmp_path / "moved")
    trial.path.symlink_to("trap")
    trial.archive.publish([trial.recorded()])

    assert [] == list((tmp_path / "trap" / "new").iterdir())
    assert 1 == len(list((tmp_path / "moved" / "new").iterdir()))


# -- a message's way ------------------------------------------------------------------


def test_a_message_goes_from_tmp_to_new(trial):
    """
    Spooled under its base, published under its final name, then in one place only.
    """
    recorded = trial.recorded()
    copy = recorded.copy
    assert ([copy.base], [], []) == tuple(map(trial.has, ("tmp", "new", "cur")))

    (published,) = trial.archive.publish([recorded])
    assert recorded == published.recorded
    trial.archive.discard(copy)
    trial.archive.discard(copy)

    assert ([], [copy.name], []) == tuple(map(trial.has, ("tmp", "new", "cur")))
    assert re.fullmatch(r"1700000000\.L0123456789abN1R[0-9a-f]{32}\.mx,S=21", copy.name)
    assert (ArchiveFormat.MAILDIR, trial.path) == (copy.format, copy.directory)
    assert (trial.path / "new" / copy.name).read_bytes() == STORED


def test_what_the_server_sent_can_be_restored(trial):
    """
    From the file that is in the archive, by the form that is recorded.
    """
    spooled = trial.spooled(b"bare\nand\r\npaired")
    path = trial.path / "tmp" / spooled.copy.base

    assert b"bare\nand\r\npaired" == b"".join(restore(path, spooled.fingerprint.form))


def test_a_message_without_a_date_bears_the_visit_s_start(trial):
    """
    Which is when the maildir was opened.
    """
    spooled = trial.spooled()

    assert NOW == (trial.path / "tmp" / spooled.copy.base).stat().st_mtime


def test_a_batch_costs_one_fsync_of_new(tmp_path):
    """
    The first also makes the maildir itself last; an empty one costs nothing.
    """
    disk = FaultyDisk()
    trial = Trial(tmp_path / "mail", disk).open()
    batches = [
        [trial.recorded(number=n) for n in numbers] for numbers in ((1, 2), (3, 4))
    ]
    costs = []
    for batch in [[], *batches]:
        before = len([1 for name, _ in disk.calls if name == "fsync"])
        trial.archive.publish(batch)
        costs.append(len([1 for name, _ in disk.calls if name == "fsync"]) - before)
    trial.archive.close()

    assert [0, 3, 1] == costs


def test_an_unproved_message_is_gone(trial):
    """
    What was altered behind our back is not proved, and not left.
    """
    spooled = trial.spooled()
    (trial.path / "tmp" / spooled.copy.base).write_bytes(b"something else")

    with pytest.raises(NotProved):
        trial.archive.prove([spooled])
    assert [] == trial.has("tmp")


def test_any_failing_call_publishes_nothing_or_says_so(tmp_path):
    """
    Each call of a message's whole way, failing in each way: the right error, and what
    was spooled is gone unless it was proved; then the row in the ledger knows it.
    """
    clean = FaultyDisk()
    trial = Trial(tmp_path / "clean", clean).open()
    start = len(clean.calls)
    trial.archive.publish([trial.recorded()])
    calls = clean.calls[start:]
    trial.archive.close()
    published_by = calls.index(("link", 0))

    for nth, call in enumerate(calls):
        for number, kind in ((errno.EIO, ArchiveError), (errno.ENOSPC, DiskFull)):
            disk = FaultyDisk({call: number})
            trial = Trial(tmp_path / f"{nth}-{kind.__name__}", disk).open()
            with pytest.raises(kind):
                trial.archive.publish([trial.recorded()])
            assert (nth > published_by) == bool(trial.has("new"))
            assert (nth >= published_by) == bool(trial.has("tmp"))
            trial.archive.close()


def test_a_failing_unlink_is_told(tmp_path):
    """
    Discarding is not silent about a disk that fails.
    """
    trial = Trial(tmp_path / "mail", AlwaysFaultyDisk(unlink=errno.EIO)).open()
    copy = trial.recorded().copy

    with pytest.raises(ArchiveError, match="unlink: Input/output error"):
        trial.archive.discard(copy)
    trial.archive.close()


def test_another_maildir_s_message_is_refused(trial):
    """
    A row whose copy is elsewhere must not be settled, published or discarded here.
    """
    copy = Copy(ArchiveFormat.MAILDIR, Path("/elsewhere"), "base", "base,S=1")
    theirs = Recorded(RowId(1), copy, ContentDigest(bytes(32)))

    for act in (
        lambda: trial.archive.settle(theirs),
        lambda: trial.archive.publish([theirs]),
        lambda: trial.archive.discard(copy),
    ):
        with pytest.raises(UnsafeArchive, match="the copy belongs in /elsewhere"):
            act()


# -- settle ---------------------------------------------------------------------------


def lose_spool(trial, copy):
    (trial.path / "tmp" / copy.base).unlink()


def link_to(folder, added=""):
    def act(trial, copy):
        os.link(
            trial.path / "tmp" / copy.base, trial.path / folder / (copy.name + added)
        )

    return act


def rename_to(folder, added=""):
    def act(trial, copy):
        (trial.path / "tmp" / copy.base).rename(
            trial.path / folder / (copy.name + added)
        )

    return act


def corrupt(trial, copy):
    (trial.path / "tmp" / copy.base).write_bytes(b"half of it")


def move_away(trial, copy):
    (trial.path / "Archive").mkdir()
    os.link(trial.path / "tmp" / copy.base, trial.path / "Archive" / "kept:2,S")


def file_it(trial, copy):
    leaf = trial.path / ".Sent" / "cur"
    leaf.mkdir(parents=True)
    (trial.path / "tmp" / copy.base).rename(leaf / f"{copy.name}:2,S")


def number_it(trial, copy):
    os.link(trial.path / "tmp" / copy.base, trial.path / "cur" / f"{copy.base},U=7:2,S")


@pytest.mark.parametrize(
    ("then", "new_afterwards"),
    [
        ([], 1),
        ([link_to("new")], 1),
        ([link_to("new"), lose_spool], 1),
        ([rename_to("new")], 1),
        ([link_to("cur", ":2,")], 0),
        ([link_to("cur", ":2,FS"), lose_spool], 0),
        ([link_to("cur")], 0),
        ([link_to("new", ":2,S")], 1),
        ([number_it, lose_spool], 0),
        ([move_away], 0),
        ([file_it], 0),
    ],
    ids=[
        "spooled",
        "published",
        "published, spool gone",
        "published by rename",
        "taken by a reader",
        "flagged, spool gone",
        "in cur without flags",
        "flagged in new",
        "renamed by a reader that numbers",
        "moved to another folder",
        "filed, spool gone",
    ],
)
def test_what_a_crash_left_is_settled(trial, then, new_afterwards):
    """
    Wherever the copy stands, it is published once and made to last.
    """
    recorded = trial.recorded()
    for act in then:
        act(trial, recorded.copy)
    settled = trial.archive.settle(recorded)

    assert settled is not None
    assert recorded == settled.recorded
    assert new_afterwards == len(trial.has("new"))
    assert recorded == trial.archive.settle(recorded).recorded  # and again


@pytest.mark.parametrize("then", [[lose_spool], [corrupt]], ids=["nowhere", "corrupt"])
def test_what_is_nowhere_is_fetched_again(trial, then):
    """
    No file, or not the one that was proved: not published (P1 goes before P2).
    """
    recorded = trial.recorded()
    for act in then:
        act(trial, recorded.copy)

    assert trial.archive.settle(recorded) is None
    assert [] == trial.has("new")


def test_a_name_that_another_file_bears_says_nothing(trial):
    """
    It is not taken for the copy, nor overwritten: the message gets a name of its own.
    """
    recorded = trial.recorded()
    (trial.path / "new" / recorded.copy.name).write_bytes(b"somebody else's")

    assert trial.archive.settle(recorded) is None
    assert b"somebody else's" == (trial.path / "new" / recorded.copy.name).read_bytes()


def test_a_copy_that_was_altered_is_fetched_again(trial):
    """
    Wherever a reader has put it, it is not what was recorded any more.
    """
    recorded = trial.recorded()
    move_away(trial, recorded.copy)
    corrupt(trial, recorded.copy)

    assert trial.archive.settle(recorded) is None


def test_a_copy_is_looked_for_twice(trial):
    """
    A reader that renames the file while its folder is read hides it from one look.
    """
    recorded = trial.recorded()
    rename_to("cur", ":2,S")(trial, recorded.copy)
    disk = FaultyDisk({("listdir", 1): lambda *_: []})  # the first look into cur
    again = Trial(trial.path, disk).open()

    assert recorded == again.archive.settle(recorded).recorded
    again.archive.close()


def test_a_copy_that_moves_between_look_and_open_is_found(trial):
    """
    Seen in new, gone when it is opened, found in cur.
    """
    recorded = trial.recorded()
    rename_to("new")(trial, recorded.copy)

    def moved_meanwhile(real, name, folder):
        result = real(name, folder)
        (trial.path / "new" / name).rename(trial.path / "cur" / f"{name}:2,")
        return result

    again = Trial(trial.path, FaultyDisk({("lstat", 0): moved_meanwhile})).open()

    assert recorded == again.archive.settle(recorded).recorded
    again.archive.close()


def test_a_spool_file_that_goes_while_it_is_settled_proves_nothing(trial):
    """
    It was there with a second link a moment ago: fetched again (P1 goes before P2).
    """
    recorded = trial.recorded()
    move_away(trial, recorded.copy)

    def gone_meanwhile(real, name, folder):
        result = real(name, folder)
        lose_spool(trial, recorded.copy)
        return result

    again = Trial(trial.path, FaultyDisk({("lstat", 4): gone_meanwhile})).open()

    assert again.archive.settle(recorded) is None
    again.archive.close()


@pytest.mark.parametrize(
    "then", [[], [link_to("new")], [link_to("cur", ":2,")], [move_away], [file_it]]
)
def test_any_failing_call_of_settle_is_told(trial, then):
    """
    An ArchiveError; the row stays open, and the next visit settles it.
    """
    recorded = trial.recorded()
    for act in then:
        act(trial, recorded.copy)
    linked = trial.has("new")
    clean = FaultyDisk()
    again = Trial(trial.path, clean).open()
    start = len(clean.calls)
    again.archive.settle(recorded)
    calls = clean.calls[start:]
    again.archive.close()

    for call in calls:
        for name in set(trial.has("new")) - set(linked):
            (trial.path / "new" / name).unlink()
        again = Trial(trial.path, FaultyDisk({call: errno.EIO})).open()
        with pytest.raises(ArchiveError):
            again.archive.settle(recorded)
        again.archive.close()
        assert recorded == trial.archive.settle(recorded).recorded


def settling_syncs(trial, recorded):
    """
    Settle *recorded*; return the paths that were fsynced, in order.
    """
    synced = []

    def fsync(real, fd):
        synced.append(path_of(fd))
        real(fd)

    again = Trial(trial.path, AlwaysFaultyDisk(fsync=fsync)).open()
    again.archive.settle(recorded)
    again.archive.close()
    return synced


def test_a_copy_that_is_found_is_made_to_last(trial):
    """
    The file, its folder, the maildir and the folder above: all fsynced before it counts.
    """
    recorded = trial.recorded()
    rename_to("cur", ":2,S")(trial, recorded.copy)
    cur = trial.path / "cur"

    copy = cur / f"{recorded.copy.name}:2,S"
    above = [trial.path, trial.path.parent]
    assert [copy, cur, *above] == settling_syncs(trial, recorded)


def test_a_copy_that_a_reader_moved_away_is_made_to_last(trial):
    """
    By its spool file; and our folders, out of which the reader has moved it.
    """
    recorded = trial.recorded()
    move_away(trial, recorded.copy)
    tmp, new, cur = (trial.path / name for name in ("tmp", "new", "cur"))

    copy = tmp / recorded.copy.base
    above = [trial.path, trial.path.parent]
    assert [copy, tmp, new, cur, *above] == settling_syncs(trial, recorded)


def test_a_copy_that_a_reader_filed_is_made_to_last(trial):
    """
    Its spool file gone, it is the file in a folder of the maildir; that folder, too.
    """
    recorded = trial.recorded()
    file_it(trial, recorded.copy)
    sent = trial.path / ".Sent"

    synced = settling_syncs(trial, recorded)

    assert {sent / "cur" / f"{recorded.copy.name}:2,S", sent / "cur", sent} < {*synced}
    assert [trial.path, trial.path.parent] == synced[-2:]


# -- sweep, and the highest number ----------------------------------------------------


def test_only_our_own_orphans_are_swept(trial):
    """
    By the ledger's id and the absence of a row: another's files stay, however old.
    """
    orphan, open_row = trial.recorded(number=1), trial.recorded(number=2)
    theirs = Trial(trial.path, ledger=ANOTHER).open()
    foreign = theirs.recorded(number=3).copy.base
    theirs.archive.close()
    (trial.path / "tmp" / "1.M2P3.old").touch()
    trial.archive.publish([trial.recorded(number=4)])

    assert 2 == trial.archive.sweep({open_row.copy.base})
    assert sorted([open_row.copy.base, foreign, "1.M2P3.old"]) == trial.has("tmp")
    assert 1 == len(trial.has("new"))
    assert not (trial.path / "tmp" / orphan.copy.base).exists()


def test_nothing_is_swept_while_another_visit_is_at_work(trial):
    """
    Its spool files have no row yet. Once it is gone, what it left is swept.
    """
    other = Trial(trial.path).open()
    other.spooled()

    assert 0 == trial.archive.sweep(())
    assert 1 == len(trial.has("tmp"))
    other.archive.close()
    assert 1 == trial.archive.sweep(())


@pytest.mark.parametrize("somebody_else_there", [False, True])
def test_who_has_swept_is_at_work_again(tmp_path, somebody_else_there):
    """
    After a sweep, and after one that was refused, its own spool files are safe.
    """
    first, second, third = (Trial(tmp_path).open() for _ in range(3))
    third.archive.close()
    if not somebody_else_there:
        second.archive.close()
    first.archive.sweep(())
    first.spooled()
    second.archive.close()
    third.open()

    assert 0 == third.archive.sweep(())
    first.archive.close()
    assert 1 == third.archive.sweep(())
    third.archive.close()


def test_who_comes_after_a_sweep_is_safe_too(trial):
    """
    A sweep lets others in again: they hold the maildir, whoever leaves it then.
    """
    trial.archive.sweep(())
    other, third = Trial(trial.path).open(), Trial(trial.path).open()
    other.spooled()
    trial.archive.close()

    assert 0 == third.archive.sweep(())
    other.archive.close()
    third.archive.close()


def test_a_failing_sweep_is_told(tmp_path):
    """
    What cannot be listed or unlinked is the operator's to see.
    """
    for call in ("listdir", "unlink"):
        trial = Trial(tmp_path / call, AlwaysFaultyDisk(**{call: errno.EIO})).open()
        trial.spooled()
        with pytest.raises(ArchiveError):
            trial.archive.sweep(())
        trial.archive.close()


def test_the_highest_number_is_that_of_our_ledger(trial):
    """
    In whichever folder, under whatever flags; 0 in a maildir without our mail.
    """
    assert 0 == trial.archive.highest_number()
    (trial.path / "cur" / "17.L0123456789abN99R.mx").touch()  # not a name of ours
    theirs = Trial(trial.path, ledger=ANOTHER).open()
    theirs.recorded(number=1000)
    theirs.archive.close()
    expected = []
    for number, then in (
        (5, []),
        (7, [link_to("new")]),
        (30, [rename_to("cur", ":2,S")]),
        (31, [file_it]),
    ):
        recorded = trial.recorded(number=number)
        for act in then:
            act(trial, recorded.copy)
        expected.append(trial.archive.highest_number())

    assert [5, 7, 30, 31] == expected


def test_the_highest_number_is_none_that_others_wrote(trial):
    """
    Ours is a name, and no part of one, whatever stands in it or behind it.
    """
    ours = f"17.L{trial.archive._ledger}N%dR{'0' * 32}.mx,S=9"
    for name in (
        ours % 5,
        "x" + ours % 6,
        f"{ours % 7}\n{ours % 8}",
        f"\xff{ours % 9}",
    ):
        (trial.path / "cur" / name).touch()

    assert 7 == trial.archive.highest_number()


class Later(RealDisk):
    """
    A disk whose every change was *ago* seconds before what is too late for a stamp.
    """

    def fstat(self, fd):
        found = super().fstat(fd)
        facts = {name: getattr(found, name) for name in dir(found) if "st_" in name}
        times = dict.fromkeys(("st_ctime", "st_mtime"), NOW - COARSEST - self.ago)
        return SimpleNamespace(**facts | times)

    ago = 1.0


CHANGES = {
    "a copy": lambda mail: (mail / "new" / "x").touch(),
    "a reader's": lambda mail: (mail / "cur" / "x").touch(),
    "a spool file": lambda mail: (mail / "tmp" / "x").touch(),
    "a folder": lambda mail: (mail / ".Sent").mkdir(),
    "filed": lambda mail: (mail / ".Filed" / "cur" / "x").touch(),
    "times put back": lambda mail: put_back_after(mail, (mail / "new" / "y").touch),
}


def put_back_after(mail, change):
    """
    Change new/ as who restores an archive may: its times are the old ones then.
    """
    times = (mail / "new").stat()
    change()
    os.utime(mail / "new", ns=(times.st_atime_ns, times.st_mtime_ns))


def until_the_clock_ticks(folder):
    """
    Change *folder* until that bears another time: the system counts in milliseconds.
    """
    before = folder.stat().st_ctime_ns
    while folder.stat().st_ctime_ns == before:
        (folder / "tick").touch()
        (folder / "tick").unlink()


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_stamp_tells_of_each_change(tmp_path, change):
    """
    It stays while nothing changes, whoever looks; each new name makes it another one.
    """
    trial = Trial(tmp_path / "mail", Later()).open()
    (trial.path / ".Filed" / "cur").mkdir(parents=True)
    before = trial.archive.stamp()
    trial.archive.highest_number()
    assert before == trial.archive.stamp() != ""
    until_the_clock_ticks(tmp_path)

    change(trial.path)

    assert trial.archive.stamp() not in {before, ""}
    trial.archive.close()


@pytest.mark.parametrize("ago", [-0.001, -5.0, NOW - COARSEST])
def test_what_has_just_changed_has_no_stamp(tmp_path, ago):
    """
    One more change might bear the same time; so it is where the disk knows no time.
    """
    disk = Later()
    disk.ago = ago
    trial = Trial(tmp_path / "mail", disk).open()

    assert "" == trial.archive.stamp()
    trial.archive.close()


def test_the_digest_is_that_of_the_file(trial):
    """
    SHA-256 of the stored form: what `sha256sum` says of the file in the archive.
    """
    recorded = trial.recorded()

    assert hashlib.sha256(STORED).digest() == recorded.content
