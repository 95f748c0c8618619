"""
The ledger's file: how it is made, opened and brought up to date.

Rules of this file:

- The file is private (0600) from the first instant; SQLite gives its -wal and -shm the
  same mode. The folder's entry is fsynced: a ledger that a power cut takes away while
  its archive stays would mean fetching everything again.
- A commit has reached the disk when it returns (WAL, synchronous=FULL): with NORMAL a
  power cut may undo the last commits, and those are the ones that matter.
- No temporary file: /tmp may be full, or not to be written (a container), and has no
  say in whether mail is recorded.
- The schema is a list of numbered files, each run once in one transaction. A file of a
  newer popfetchd, of another program, or a damaged one is refused in plain words.
- What SQLite says is told as a LedgerError, here and nowhere else.
"""

from __future__ import annotations

import errno
import os
import pwd
import re
import sqlite3

from contextlib import suppress
from pathlib import Path

from popfetchd.errors import LedgerDamaged, LedgerError, LedgerFull, LedgerNewer


APPLICATION_ID = 0x706F7066
"""Marks a SQLite file as a ledger of ours (set by the first migration)."""

OLDEST_SQLITE = (3, 37, 0)
"""STRICT tables begin there (November 2021)."""

BUSY_SECONDS = 30.0
"""How long to wait for another process (`fetch` beside the service) to commit: it holds
the file for one batch, milliseconds; half a minute means that something hangs."""

LARGEST_WAL = 64 * 1024**2
"""Octets that the write-ahead log keeps on the disk after a large visit."""

FILE_MODE = 0o600

FOLDER_MODE = 0o700

MIGRATIONS = Path(__file__).with_name("migrations")
MIGRATION = re.compile(r"(\d{4})_\w+\.sql")

PROBLEMS = {
    "SQLITE_FULL": "there is no room left on its disk",
    "SQLITE_BUSY": "another process has held it for too long",
    "SQLITE_LOCKED": "another process has held it for too long",
    "SQLITE_NOTADB": "is not a ledger, or is damaged",
    "SQLITE_CORRUPT": "is damaged",
    "SQLITE_CANTOPEN": "cannot be opened",
    "SQLITE_READONLY": "may not be written",
    "SQLITE_PERM": "may not be opened",
    "SQLITE_IOERR": "its disk fails",
}
"""What SQLite's result codes (sqlite.org/rescode.html) mean to an operator."""

KINDS = {
    "SQLITE_FULL": LedgerFull,
    "SQLITE_NOTADB": LedgerDamaged,
    "SQLITE_CORRUPT": LedgerDamaged,
}
"""Those that have a remedy of their own."""


def told(path: Path, error: sqlite3.Error) -> LedgerError:
    """
    Return SQLite's *error* in plain words.
    """
    name = getattr(error, "sqlite_errorname", "")
    primary = "_".join(name.split("_")[:2])  # SQLITE_IOERR_FSYNC is an SQLITE_IOERR
    problem, kind = PROBLEMS.get(primary), KINDS.get(primary, LedgerError)
    return kind(path, f"{problem} ({error})" if problem else str(error))


def refused(path: Path, error: OSError) -> LedgerError:
    """
    Return the system's *error* in plain words.
    """
    full = error.errno in {errno.ENOSPC, errno.EDQUOT}
    kind = LedgerFull if full else LedgerError
    return kind(path, error.strerror or str(error))


def locks_of(path: Path) -> Path:
    """
    Return the folder of the locks that belong to the ledger at *path*.
    """
    return path.with_name(path.name + ".locks")


def make_file(path: Path, locks: Path) -> None:
    """
    Make the file at *path* and the folder *locks* where they are missing, durably.
    """
    try:
        _check_root(path)
        make_folder(path.parent)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with suppress(FileExistsError):
            os.close(os.open(path, flags, FILE_MODE))
        make_folder(locks)
        sync_folder(path.parent)
    except OSError as error:
        raise refused(path, error) from error


