"""
An archive read against its ledger: what is damage, what is not, and what ends it.
"""

from __future__ import annotations

import errno
import tracemalloc

from threading import Event

import pytest

from popfetchd.archive.opening import archive_at
from popfetchd.errors import ArchiveError, Interrupted, LedgerError, Unexpected
from popfetchd.values import ArchiveFormat, Condition, Destination
from popfetchd.verify import Reading, Tools, repair, verify
from tests.faulty_disk import AlwaysFaultyDisk
from tests.test_poll import letters
from tests.world import START, world


@pytest.fixture
def here(tmp_path):
    with world(tmp_path) as made:
        made.deliver(*letters(4))
        assert 4 == made.visit().archived
        yield made


def tools(here, disk=None):
    """
    What a verification works with; the archive on *disk*, if there is one.
    """

    def archive(_account, destination):
        opened = archive_at(
            destination, here.ledger.id, host="mx", now=here.now, disk=disk
        )
        opened.open()
        return opened

    return Tools(here.ledger, archive, here.now)


def read(here, disk=None, watch=None):
    return verify(here.account, tools(here, disk), stop=Event(), watch=watch)


class Looking:
    """
    A watch that writes down what it is shown.
    """

    def __init__(self):
        self.told, self.octets = None, 0

    def expected(self, messages, octets):
        self.told = messages, octets

    def read(self, octets):
        self.octets += octets


def test_all_is_read_once(here):
    """
    Its octets are those of the files, and whoever looks on is shown them.
    """
    size = sum(path.stat().st_size for path in here.files("new"))
    watch = Looking()

    seen = read(here, watch=watch)

    assert (4, size, None) == (seen.messages, seen.octets, seen.failure)
    assert ((), (), 0) == (seen.damage, seen.unknown, seen.moved)
    assert ((4, size), size) == (watch.told, watch.octets)


def test_what_was_removed_from_the_server_is_read_too(here):
    """
    The archive has its only copy.
    """
    assert 4 == here.visit(delete_after=0.0).removed
    here.files("new")[0].unlink()

    seen = read(here)

    assert (4, [Condition.MISSING]) == (
        seen.messages,
        [damage.condition for damage in seen.damage],
    )


@pytest.mark.parametrize("number", [errno.EIO, errno.EBADMSG])
def test_what_the_disk_cannot_return_is_altered(here, number):
    """
    A bad sector does not end the reading.
    """
    seen = read(here, AlwaysFaultyDisk(pread=number))

    assert [Condition.ALTERED] * 4 == [damage.condition for damage in seen.damage]
    assert seen.failure is None


def test_what_may_not_be_read_ends_it(here):
    """
    It is the operator's mistake and no damage.
    """
    seen = read(here, AlwaysFaultyDisk(pread=errno.EACCES))

    assert isinstance(seen.failure, ArchiveError)
    assert () == seen.damage


def test_a_fault_of_ours_ends_one_reading(here, monkeypatch):
    """
    It is told like any other failure (P3).
    """
    monkeypatch.setattr(Reading, "_judge", lambda *_args: 1 / 0)

    failure = read(here).failure

    assert isinstance(failure, Unexpected)
    assert isinstance(failure.__cause__, ZeroDivisionError)


def test_a_ledger_that_fails_ends_it(here):
    """
    And is told as itself.
    """
    here.ledger.close()

    assert isinstance(read(here).failure, LedgerError)


def test_it_stops_when_asked_to(here):
    """
    Before the next message.
    """
    stop = Event()
    stop.set()

    seen = verify(here.account, tools(here), stop=stop)

    assert (0, True) == (seen.messages, isinstance(seen.failure, Interrupted))


def test_mail_that_comes_meanwhile_is_not_unknown(here):
    """
    What is archived after its rows were read, and before its files are listed.
    """

    class Postman(Looking):
        def read(self, octets):
            if not self.octets:
                here.deliver(*letters(1, start=50))
                assert 1 == here.visit().archived
            super().read(octets)

    seen = read(here, watch=Postman())

    assert ((), ()) == (seen.damage, seen.unknown)
    assert 5 == len(here.files("new"))


