"""
The ledger's file: made, opened, brought up to date, or refused in plain words.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import stat
import threading

from pathlib import Path

import pytest

from popfetchd.errors import LedgerError, Reason
from popfetchd.ledger import Ledger, database
from popfetchd.ledger.ledger import OPENING
from popfetchd.ledger.lock import AccountLock
from popfetchd.ledger.readers import IDLE, Readers
from tests.faulty_disk import open_descriptors


NOBODY = 65534


def opened(path):
    return Ledger(path, now=lambda: 0.0)


def open_files():
    """
    Return the names of the files that this process has open, deleted ones too.
    """
    names = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # of the listing itself
            names.add(str(descriptor.readlink()))
    return {name for name in names if name.startswith("/") and "/fd" not in name}


def modes_below(path):
    return {
        str(entry.relative_to(path)): stat.S_IMODE(entry.stat().st_mode)
        for entry in path.rglob("*")
    }


# -- making it ------------------------------------------------------------------------


def test_a_ledger_is_private_whatever_the_umask(tmp_path):
    """
    0600 and 0700 from the first instant, SQLite's own files included (P4).
    """
    before = os.umask(0)
    try:
        with opened(tmp_path / "a" / "b" / "ledger.db") as ledger:
            ledger.reserve(1)
            modes = modes_below(tmp_path)
    finally:
        os.umask(before)

    assert {
        "a": 0o700,
        "a/b": 0o700,
        "a/b/ledger.db": 0o600,
        "a/b/ledger.db-shm": 0o600,
        "a/b/ledger.db-wal": 0o600,
        "a/b/ledger.db.locks": 0o700,
        "a/b/ledger.db.locks/.open": 0o600,
        "a/b/ledger.db.locks/.use": 0o600,
    } == modes


def test_a_ledger_s_name_is_made_once(tmp_path):
    """
    Twelve hex digits, the same after each restart; another ledger has another.
    """
    names = []
    for path in (tmp_path / "one.db", tmp_path / "one.db", tmp_path / "two.db"):
        with opened(path) as ledger:
            names.append(ledger.id)

    assert names[0] == names[1] != names[2]
    assert {12} == {len(name) for name in names}
    assert set("0123456789abcdef") >= set("".join(names))


def test_each_folder_that_was_made_is_made_to_last(tmp_path, monkeypatch):
    """
    The folder above it is fsynced; so is the one above the last that was found.
    """
    synced = []
    real = database.sync_folder
    monkeypatch.setattr(database, "sync_folder", lambda p: synced.append(p) or real(p))
    path = tmp_path / "a" / "b" / "ledger.db"
    database.make_file(path, path.with_name("locks"))

    expected = [tmp_path.parent, tmp_path, tmp_path / "a", tmp_path / "a" / "b"]
    assert expected == list(dict.fromkeys(synced))


def test_a_folder_that_another_makes_first_will_do(tmp_path, monkeypatch):
    """
    Two processes may start at once.
    """
    path = tmp_path / "a"
    real = database.sync_folder

    def made_meanwhile(folder):
        real(folder)
        path.mkdir(exist_ok=True)

    monkeypatch.setattr(database, "sync_folder", made_meanwhile)
    database.make_folder(path)

    assert path.is_dir()


def test_a_folder_above_that_we_may_not_read_does_not_matter(tmp_path, monkeypatch):
    """
    Where we may not read we have made nothing.
    """

    def forbidden(folder):
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(database, "sync_folder", forbidden)
    database.make_folder(tmp_path)


def test_two_that_open_a_new_ledger_at_once_open_the_same(tmp_path):
    """
    It is made under a lock: one makes it, the other finds it made.
    """
    names = []

    def start():
        with opened(tmp_path / "ledger.db") as ledger:
            names.append(ledger.id)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 8 == len(names)
    assert 1 == len(set(names))


def test_what_a_killed_run_left_empty_is_made(tmp_path):
    """
    A file without a schema is a ledger that was not finished.
    """
    (tmp_path / "ledger.db").touch()

    with opened(tmp_path / "ledger.db") as ledger:
        assert 0 == ledger.highest()


def test_a_new_ledger_is_known_without_its_log(tmp_path):
    """
    Its id is in the file itself at once: a ledger that lost its log is an old one, and
    not a new one, for which everything would be fetched again.
    """
    with opened(tmp_path / "ledger.db") as ledger:
        ledger.reserve(1)
        (tmp_path / "copy.db").write_bytes((tmp_path / "ledger.db").read_bytes())
        with opened(tmp_path / "copy.db") as copy:
            assert (ledger.id, 0) == (copy.id, copy.highest())


def test_a_commit_is_on_the_disk_when_it_returns(tmp_path):
    """
    synchronous=FULL: with NORMAL a power cut may undo the last commits.
    """
    with opened(tmp_path / "ledger.db") as ledger:
        pragma = ledger._writer.do(
            lambda db: [
                db.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("synchronous", "journal_mode", "foreign_keys")
            ]
        )

    assert [2, "wal", 1] == pragma


def test_no_temporary_file_is_made(tmp_path):
    """
    What is undone goes by memory: a large job needs no /tmp, which may not be there.
    """
    with opened(tmp_path / "ledger.db") as ledger:
        before = open_files()

        def job(db):
            db.execute("CREATE TABLE large (id INTEGER PRIMARY KEY, octets BLOB)")
            db.executemany("INSERT INTO large VALUES (?, zeroblob(4000))", rows)
            db.execute("SAVEPOINT inner")
            db.execute("UPDATE large SET octets = zeroblob(4001)")
            return open_files() - before

        rows = [(number,) for number in range(100)]
        assert set() == ledger._writer.do(job)


# -- refusing it ----------------------------------------------------------------------


def test_a_file_that_is_no_database_is_refused(tmp_path):
    """
    In plain words, and without touching it.
    """
    path = tmp_path / "ledger.db"
    path.write_bytes(b"not a database, only some text" * 100)
    with pytest.raises(LedgerError) as raised:
        opened(path)

    assert (f"{path}: is not a ledger, or is damaged (file is not a database)") == str(
        raised.value
    )
    assert Reason.LEDGER is raised.value.reason
    assert path.read_bytes().startswith(b"not a database")


def test_a_ledger_without_its_name_is_refused(tmp_path):
    """
    Its schema is there and its one row is not: it cannot be used, and is closed again.
    """
    path = tmp_path / "ledger.db"
    with opened(path) as ledger:
        ledger._writer.do(lambda db: db.execute("DROP TABLE ledger").rowcount)

    with pytest.raises(LedgerError, match="no such table: ledger"):
        opened(path)


def test_another_program_s_database_is_refused(tmp_path):
    """
    Whether or not it says whose it is.
    """
    for number, mark in enumerate(
        ("PRAGMA user_version = 0", "PRAGMA application_id = 9")
    ):
        path = tmp_path / f"{number}.db"
        db = sqlite3.connect(path)
        db.executescript(f"CREATE TABLE theirs (a); {mark};")
        db.close()
        with pytest.raises(LedgerError, match="is the database of another program"):
            opened(path)


def test_a_newer_ledger_is_refused(tmp_path):
    """
    Its rows may mean what this version does not know.
    """
    path = tmp_path / "ledger.db"
    opened(path).close()
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 7")
    db.close()

    with pytest.raises(
        LedgerError, match=r"a newer popfetchd \(schema 7, .* knows 5\)"
    ):
        opened(path)


def test_a_damaged_ledger_is_told_when_it_is_found(tmp_path):
    """
    Also when it can still be opened.
    """
    path = tmp_path / "ledger.db"
    opened(path).close()
    octets = bytearray(path.read_bytes())
    octets[4096:] = b"\xff" * (len(octets) - 4096)
    path.write_bytes(octets)
    before = open_descriptors()

    with pytest.raises(LedgerError, match="is damaged"):
        opened(path)
    assert before == open_descriptors()


def test_a_link_to_nowhere_is_refused(tmp_path):
    """
    SQLite would make the target, readable by all.
    """
    (tmp_path / "ledger.db").symlink_to("elsewhere.db")

    with pytest.raises(LedgerError, match="cannot be opened"):
        opened(tmp_path / "ledger.db")
    assert not (tmp_path / "elsewhere.db").exists()


def test_a_place_that_is_no_folder_is_refused(tmp_path):
    """
    For the ledger, and for its locks.
    """
    (tmp_path / "file").touch()
    (tmp_path / "ledger.db.locks").touch()

    for path in (tmp_path / "file" / "ledger.db", tmp_path / "ledger.db"):
        with pytest.raises(LedgerError):
            opened(path)


def test_a_disk_without_shared_memory_is_refused(tmp_path, monkeypatch):
    """
    Some network file systems cannot keep a write-ahead log.
    """

    class WithoutWal(sqlite3.Connection):
        def execute(self, sql, *values):
            if sql == "PRAGMA journal_mode = WAL":
                sql = "PRAGMA journal_mode = DELETE"
            return super().execute(sql, *values)

    _connect_by(monkeypatch, WithoutWal)
    with pytest.raises(LedgerError, match="use a local disk"):
        opened(tmp_path / "ledger.db")


def test_a_connection_that_fails_at_once_is_closed(tmp_path, monkeypatch):
    """
    SQLite opens a file only when it is first used.
    """

    class Failing(sqlite3.Connection):
        def execute(self, sql, *values):
            message = "disk I/O error"
            raise sqlite3.OperationalError(message)

    _connect_by(monkeypatch, Failing)
    with pytest.raises(LedgerError, match="disk I/O error"):
        opened(tmp_path / "ledger.db")


def _connect_by(monkeypatch, factory):
    real = sqlite3.connect
    monkeypatch.setattr(
        sqlite3, "connect", lambda *a, **options: real(*a, factory=factory, **options)
    )


def test_an_old_sqlite_is_refused(tmp_path, monkeypatch):
    """
    The schema needs what SQLite has since 3.37.
    """
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 36, 0))

    with pytest.raises(LedgerError, match=r"needs SQLite 3\.37"):
        opened(tmp_path / "ledger.db")


def test_a_ledger_that_another_is_opening_is_waited_for(tmp_path, monkeypatch):
    """
    Not without end.
    """
    opened(tmp_path / "ledger.db").close()
    monkeypatch.setattr("popfetchd.ledger.ledger.BUSY_SECONDS", 0.0)
    lock = AccountLock(OPENING, tmp_path / "ledger.db.locks" / ".open")

    with lock.acquire(), pytest.raises(LedgerError, match="another process is opening"):
        opened(tmp_path / "ledger.db")


def test_root_keeps_no_ledger_in_folders_of_others(tmp_path, monkeypatch):
    """
    Their owner could make root write anywhere; the sentence names the line to run.
    """
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    if os.geteuid() == 0:
        os.chown(theirs, NOBODY, -1)
        owner = "nobody"
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        owner = r"\S+"

    with pytest.raises(LedgerError, match=f"runuser -u {owner} -- popfetchd …"):
        opened(theirs / "made" / "ledger.db")
    assert list(theirs.iterdir()) == []


def test_a_user_may_keep_a_ledger_where_the_system_allows(tmp_path, monkeypatch):
    """
    Whoever owns the folders above.
    """
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY)

    opened(tmp_path / "ledger.db").close()


def test_an_owner_without_a_name_is_told_by_number(tmp_path, monkeypatch):
    """
    An NFS share may belong to nobody whom this machine knows.
    """

    def nobody(uid):
        raise KeyError(uid)

    monkeypatch.setattr("pwd.getpwuid", nobody)

    assert "belongs to #7" in database._as_owner(tmp_path, 7)


# -- migrations -----------------------------------------------------------------------


def test_a_ledger_is_brought_up_to_date(tmp_path, monkeypatch):
    """
    Each script once, in order; what is in the ledger stays.
    """
    path = tmp_path / "ledger.db"
    with opened(path) as ledger:
        ledger.reserve(5)
    scripts = [*database.migrations(), "CREATE TABLE added (a INTEGER) STRICT;"]
    monkeypatch.setattr(database, "migrations", lambda: scripts)
    for _ in range(2):
        with opened(path) as ledger:
            assert 5 == ledger.highest()
    db = sqlite3.connect(path)

    assert (len(scripts),) == db.execute("PRAGMA user_version").fetchone()
    db.close()


SCRIPTS = [
    "6c357e2ebc6d1862",
    "f0451140c58e3e26",
    "f918ff98afd7f8bd",
    "c352f28b1a299b84",
    "608394f0e8381c78",
]
"""The start of each script's SHA-256. A new script adds a line, and no line changes."""


