"""
The ledger as the record of an archive: paged, damaged, healed, restored, copied, alone.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import subprocess

from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from popfetchd.errors import LedgerDamaged, LedgerError, LedgerFull, LedgerInUse
from popfetchd.ledger import Ledger, copies, copying, set_aside
from popfetchd.ledger.database import refused
from popfetchd.values import (
    ArchiveFormat,
    Copy,
    Destination,
    Extent,
    Found,
    Held,
    LedgerId,
    Published,
    Verification,
)
from tests.faulty_disk import open_descriptors
from tests.test_ledger import ALICE, BOB, NOW, archived, sha256, verified


MAIL = Path("/mail")


@pytest.fixture
def ledger(tmp_path):
    with Ledger(tmp_path / "ledger.db", now=lambda: NOW) as opened:
        yield opened


def found(text, *, key=None, directory=MAIL, extent=None):
    """
    A message that was found in an archive.
    """
    spooled = verified(text).spooled
    copy = Copy(
        ArchiveFormat.MBOX if extent else ArchiveFormat.MAILDIR,
        directory,
        key or spooled.copy.base,
        key or spooled.copy.name,
        None,
        extent,
    )
    held = Held(copy, directory / "new", key or copy.base, spooled.number)
    return Found(held, spooled.fingerprint, NOW - 50)


# -- reading --------------------------------------------------------------------------


def test_rows_come_in_pages(ledger, monkeypatch):
    """
    All of one place and account, in their order, whatever fits a page.
    """
    monkeypatch.setattr(
        copies, "PAGE_OF", copies.PAGE_OF.replace(f"LIMIT {copies.PAGE}", "LIMIT 2")
    )
    rows = archived(ledger, *(verified(text) for text in "abcde"))
    archived(ledger, verified("x"), account=BOB)
    ledger.record(ALICE, [verified("open")])

    assert rows == [row.row for row in ledger.archived(ALICE, MAIL)]
    assert [] == list(ledger.archived(ALICE, Path("/other")))
    assert (5, 5 * 90) == ledger.totals(ALICE)
    assert [Destination(ArchiveFormat.MAILDIR, MAIL)] == ledger.places(ALICE)


def test_a_row_tells_what_is_to_be_found(ledger):
    """
    Also of an mbox.
    """
    (row,) = archived(ledger, verified("a"))
    extent = Extent(7, 10, sha256("bare"))
    ledger.rebuild(
        lambda db: db.restore(BOB, [found("b", directory=Path("/m"), extent=extent)])
    )

    (first,) = ledger.archived(ALICE, MAIL)
    (second,) = ledger.archived(BOB, Path("/m"))
    assert (row, sha256("a"), 90, False) == (
        first.row,
        first.content,
        first.stored,
        first.damaged,
    )
    assert (extent, ArchiveFormat.MBOX) == (second.copy.extent, second.copy.format)


def test_keys_without_a_row_are_left(ledger):
    """
    Whoever's row it is; each as often as it is one too many.
    """
    (mine,) = [verified("a")]
    archived(ledger, mine, account=BOB)
    base = mine.spooled.copy.base

    left = ledger.without_row(MAIL, Counter([base, base, "x"]))

    assert Counter({base: 1, "x": 1}) == left
    assert Counter() == ledger.without_row(MAIL, Counter())
    assert Counter([base]) == ledger.without_row(Path("/other"), Counter([base]))


def test_what_an_account_knows_is_told(ledger):
    """
    Any row counts, also an open one.
    """
    assert (True, False) == (ledger.is_new(), ledger.knows(ALICE))
    ledger.record(ALICE, [verified("a")])
    assert (False, True, False) == (
        ledger.is_new(),
        ledger.knows(ALICE),
        ledger.knows(BOB),
    )


# -- damage ---------------------------------------------------------------------------


def test_a_damaged_row_counts_for_nothing(ledger):
    """
    It is not known, gives no receipt, is adopted by no message and cannot be removed.
    """
    (row,) = archived(ledger, verified("a", "uid"))
    ledger.damage([row])

    assert ([], [], 0) == (
        ledger.known(ALICE),
        ledger.receipts([row]),
        ledger.archived_count(ALICE),
    )
    with pytest.raises(LedgerError):
        ledger.mark([row])
    ledger.damage([row])
    ledger.damage([])
    assert {row} == ledger.damaged(ALICE)


def test_a_new_copy_ends_one_damaged_row(ledger):
    """
    At its commit and not before; a second commit ends no second one.
    """
    first, second = archived(ledger, verified("a"), verified("a"))
    ledger.damage([first, second])
    (recorded,) = ledger.record(ALICE, [verified("a")])
    assert 2 == len(ledger.damaged(ALICE))

    ledger.commit([Published(recorded)])
    assert {second} == ledger.damaged(ALICE)
    ledger.commit([Published(recorded)])
    assert {second} == ledger.damaged(ALICE)
    archived(ledger, verified("a"), account=BOB)
    assert {second} == ledger.damaged(ALICE)


def test_an_open_row_cannot_be_damaged(ledger):
    """
    Nothing has been promised of it yet.
    """
    (recorded,) = ledger.record(ALICE, [verified("a")])
    ledger.damage([recorded.row])

    assert [recorded] == ledger.open_rows(ALICE)


def test_a_healed_row_is_what_it_was(ledger):
    """
    Published, or removed; and its unique-id says nothing any more.
    """
    one, two = archived(ledger, verified("a", "u1"), verified("b", "u2"))
    ledger.removed([two])
    ledger.damage([one, two])
    ledger.heal([one, two])
    ledger.heal([])

    (known,) = ledger.known(ALICE)
    assert (one, True, False) == (known.row, known.doubtful, known.accounted)
    assert 2 == ledger.archived_count(ALICE)


def test_what_was_verified_is_remembered_with_the_state(ledger):
    """
    Whatever a visit saves meanwhile.
    """
    before = ledger.state(ALICE)
    ledger.verified(Verification(ALICE, 1.0, 2.0))
    ledger.save_state(ALICE, before)

    assert (2.0, 0) == (ledger.state(ALICE).last_verified, ledger.state(ALICE).damaged)
    ledger.verified(Verification(BOB, 1.0, 3.0))
    assert {ALICE: 2.0, BOB: 3.0} == {
        name: state.last_verified for name, state in ledger.states().items()
    }


# -- made again -----------------------------------------------------------------------


def test_a_restored_row_proves_nothing(ledger):
    """
    No listing has shown it, and its unique-id, which it lacks, is in doubt.
    """
    message = found("a")
    assert 1 == ledger.rebuild(lambda db: db.restore(ALICE, [message]))

    (known,) = ledger.known(ALICE)
    assert (None, False, True, NOW - 50) == (
        known.unique_id,
        known.accounted,
        known.doubtful,
        known.archived_at,
    )


def test_what_was_restored_is_adopted_with_what_was_sent(ledger):
    """
    Its form and its octets, which an archive does not tell for certain, are put right.
    """
    ledger.rebuild(lambda db: db.restore(ALICE, [found("a")]))
    message = verified("a", "uid", octets=111)
    (receipt,) = ledger.record(ALICE, [message])

    with closing(sqlite3.connect(ledger.path)) as db:
        row = db.execute("SELECT unique_id, octets_listed, octets FROM message")
        assert ("uid", 111, message.spooled.fingerprint.octets) == row.fetchone()
    assert receipt.content == message.spooled.fingerprint.content


def test_what_is_known_is_not_restored(ledger):
    """
    One's own, once for each; another's where a server has listed it for him.
    """
    mine, his = verified("a"), verified("b", "uid")
    archived(ledger, mine)
    archived(ledger, his, account=BOB)
    ledger.rebuild(lambda db: db.restore(BOB, [found("c", key="guess")]))
    bases = [message.spooled.copy.base for message in (mine, his)]

    known = ledger.rebuild(lambda db: db.known(ALICE, MAIL))

    assert Counter(bases) == known
    both = ledger.rebuild(lambda db: db.known(BOB, MAIL))
    assert Counter([bases[1], "guess"]) == both


def test_a_name_of_any_octets_is_kept(ledger):
    """
    Other programs name their files as they like; SQLite keeps UTF-8 alone.
    """
    odd = os.fsdecode(b"1.\xff\xfe.mx") + "é"
    ledger.rebuild(lambda db: db.restore(ALICE, [found("a", key=odd)]))

    (row,) = ledger.archived(ALICE, MAIL)
    assert (odd, odd) == (row.copy.base, row.copy.name)
    assert Counter() == ledger.without_row(MAIL, Counter([odd]))
    assert Counter([odd]) == ledger.rebuild(lambda db: db.known(ALICE, MAIL))


def test_numbers_and_the_name_go_on(ledger):
    """
    The highest never falls.
    """
    other = LedgerId("abcdef012345")
    ledger.rebuild(lambda db: db.begin_at(70, other))
    assert (range(71, 72), other) == (
        ledger.reserve(1),
        ledger.rebuild(lambda db: db.id),
    )
    ledger.rebuild(lambda db: db.begin_at(7, other))
    assert 71 == ledger.highest() == ledger.rebuild(lambda db: db.highest)


def test_a_rebuild_that_fails_changes_nothing(ledger):
    """
    It is one transaction.
    """

    def work(db):
        db.restore(ALICE, [found("a")])
        raise KeyError

    with pytest.raises(KeyError):
        ledger.rebuild(work)
    assert ledger.is_new()


# -- alone ----------------------------------------------------------------------------


def test_many_have_it_open_or_one_alone(tmp_path):
    """
    Who comes when that cannot be is told at once, and leaves nothing open.
    """
    path = tmp_path / "ledger.db"
    with Ledger(path, now=lambda: NOW), Ledger(path, now=lambda: NOW):
        before = open_descriptors()
        with pytest.raises(LedgerInUse, match="another popfetchd has it open"):
            Ledger(path, now=lambda: NOW, alone=True)
        with pytest.raises(LedgerInUse):
            set_aside(path, lambda: NOW)
        assert before == open_descriptors()
    with (
        Ledger(path, now=lambda: NOW, alone=True),
        pytest.raises(LedgerInUse, match="is being made again"),
    ):
        Ledger(path, now=lambda: NOW)
    with Ledger(path, now=lambda: NOW):
        pass


def test_use_cannot_be_told_everywhere(tmp_path, monkeypatch):
    """
    A lock that cannot be had at all is a LedgerError, and leaves nothing open.
    """
    path = tmp_path / "ledger.db"
    Ledger(path, now=lambda: NOW).close()
    before = open_descriptors()

    def refuse(*_args):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", refuse)
        with pytest.raises(LedgerError, match="No locks available"):
            Ledger(path, now=lambda: NOW)
    use = tmp_path / "ledger.db.locks" / ".use"
    use.unlink()
    use.symlink_to("elsewhere")
    with pytest.raises(LedgerError, match="Too many levels"):
        Ledger(path, now=lambda: NOW)
    assert before == open_descriptors()


def test_what_was_set_aside_is_whole(tmp_path):
    """
    With its log, if there is one; under a name that tells when.
    """
    path = tmp_path / "ledger.db"
    Ledger(path, now=lambda: NOW).close()
    Path(f"{path}-wal").write_bytes(b"log")
    octets = path.read_bytes()

    aside = set_aside(path, lambda: NOW)

    assert tmp_path / "ledger.db.20231114T221320Z" == aside
    assert (octets, b"log") == (aside.read_bytes(), Path(f"{aside}-wal").read_bytes())
    assert not path.exists()
    assert not Path(f"{path}-wal").exists()
    path.touch()
    with pytest.raises(LedgerError, match="is there already"):
        set_aside(path, lambda: NOW)
    aside.unlink()
    path.unlink()
    with pytest.raises(LedgerError, match="No such file"):
        set_aside(path, lambda: NOW)


# -- copied ---------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["fsync", "link"])
def test_a_copy_that_fails_leaves_nothing(ledger, tmp_path, monkeypatch, call):
    """
    Neither half of a file nor what SQLite puts beside it.
    """
    folder = tmp_path / "copies"
    folder.mkdir()

    def fail(*_args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(LedgerFull, match="No space left on device"):
            ledger.backup(folder / "copy.db")

    assert [] == list(folder.iterdir())


def test_a_copy_is_checked(ledger, tmp_path, monkeypatch):
    """
    One that is damaged is none.
    """

    def damaged(_db, path):
        raise LedgerDamaged(path, "is damaged")

    monkeypatch.setattr(copying, "check", damaged)
    with pytest.raises(LedgerDamaged):
        ledger.backup(tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()


def test_a_copy_that_sqlite_cannot_make_is_told(ledger, tmp_path, monkeypatch):
    """
    As a LedgerError of the copy.
    """

    def fail(_db, _path):
        raise sqlite3.OperationalError("no")

    monkeypatch.setattr(copying, "check", fail)
    with pytest.raises(LedgerError, match=r"copy\.db: no"):
        ledger.backup(tmp_path / "copy.db")


def test_a_ledger_that_was_harmed_is_damaged(tmp_path):
    """
    Also where every page can be read; a quick look does not compare indexes with rows.
    """
    path = tmp_path / "ledger.db"
    with Ledger(path, now=lambda: NOW) as ledger:
        archived(ledger, verified("a"), verified("b"))
        ledger.check()
    with closing(sqlite3.connect(path)) as db:
        index = "message_by_content"
        db.execute("PRAGMA writable_schema = ON")
        sql = "UPDATE sqlite_schema SET sql = replace(sql, ?, ?) WHERE name = ?"
        db.execute(sql, ("content_digest", "likeness", index))
        db.commit()

    with Ledger(path, now=lambda: NOW) as ledger:
        ledger.check(quick=True)
        with pytest.raises(LedgerDamaged, match="is damaged"):
            ledger.check()


def test_an_octet_too_few_is_damage(tmp_path):
    """
    SQLite says it as an error, and that is told as damage too.
    """
    path = tmp_path / "ledger.db"
    with Ledger(path, now=lambda: NOW) as ledger:
        ledger.reserve(1)
    octets = bytearray(path.read_bytes())
    octets[100:108] = b"\xff" * 8
    path.write_bytes(octets)
    with closing(sqlite3.connect(path)) as db, pytest.raises(LedgerDamaged):
        copying.check(db, path)


def test_a_full_disk_is_told_as_such(tmp_path):
    """
    Also where it is the system that says so.
    """
    kinds = [type(refused(tmp_path, OSError(n, ""))) for n in (errno.EDQUOT, errno.EIO)]

    assert [LedgerFull, LedgerError] == kinds


@pytest.fixture
def small_disk(tmp_path):
    """
    A disk of its own that is nearly full, or none where this may not be made.
    """
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(path)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("no disk can be mounted here")
    yield path
    subprocess.run(["umount", str(path)], check=True)


def test_a_ledger_on_a_full_disk_says_so(small_disk):
    """
    When it is made, and when it is written.
    """
    (small_disk / "filler").write_bytes(b"x" * (250 << 10))
    with pytest.raises(LedgerFull):
        Ledger(small_disk / "ledger.db", now=lambda: NOW)