def make_folder(path: Path) -> None:
    """
    Make the folder at *path* and those above it where they are missing, durably.

    The last one that was there may be what a killed run made and did not make last.
    OSError when that cannot be done.
    """
    if path.is_dir():
        with suppress(PermissionError):  # where we may not read we have made nothing
            sync_folder(path.parent)
        return
    make_folder(path.parent)
    with suppress(FileExistsError):
        path.mkdir(FOLDER_MODE)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """
    Make the names in the folder at *path* last.
    """
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _check_root(path: Path) -> None:
    # Who owns a folder could make root write wherever he likes.
    if os.geteuid() != 0:
        return
    for folder in {*path.parents, *Path(os.path.realpath(path)).parents}:
        with suppress(FileNotFoundError):
            owner = folder.lstat().st_uid
            if owner != 0:
                raise LedgerError(path, _as_owner(folder, owner))


def _as_owner(folder: Path, owner: int) -> str:
    try:
        name = pwd.getpwuid(owner).pw_name
    except KeyError:
        name = f"#{owner}"
    return (
        f"{folder} belongs to {name}, and root writes only where root owns all: "
        f"runuser -u {name} -- popfetchd …"
    )


def connect(path: Path) -> sqlite3.Connection:
    """
    Open a connection, for one thread at a time. It begins transactions only when told.

    Raises sqlite3.Error. The file must be there: SQLite would make it readable by all.
    """
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute(f"PRAGMA journal_size_limit = {LARGEST_WAL}")
    except BaseException:
        connection.close()
        raise
    return connection


def connect_to_read(path: Path, *, untouched: bool = False) -> sqlite3.Connection:
    """
    Open a connection that changes nothing, not even beside the file at *path*.

    Without a write-ahead log nobody has it open, and the file is whole in itself; with
    one SQLite has to share its index (-shm), and may make it. *untouched*: it may not;
    where there is none, nothing can be read. Raises sqlite3.Error.
    """
    alone = not path.with_name(path.name + "-wal").exists()
    how = "&immutable=1" if alone else "&readonly_shm=1" if untouched else ""
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro{how}",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
    )


def open_database(path: Path) -> sqlite3.Connection:
    """
    Open the ledger in the file at *path*, which may be empty; bring it up to date.

    Raises LedgerError. One process at a time: the caller holds a lock.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise LedgerError(path, f"needs SQLite 3.37, this is {sqlite3.sqlite_version}")
    try:
        connection = connect(path)
    except sqlite3.Error as error:
        raise told(path, error) from error
    try:
        _bring_up_to_date(connection, path)
    except sqlite3.Error as error:
        connection.close()
        raise told(path, error) from error
    except BaseException:
        connection.close()
        raise
    return connection


def _bring_up_to_date(connection: sqlite3.Connection, path: Path) -> None:
    version = schema_version(connection, path)
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise LedgerError(path, "cannot keep a write-ahead log: use a local disk")
    scripts = migrations()[version:]
    for number, script in enumerate(scripts, version + 1):
        connection.executescript(
            f"BEGIN IMMEDIATE; {script} PRAGMA user_version = {number}; COMMIT;"
        )
    if scripts:
        # The ledger's id is in the file itself before an archive bears it: who loses the
        # log has an old ledger, which is noticed, and not a new one, which fetches all.
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()


def schema_version(connection: sqlite3.Connection, path: Path) -> int:
    """
    Return how many of `migrations` the ledger at *path* has had.

    LedgerError where it is another program's, LedgerNewer where it has had more.
    """
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if application != (APPLICATION_ID if tables else 0):
        raise LedgerError(path, "is the database of another program")
    newest = len(migrations())
    if version > newest:
        raise LedgerNewer(
            path,
            f"was written by a newer popfetchd (schema {version}, this one knows "
            f"{newest})",
        )
    return int(version)


def migrations() -> list[str]:
    """
    Return the scripts that make the schema, in order; the first makes version 1.
    """
    scripts = (f for f in MIGRATIONS.iterdir() if MIGRATION.fullmatch(f.name))
    return [script.read_text("utf-8") for script in sorted(scripts)]