def test_a_script_stays_as_it_is():
    """
    Ledgers have had it: what is added to it later they would lack for ever.
    """
    digests = [hashlib.sha256(s.encode()).hexdigest() for s in database.migrations()]

    assert SCRIPTS == [digest[:16] for digest in digests]


def test_a_migration_that_fails_changes_nothing(tmp_path, monkeypatch):
    """
    It runs in one transaction.
    """
    path = tmp_path / "ledger.db"
    opened(path).close()
    bad = [*database.migrations(), "CREATE TABLE added (a); SELECT * FROM nowhere;"]
    with monkeypatch.context() as patch:
        patch.setattr(database, "migrations", lambda: bad)
        with pytest.raises(LedgerError, match="no such table: nowhere"):
            opened(path)

    opened(path).close()
    db = sqlite3.connect(path)
    assert [] == db.execute("PRAGMA table_info(added)").fetchall()
    db.close()


# -- reading --------------------------------------------------------------------------


def test_a_closed_ledger_says_so(tmp_path):
    """
    To who reads and to who writes; closing it again does nothing.
    """
    ledger = opened(tmp_path / "ledger.db")
    ledger.close()
    ledger.close()

    for act in (ledger.highest, lambda: ledger.reserve(1)):
        with pytest.raises(LedgerError, match="was closed"):
            act()


