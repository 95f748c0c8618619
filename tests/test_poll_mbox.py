"""
Whole visits into an mbox, and into archives split by date.
"""

from __future__ import annotations

import re

from dataclasses import replace

import pytest

from popfetchd.archive.mbox import Mbox
from popfetchd.archive.opening import archive_at
from popfetchd.errors import ArchiveLocked, LedgerBehind, Unexpected
from popfetchd.values import AccountName, ArchiveFormat, Destination, Outcome
from tests.world import world


THEIRS = b"From bob Thu Jan  1 00:00:00 1970\nSubject: theirs\n\ntext\n\n"


def letters(count, start=0):
    """
    Messages with lines that an mbox has to quote.
    """
    return [
        b"Subject: %04d\r\n\r\nFrom %04d\r\n>From here\r\n" % (n, n)
        for n in range(start, start + count)
    ]


def read_mbox(path):
    """
    Return the messages of an mbox as a server sent them, sorted; by our own reading.
    """
    octets = path.read_bytes() if path.exists() else b""
    parts = re.split(rb"(?:\A|(?<=\n\n))From [^\n]*\n", octets)
    assert parts[0] == b""
    bodies = [re.sub(rb"(?m)^>(>*From )", rb"\1", part) for part in parts[1:]]
    assert all(body.endswith(b"\n") for body in bodies)
    return sorted(body[:-1].replace(b"\n", b"\r\n") for body in bodies)


@pytest.fixture
def here(tmp_path):
    with world(tmp_path) as made:

        def opened(_account, destination):
            archive = archive_at(
                destination,
                made.ledger.id,
                host="mx",
                now=made.now,
                pause=lambda _: None,
            )
            archive.open()
            return archive

        made.mbox = tmp_path / "mail" / "all.mbox"
        made.means = replace(made.means, archive=opened)
        made.account = replace(
            made.account, destination=Destination(ArchiveFormat.MBOX, made.mbox)
        )
        yield made


def die_at(monkeypatch, method):
    """
    From now on each visit dies in *method* of the mbox.
    """
    monkeypatch.setattr(Mbox, method, lambda *_: 1 / 0)


def test_every_message_is_archived_once(here):
    """
    A first visit archives all, a second one none; and each is what the server sent.
    """
    here.deliver(*letters(7))
    first, second = here.visit(), here.visit()

    assert Outcome.SUCCESS == first.outcome == second.outcome
    assert (7, 0) == (first.archived, second.archived)
    assert letters(7) == read_mbox(here.mbox)
    assert {"published"} == {state for (state,) in here.rows("state")}


def test_what_is_proved_may_leave_the_server(here):
    """
    And is in the mbox, in many batches, behind what was there.
    """
    here.mbox.parent.mkdir()
    here.mbox.write_bytes(THEIRS)
    here.deliver(*letters(250))
    report = here.visit(delete_after=0.0)

    assert (250, 250) == (report.archived, report.removed)
    assert [] == here.waiting()
    assert sorted([*letters(250), b"Subject: theirs\r\n\r\ntext\r\n"]) == read_mbox(
        here.mbox
    )


@pytest.mark.parametrize("method", ["place", "publish"])
def test_what_was_left_open_is_settled_first(here, monkeypatch, method):
    """
    Also when others have written into the mbox meanwhile.
    """
    here.deliver(*letters(3))
    die_at(monkeypatch, method)
    assert isinstance(here.visit().failure, Unexpected)
    monkeypatch.undo()
    here.mbox.write_bytes(THEIRS)
    report = here.visit()

    assert {"place": (0, 3), "publish": (3, 0)}[method] == (
        report.settled,
        report.archived,
    )
    assert 4 == len(read_mbox(here.mbox))
    assert {".popfetchd-spool", "all.mbox"} == {
        path.name for path in here.mbox.parent.iterdir()
    }
    assert 1 == len(list((here.mbox.parent / ".popfetchd-spool").iterdir()))