def test_mail_under_an_older_path_is_read_too(here, tmp_path):
    """
    Where the account's archive was, before the configuration changed.
    """
    here.files("new")[0].unlink()
    here.account = type(here.account)(
        **{name: getattr(here.account, name) for name in here.account.__slots__}
        | {"destination": Destination(ArchiveFormat.MAILDIR, tmp_path / "later")}
    )
    here.deliver(*letters(1, start=50))
    assert 1 == here.visit().archived

    seen = read(here)

    assert (5, 1) == (seen.messages, len(seen.damage))
    assert tmp_path / "mail" / "new" == seen.damage[0].path.parent


def test_nothing_is_repaired_that_is_whole_by_now(here):
    """
    Between the reading and the repair a file may have been put back.
    """
    (path, *_) = here.files("new")
    octets = path.read_bytes()
    path.unlink()
    seen = read(here)
    path.write_bytes(octets)

    assert [] == repair(here.account, seen, tools(here))
    assert set() == here.ledger.damaged(here.account.name)


def test_what_is_damaged_counts_for_nothing_until_it_is_made_good(here):
    """
    No message is taken for it; its new copy ends it, and a copy put back does too.
    """
    one, two, *_ = here.files("new")
    octets = one.read_bytes()
    one.unlink()
    two.unlink()
    rows = repair(here.account, read(here), tools(here))
    assert 2 == len(rows) == len(here.ledger.damaged(here.account.name))
    assert 2 == here.ledger.archived_count(here.account.name)
    one.write_bytes(octets)

    assert 1 == read(here).healed
    assert rows[1:] == list(here.ledger.damaged(here.account.name))
    report = here.visit()
    assert (1, 1) == (report.archived, report.matched)
    assert set() == here.ledger.damaged(here.account.name)
    assert 4 == here.ledger.archived_count(here.account.name)
    assert sorted(letters(4)) == here.archived()


def test_what_is_whole_again_waits_for_a_visit_to_end(here, monkeypatch):
    """
    While somebody fetches it again it stays damaged; the next reading heals it.
    """
    monkeypatch.setattr("popfetchd.verify.HEALING", 0.0)
    (path, *_) = here.files("new")
    octets = path.read_bytes()
    path.unlink()
    repair(here.account, read(here), tools(here))
    path.write_bytes(octets)

    with here.ledger.lock(here.account.name).acquire():
        assert None is read(here).failure
        assert 1 == len(here.ledger.damaged(here.account.name))
    read(here)
    assert set() == here.ledger.damaged(here.account.name)


def test_a_removed_message_whose_copy_is_put_back_is_removed_still(here):
    """
    It does not become one that the server has.
    """
    assert 4 == here.visit(delete_after=0.0).removed
    (path, *_) = here.files("new")
    octets = path.read_bytes()
    path.unlink()
    repair(here.account, read(here), tools(here))
    path.write_bytes(octets)
    read(here)

    assert [("removed",)] * 4 == here.rows("state")


def test_a_message_that_is_altered_on_the_way_is_made_good_by_its_name(here):
    """
    Where the server sends other octets each time, the fields that name it tell.
    """
    name = (
        b"Received: from a by b; Tue, 14 Nov 2023 22:13:20 +0000\r\n"
        b"Message-ID: <1@example.org>\r\nFrom: a@example.org\r\n"
        b"Date: Tue, 14 Nov 2023 22:13:20 +0000\r\n"
    )
    here.deliver(name + b"X-Time: 1\r\n\r\nbody\r\n")
    assert 1 == here.visit().archived
    here.files("new")[-1].unlink()
    repair(here.account, read(here), tools(here))
    here.maildrop.remove(here.maildrop.messages[-1:])
    here.deliver(name + b"X-Time: 2\r\n\r\nbody\r\n")

    assert 1 == here.visit().archived
    assert set() == here.ledger.damaged(here.account.name)
    assert () == read(here).damage


def test_memory_does_not_grow_with_a_message(here):
    """
    It is read in pieces.
    """
    here.deliver(b"Subject: large\r\n\r\n" + b"x" * 70 * 1_000_000 + b"\r\n")
    assert 1 == here.visit().archived
    tracemalloc.start()
    try:
        assert 5 == read(here).messages
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()


def test_the_clock_is_the_caller_s(here):
    """
    Times are passed in.
    """
    here.time = START + 1000

    seen = read(here)

    assert (START + 1000, START + 1000) == (seen.started, seen.ended)
