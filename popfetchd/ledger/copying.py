"""
The ledger's file as a whole: copied while it is used, and set aside when it is of no use.

Rules of this file:

- A copy is one moment of the ledger, whole: SQLite makes it while others write. It is
  private (0600) from its first octet, checked and fsynced before it gets its name, and
  takes no other file's place unless that was asked for.
- A ledger is never deleted: it is renamed, with the time in its new name.
"""

from __future__ import annotations

import os
import sqlite3
import time

from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from popfetchd.errors import LedgerDamaged, LedgerError
from popfetchd.ledger.database import (
    FILE_MODE,
    connect,
    locks_of,
    refused,
    sync_folder,
    told,
)
from popfetchd.ledger.use import Use


LOGS = ("-wal", "-shm")
"""What SQLite keeps beside a ledger, and what belongs to no other."""


def check(db: sqlite3.Connection, path: Path, *, quick: bool = False) -> None:
    """
    Read the whole ledger; LedgerDamaged, with the first thing found, if it is damaged.

    *quick*: without comparing rows and indexes, which takes five times as long.
    """
    how = "quick_check" if quick else "integrity_check"
    try:
        (found,) = db.execute(f"PRAGMA {how}(1)").fetchone()
    except sqlite3.Error as error:
        raise told(path, error) from error
    if found != "ok":
        raise LedgerDamaged(path, f"is damaged ({found.splitlines()[-1]})")


def check_apart(ledger: Path, target: Path) -> None:
    """
    LedgerError if *target* is the file *ledger*, or one that SQLite keeps beside it.
    """
    names = {
        _real(path.with_name(path.name + log))
        for path in (ledger, ledger.resolve())
        for log in ("", *LOGS)
    }
    if _real(target) in names:
        raise LedgerError(target, "is the ledger's own file")


def _real(path: Path) -> Path:
    return path.parent.resolve() / path.name


def copy_to(ledger: sqlite3.Connection, target: Path, *, replace: bool) -> None:
    """
    Write a copy of *ledger* to the file *target*, durably, all of it or nothing.

    LedgerError when that fails, or when there is a file and it is not to be replaced.
    """
    making = target.with_name(f"{target.name}.{os.getpid()}.making")
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        os.close(os.open(making, flags, FILE_MODE))
        try:
            _fill(ledger, making)
            _sync(making)
            put = os.replace if replace else os.link
            put(making, target)
            sync_folder(target.parent)
        finally:
            for name in (making, *(Path(f"{making}{log}") for log in LOGS)):
                name.unlink(missing_ok=True)
    except FileExistsError as error:
        raise LedgerError(error.filename2 or making, "is there already") from error
    except OSError as error:
        raise refused(target, error) from error
    except sqlite3.Error as error:
        raise told(target, error) from error


def _fill(ledger: sqlite3.Connection, making: Path) -> None:
    with closing(connect(making)) as copy:
        ledger.backup(copy)
        # One file, without a log beside it; the ledger itself takes its log up again.
        copy.execute("PRAGMA journal_mode = DELETE")
        check(copy, making)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def set_aside(path: Path, now: Callable[[], float]) -> Path:
    """
    Rename the ledger at *path* and return its new path; LedgerInUse if it is open.

    Its log first: a ledger without its log is an old one, which is noticed; a log beside
    a new ledger would be none of its own.
    """
    use = Use(path, locks_of(path), alone=True)
    try:
        return _renamed(path, now)
    finally:
        use.end()


def _renamed(path: Path, now: Callable[[], float]) -> Path:
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now()))
    aside = path.with_name(f"{path.name}.{moment}")
    try:
        if aside.exists():
            raise LedgerError(aside, "is there already")
        for log in LOGS:
            with suppress(FileNotFoundError):
                Path(f"{path}{log}").rename(f"{aside}{log}")
        path.rename(aside)
        sync_folder(path.parent)
    except OSError as error:
        raise refused(path, error) from error
    return aside