def test_connections_are_kept_a_few(tmp_path):
    """
    One is used again; those above the few, and those that come back late, are closed.
    """
    opened(tmp_path / "ledger.db").close()
    readers = Readers(tmp_path / "ledger.db")
    with readers.one() as first:
        pass
    with readers.one() as again:
        assert first is again
    lent = [readers.one() for _ in range(IDLE + 2)]
    connections = [one.__enter__() for one in lent]
    for one in lent[:-1]:
        one.__exit__(None, None, None)
    readers.close()
    lent[-1].__exit__(None, None, None)

    for connection in connections:
        with pytest.raises(sqlite3.ProgrammingError, match="closed database"):
            connection.execute("SELECT 1")


def test_a_failing_read_is_told(tmp_path):
    """
    SQLite's errors are told as ours, with the ledger's path.
    """
    with opened(tmp_path / "ledger.db") as ledger:
        ledger._writer.do(lambda db: db.execute("DROP TABLE account_state").rowcount)
        with pytest.raises(LedgerError, match=r"ledger\.db: no such table"):
            ledger.states()


@pytest.mark.parametrize("instead", [False, True], ids=["gone", "replaced"])
def test_a_ledger_that_was_taken_away_is_not_read(tmp_path, instead):
    """
    SQLite would go on with the file that nobody finds again: it is told instead.
    """
    path = tmp_path / "ledger.db"
    with opened(path) as ledger:
        ledger.reserve(1)
        path.rename(tmp_path / "away.db")
        if instead:
            path.touch(mode=0o600)
        with pytest.raises(LedgerError, match="is gone, or another file") as caught:
            ledger.highest()
        assert Reason.LEDGER is caught.value.reason
        (tmp_path / "away.db").rename(path)
        assert 1 == ledger.highest()
