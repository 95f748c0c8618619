"""
The lock on an account: across threads, processes, kills and children.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys

import pytest

from popfetchd.errors import AccountLocked, LedgerError
from popfetchd.ledger import AccountLock, Ledger
from popfetchd.ledger.lock import LOOK_AGAIN
from popfetchd.values import AccountName
from tests.faulty_disk import open_descriptors


ALICE = AccountName("alice")

HOLDER = """
import sys
from pathlib import Path
from popfetchd.ledger import AccountLock

with AccountLock("alice", Path(sys.argv[1])).acquire():
    print("held", flush=True)
    sys.stdin.read()
"""
"""Holds the lock until its input ends, or it is killed."""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "alice"


@pytest.fixture
def holder(path):
    """
    Another process that holds the lock.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"held\n"
    yield process
    process.communicate(timeout=60)


def test_a_held_lock_is_refused_and_named(path):
    """
    Also to another thread of the same process; once released it is free.
    """
    other = AccountLock(ALICE, path)
    with AccountLock(ALICE, path).acquire():
        with pytest.raises(AccountLocked) as raised:
            other.acquire()
        assert "account 'alice' is being visited by another popfetchd" == str(
            raised.value
        )
    with other.acquire():
        pass


def test_accounts_do_not_lock_each_other(tmp_path):
    """
    Each has a file of its own; the ledger knows where.
    """
    with (
        Ledger(tmp_path / "ledger.db", now=lambda: 0.0) as ledger,
        ledger.lock(ALICE).acquire(),
        ledger.lock(AccountName("bob")).acquire(),
        pytest.raises(AccountLocked),
    ):
        ledger.lock(ALICE).acquire()


def test_it_may_be_entered_without_waiting(path):
    """
    `with lock:` acquires it, `with lock.acquire(…):` has.
    """
    with AccountLock(ALICE, path) as lock, pytest.raises(AccountLocked):
        AccountLock(ALICE, path).acquire()
    with lock:
        pass
    lock.release()


def test_it_is_waited_for_as_long_as_said(path):
    """
    Tried again and again, then given up.
    """
    slept = []
    lock = AccountLock(ALICE, path, clock=lambda: sum(slept), sleep=slept.append)
    with AccountLock(ALICE, path).acquire(), pytest.raises(AccountLocked):
        lock.acquire(4 * LOOK_AGAIN)

    assert [LOOK_AGAIN] * 4 == slept


@pytest.mark.parametrize("wait", [None, 60.0])
def test_it_is_had_as_soon_as_it_is_free(path, wait):
    """
    Within the time, or without end.
    """
    holding = AccountLock(ALICE, path).acquire()
    lock = AccountLock(ALICE, path, sleep=lambda _: holding.release())

    with lock.acquire(wait):
        pass


def test_another_process_s_lock_counts(path, holder):
    """
    `fetch` beside the service never visits the same account at once.
    """
    with pytest.raises(AccountLocked):
        AccountLock(ALICE, path).acquire()
    holder.stdin.close()
    holder.stdin = None
    holder.wait(60)
    with AccountLock(ALICE, path).acquire():
        pass


def test_a_killed_process_leaves_no_lock(path, holder):
    """
    Kill -9, and the next one has it at once: nothing to clean up by hand.
    """
    holder.send_signal(signal.SIGKILL)
    holder.wait(60)

    with AccountLock(ALICE, path).acquire():
        pass


def test_a_child_does_not_keep_the_lock(path):
    """
    A `password_command` that hangs must not lock the account for ever.
    """
    with AccountLock(ALICE, path).acquire():
        child = subprocess.Popen(
            [sys.executable, "-c", "print(flush=True); input()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            close_fds=False,
        )
        # Popen may return in the midst of exec, before the kernel has closed the lock.
        assert child.stdout.readline() == b"\n"
    try:
        with AccountLock(ALICE, path).acquire():
            pass
    finally:
        child.communicate(timeout=60)


def test_a_lock_that_cannot_be_is_told(path, monkeypatch):
    """
    No file, a link in its place, or a file system without locks.
    """
    path.symlink_to("elsewhere")
    with pytest.raises(LedgerError, match="Too many levels of symbolic links"):
        AccountLock(ALICE, path).acquire()
    path.unlink()

    def without_locks(fd, operation):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", without_locks)
    before = open_descriptors()
    with pytest.raises(LedgerError, match="Operation not supported"):
        AccountLock(ALICE, path).acquire()
    assert before == open_descriptors()


def test_a_failing_close_is_no_failure(path, monkeypatch):
    """
    What close(2) says of a lock's file covers up no other error, and the lock is gone.
    """
    close = os.close

    def fails(fd):
        close(fd)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr("popfetchd.ledger.lock.os.close", fails)
        with (
            pytest.raises(ZeroDivisionError),
            AccountLock(ALICE, path).acquire(),
        ):
            raise ZeroDivisionError
    assert AccountLock(ALICE, path).acquire() is not None
