"""
A look into a ledger: what it shows, and that it leaves no trace.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile

from pathlib import Path

import pytest

from popfetchd.errors import LedgerDamaged, LedgerError, LedgerNewer
from popfetchd.ledger import Glimpse, Ledger
from popfetchd.ledger import glimpse as module
from popfetchd.values import AccountName, AccountState, UniqueId
from tests.world import world


ALICE = AccountName("alice")

NOBODY = 65534
"""A user that every system has, and no ledger."""


@pytest.fixture
def here(tmp_path):
    with world(tmp_path) as made:
        yield made


def traces(folder):
    """
    Return everything below *folder*, and when it was altered.
    """
    return {
        path: (path.stat().st_mtime_ns, path.stat().st_size)
        for path in folder.rglob("*")
    }


def test_beside_a_service_it_shows_what_is_committed(here):
    """
    Another process has the ledger open: its last commit, still in the log, is seen.
    """
    here.deliver(b"Subject: a\r\n\r\n", unique_id="a")
    here.deliver(b"Subject: b\r\n\r\n", unique_id="b")
    here.visit()
    glimpse = Glimpse(here.ledger.path)
    here.ledger.fail(ALICE, [UniqueId("c")], "cannot")
    assert {ALICE: here.ledger.failures(ALICE)} == glimpse.failures() != {}
    assert {"a", "b"} == glimpse.archived(ALICE)
    assert frozenset() == glimpse.archived(AccountName("bob"))
    assert here.ledger.states() == glimpse.states() != {}


def test_a_closed_ledger_is_read_without_a_trace(here):
    """
    Neither the file nor its folder is touched, and nothing appears beside it.
    """
    here.deliver(b"Subject: a\r\n\r\n", unique_id="a")
    here.visit()
    here.ledger.close()
    folder = here.ledger.path.parent
    before = traces(folder)
    assert {"a"} == Glimpse(here.ledger.path).archived(ALICE)
    assert before == traces(folder)


def test_where_there_is_no_ledger_there_is_nothing_to_see(tmp_path):
    """
    And none is made, nor its folder.
    """
    glimpse = Glimpse(tmp_path / "state" / "ledger.db")
    assert ({}, frozenset()) == (glimpse.states(), glimpse.archived(ALICE))
    assert {} == glimpse.failures()
    assert [] == list(tmp_path.iterdir())


def test_an_empty_file_is_a_ledger_about_to_be_made(tmp_path):
    """
    It shows nothing, and stays empty.
    """
    path = tmp_path / "ledger.db"
    path.touch()
    assert {} == Glimpse(path).states()
    assert 0 == path.stat().st_size


def test_a_ledger_of_another_version_is_told(tmp_path, monkeypatch):
    """
    A newer one cannot be read; an older one has to be brought up to date first.
    """
    path = tmp_path / "ledger.db"
    Ledger(path, now=lambda: 0.0).close()
    one_more = [*module.migrations(), ""]
    monkeypatch.setattr(module, "migrations", lambda: one_more)
    with pytest.raises(LedgerError, match="older popfetchd's") as older:
        Glimpse(path).states()
    assert LedgerError is type(older.value)
    monkeypatch.undo()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 999")
    db.close()
    with pytest.raises(LedgerNewer):
        Glimpse(path).states()


def test_what_is_no_ledger_is_told(tmp_path):
    """
    Octets that SQLite does not know, and a place that cannot be looked at.
    """
    path = tmp_path / "ledger.db"
    path.write_bytes(b"no ledger at all" * 100)
    with pytest.raises(LedgerDamaged):
        Glimpse(path).states()
    with pytest.raises(LedgerError, match="Not a directory"):
        Glimpse(path / "ledger.db").states()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root reads what is another's")
def test_root_reads_the_ledger_of_another_as_him(monkeypatch):
    """
    SQLite runs as its owner, and root is root again afterwards, also after an error.
    """
    with tempfile.TemporaryDirectory() as folder:  # pytest's own are closed to others
        path = Path(folder) / "ledger.db"
        with Ledger(path, now=lambda: 0.0) as ledger:
            ledger.save_state(ALICE, AccountState(last_poll=1.0))
        for each in (path.parent, *path.parent.rglob("*")):
            os.chown(each, NOBODY, NOBODY)
        users = []
        connect = module.connect_to_read
        monkeypatch.setattr(
            module,
            "connect_to_read",
            lambda path, **how: users.append(os.geteuid()) or connect(path, **how),
        )
        assert {ALICE: AccountState(last_poll=1.0)} == Glimpse(path).states()
        path.write_bytes(b"no ledger at all" * 100)
        with pytest.raises(LedgerDamaged):
            Glimpse(path).states()
    assert ([NOBODY, NOBODY], 0) == (users, os.geteuid())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root reads what is another's")
@pytest.mark.parametrize("open_", [True, False])
def test_root_reads_what_its_owner_does_not_reach(tmp_path, open_):
    """
    A DynamicUser's ledger stands below a folder of root's: nothing is made beside it.
    """
    private = tmp_path / "private"
    private.mkdir(0o700)
    with world(private) as here:
        here.deliver(b"Subject: a\r\n\r\n", unique_id="a")
        here.visit()
        path = here.ledger.path
        if not open_:
            here.ledger.close()
        for each in path.parent.glob(path.name + "*"):
            os.chown(each, NOBODY, NOBODY)
        before = traces(path.parent)

        assert {"a"} == Glimpse(path).archived(ALICE)

        assert before == traces(path.parent)
        assert {NOBODY} == {f.stat().st_uid for f in path.parent.glob(path.name + "*")}


def test_who_is_not_root_reads_as_himself(tmp_path, monkeypatch):
    """
    Nobody else can take another's identity, and nobody tries.
    """
    path = tmp_path / "ledger.db"
    Ledger(path, now=lambda: 0.0).close()
    monkeypatch.setattr(module.os, "geteuid", lambda: 4711)
    monkeypatch.setattr(module.os, "seteuid", lambda _uid: pytest.fail("not asked for"))
    assert {} == Glimpse(path).states()
