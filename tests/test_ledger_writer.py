"""
Group commit: many jobs, one transaction; each told what became of it.
"""

from __future__ import annotations

import sqlite3
import threading

from concurrent.futures import ThreadPoolExecutor

import pytest

from popfetchd.errors import LedgerError
from popfetchd.ledger import Ledger
from popfetchd.ledger.database import told
from popfetchd.ledger.writer import Writer
from popfetchd.values import AccountName, AccountState


class Traced(sqlite3.Connection):
    """
    Remembers what is said; fails when *failing* is said for the second time.
    """

    failing = None

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.said = []

    def execute(self, sql, *values):
        self.said.append(sql)
        if sql == self.failing and self.said.count(sql) == 2:
            message = "disk I/O error"
            raise sqlite3.OperationalError(message)
        return super().execute(sql, *values)


@pytest.fixture
def connection(tmp_path):
    made = sqlite3.connect(
        tmp_path / "test.db",
        isolation_level=None,
        check_same_thread=False,
        factory=Traced,
    )
    made.execute("CREATE TABLE t (a INTEGER UNIQUE)")
    return made


@pytest.fixture
def writer(connection, tmp_path):
    made = Writer(connection, tmp_path / "test.db")
    yield made
    made.close()


def insert(number):
    return lambda db: db.execute("INSERT INTO t VALUES (?)", (number,)).lastrowid


def rows(tmp_path):
    db = sqlite3.connect(tmp_path / "test.db")
    found = {row for (row,) in db.execute("SELECT a FROM t")}
    db.close()
    return found


class Gate:
    """
    A job that keeps the writer busy until it is opened.
    """

    def __init__(self):
        self.reached = threading.Event()
        self.open = threading.Event()

    def __call__(self, db):
        self.reached.set()
        return self.open.wait(60)


def together(writer, works):
    """
    Do all *works*, each from its own thread, so that they share one transaction.

    Returns what each gave or raised.
    """
    with ThreadPoolExecutor(len(works) + 1) as threads:
        gate = Gate()
        first = threads.submit(writer.do, gate)
        gate.reached.wait(60)
        outcomes = [threads.submit(writer.do, work) for work in works]
        while writer._jobs.qsize() < len(works):
            assert not first.done()
        gate.open.set()
        return [outcome.exception() or outcome.result() for outcome in outcomes]


def test_a_job_s_result_is_returned_when_it_is_durable(writer, tmp_path):
    """
    Another connection sees it then.
    """
    assert 1 == writer.do(insert(5))
    assert {5} == rows(tmp_path)


def test_jobs_that_wait_are_committed_together(writer, connection, tmp_path):
    """
    32 threads, one commit for all but the first.
    """
    connection.said.clear()
    outcomes = together(writer, [insert(n) for n in range(32)])

    assert set(range(1, 33)) == set(outcomes)
    assert set(range(32)) == rows(tmp_path)
    assert 2 == connection.said.count("COMMIT")


def test_a_job_that_fails_is_undone_alone(writer, tmp_path):
    """
    What it wrote before it failed is undone, the others' stays; its error is its own.
    """

    def fails(db):
        insert(100)(db)
        raise KeyError("mine")

    def breaks_a_rule(db):
        insert(101)(db)
        insert(101)(db)

    one, key, rule, two = together(writer, [insert(1), fails, breaks_a_rule, insert(2)])

    assert {int} == {type(one), type(two)}
    assert isinstance(key, KeyError)
    assert isinstance(rule, LedgerError)
    assert {1, 2} == rows(tmp_path)


@pytest.mark.parametrize("failing", ["BEGIN IMMEDIATE", "COMMIT", "RELEASE job"])
def test_a_transaction_that_fails_fails_all_its_jobs(
    writer, connection, tmp_path, failing
):
    """
    None may believe that it was recorded (P1); the next transaction starts afresh.
    """
    connection.failing = failing
    outcomes = together(writer, [insert(1), insert(2)])

    assert [LedgerError, LedgerError] == [type(outcome) for outcome in outcomes]
    assert outcomes[0] is not outcomes[1]
    assert set() == rows(tmp_path)
    writer.do(insert(3))
    assert {3} == rows(tmp_path)


def test_a_full_disk_fails_the_transaction_in_plain_words(tmp_path):
    """
    And nothing of it stays; a ledger that has room again goes on.
    """
    account, state = AccountName("alice"), AccountState(error="x" * 100_000)
    with Ledger(tmp_path / "ledger.db", now=lambda: 0.0) as ledger:
        ledger._writer.do(limit_to(pages=1))
        with pytest.raises(LedgerError, match="there is no room left on its disk"):
            ledger.save_state(account, state)
        ledger._writer.do(limit_to(pages=10_000))
        assert AccountState() == ledger.state(account)
        ledger.save_state(account, state)
        assert state == ledger.state(account)


def limit_to(pages):
    return lambda db: db.execute(f"PRAGMA max_page_count = {pages}").fetchall()


def test_another_process_s_commits_are_waited_for(tmp_path):
    """
    `fetch` beside the service: two ledgers on one file give no number twice.
    """
    path = tmp_path / "ledger.db"
    with (
        Ledger(path, now=lambda: 0.0) as one,
        Ledger(path, now=lambda: 0.0) as other,
        ThreadPoolExecutor(8) as threads,
    ):
        given = threads.map(lambda n: (one, other)[n % 2].reserve(3), range(40))
        numbers = [number for reserved in given for number in reserved]

    assert list(range(1, 121)) == sorted(numbers)


def test_a_closed_writer_has_done_its_jobs(connection, tmp_path):
    """
    What was handed in before is written; after, nothing is taken.
    """
    writer = Writer(connection, tmp_path / "test.db")
    gate = Gate()
    with ThreadPoolExecutor(3) as threads:
        first = threads.submit(writer.do, gate)
        gate.reached.wait(60)
        second = threads.submit(writer.do, insert(2))
        while writer._jobs.qsize() < 1:
            assert not first.done()
        closing = threads.submit(writer.close)
        while not writer._closed:
            assert not closing.done()
        gate.open.set()
        closing.result()

    assert second.result() == 1
    assert {2} == rows(tmp_path)
    with pytest.raises(LedgerError, match="was closed"):
        writer.do(insert(3))
    writer.close()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("SQLITE_FULL", "p: there is no room left on its disk (said)"),
        ("SQLITE_BUSY_SNAPSHOT", "p: another process has held it for too long (said)"),
        ("SQLITE_IOERR_FSYNC", "p: its disk fails (said)"),
        ("SQLITE_READONLY_DIRECTORY", "p: may not be written (said)"),
        ("SQLITE_CORRUPT", "p: is damaged (said)"),
        ("SQLITE_ERROR", "p: said"),
        ("", "p: said"),
    ],
)
def test_what_sqlite_says_is_told_in_plain_words(tmp_path, name, sentence):
    """
    By its result code; what has none is told as it was said.
    """
    error = sqlite3.OperationalError("said")
    error.sqlite_errorname = name

    assert sentence == str(told("p", error))