def test_parts_that_others_wrote_behind_are_told(here, monkeypatch):
    """
    The messages are there whole as well.
    """
    here.deliver(*letters(2))
    die_at(monkeypatch, "publish")
    here.visit()
    monkeypatch.undo()
    part = b"From MAILER-DAEMON Tue Nov 14 22:14:20 2023\nSubject: 0000\n\n"
    here.mbox.write_bytes(part + THEIRS * 9)
    report = here.visit()

    assert (2, 1) == (report.settled, report.fragments)
    assert 2 + 9 + 1 == len(read_mbox(here.mbox))


def test_a_visit_settles_what_other_accounts_left_open(here, monkeypatch):
    """
    Whoever holds the mbox puts all of it right before he appends.
    """
    alice = here.account
    here.deliver(*letters(2))
    die_at(monkeypatch, "publish")
    here.visit()
    monkeypatch.undo()
    here.account = replace(alice, name=AccountName("bob"))
    bob = here.visit()
    here.account = alice
    again = here.visit()

    assert (2, 2) == (bob.settled, bob.archived)
    assert (0, 0) == (again.settled, again.archived)
    assert sorted(letters(2) * 2) == read_mbox(here.mbox)


def test_equal_messages_of_two_accounts_are_two(here, monkeypatch):
    """
    What stands there for one is no proof for the other, also after a crash.
    """
    alice = here.account
    here.deliver(*letters(1))
    here.visit()
    here.mbox.write_bytes(THEIRS + here.mbox.read_bytes())
    here.account = replace(alice, name=AccountName("bob"))
    die_at(monkeypatch, "publish")
    here.visit()
    monkeypatch.undo()
    here.mbox.write_bytes(THEIRS + here.mbox.read_bytes())

    assert 1 == here.visit().settled
    assert 4 == len(read_mbox(here.mbox))


def test_a_reset_archives_nothing_twice(here):
    """
    Every unique-id is new, and what is adopted leaves no gap.
    """
    here.deliver(*letters(5))
    here.visit()
    here.maildrop.remove(here.maildrop.messages)
    here.deliver(*letters(8))
    report = here.visit()

    assert 3 == report.archived
    assert letters(8) == read_mbox(here.mbox)


def test_a_locked_mbox_removes_nothing(here):
    """
    The visit says who is in the way; the next one archives what was spooled.
    """
    here.deliver(*letters(2))
    lock = here.mbox.with_name("all.mbox.lock")
    here.mbox.parent.mkdir()
    lock.touch()
    locked = here.visit(delete_after=0.0)
    assert isinstance(locked.failure, ArchiveLocked)
    assert letters(2) == here.waiting()
    lock.unlink()
    report = here.visit(delete_after=0.0)

    assert (2, 2) == (report.archived, report.removed)
    assert letters(2) == read_mbox(here.mbox)


def test_a_ledger_older_than_its_archive_stops_the_visit(here):
    """
    The side file knows a number that it never gave.
    """
    here.deliver(*letters(1))
    here.visit()
    side = here.mbox.parent / ".popfetchd-spool" / f"highest.L{here.ledger.id}"
    side.write_bytes(b"%018d %018d\n" % (99, 99))

    assert isinstance(here.visit().failure, LedgerBehind)


@pytest.mark.parametrize("form", list(ArchiveFormat))
def test_messages_go_where_their_arrival_says(here, form, monkeypatch):
    """
    In both formats; also what a crash left open.
    """
    here.account = replace(
        here.account,
        destination=Destination(form, here.directory / "mail" / "{year}"),
    )
    dated = [
        b"Received: by mx; 1 Jul %d 00:00:00 +0000\r\n%b" % (year, letter)
        for year, letter in zip((2020, 2019, 2020), letters(3), strict=True)
    ]
    here.deliver(*dated)
    with monkeypatch.context() as patch:
        patch.setattr(here.ledger, "commit", lambda _published: 1 / 0)
        assert isinstance(here.visit().failure, Unexpected)
    first, second = here.visit(delete_after=0.0), here.visit(delete_after=0.0)
    found = {
        path.name: len(
            list((path / "new").iterdir()) if path.is_dir() else read_mbox(path)
        )
        for path in (here.directory / "mail").iterdir()
        if path.name != ".popfetchd-spool"
    }

    assert Outcome.SUCCESS == first.outcome == second.outcome
    assert {"2019": 1, "2020": 2} == found
    assert [] == here.waiting()
