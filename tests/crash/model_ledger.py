"""
The real ledger, which tells fate of each of its commits.

Rules of this file:

- A commit that returned is taken as durable (SQLite, WAL, FULL). A crash may come
  before or after it; there is nothing in between.
- A commit may fail, and its frames may stand in the write-ahead log all the same: they
  come to light after a crash, unless another transaction has overwritten them.
- One thread: what the writer does for others it does here in the visit's own.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile

from collections.abc import Callable
from concurrent.futures import Future
from functools import cache
from pathlib import Path

from popfetchd.errors import LedgerError
from popfetchd.ledger import Ledger
from popfetchd.ledger.writer import Job, Writer
from tests.crash.model_fate import LEDGER, Deed, Fate


MEMORY = Path("/dev/shm")
"""Where the ledger's file is kept, if there is such a place: its fsyncs cost nothing."""

WRITES = tuple(
    name
    for name in (
        "reserve",
        "record",
        "place",
        "commit",
        "void",
        "recognise",
        "sight",
        "leave",
        "mark",
        "unmark",
        "removed",
        "pop",
        "fail",
        "forgive",
        "damage",
        "heal",
        "save_state",
        "save_visit",
    )
    if hasattr(Ledger, name)
)
"""The ledger's methods that commit."""


class InlineWriter(Writer):
    """
    The ledger's writer, without its thread.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path

    def do(self, work: Callable[[sqlite3.Connection], object]) -> object:
        job = Job(work, Future())
        self._write([job])
        return job.future.result()

    def close(self) -> None:
        self._connection.close()


class ModelLedger(Ledger):
    """
    The ledger in the file at *path*.
    """

    fate = Fate(())

    def __init__(self, path: Path, *, now: Callable[[], float]) -> None:
        self.promised: set[str] = set()
        """The bases of what was committed as published."""
        self._unseen: Callable[[Ledger], object] | None = None
        super().__init__(path, now=now)

    def reopened(self, now: Callable[[], float], *, comes_to_light: bool) -> Ledger:
        """
        Close the ledger; return the one that the next process opens.

        *comes_to_light*: with what a commit that failed has left behind.
        """
        self.close()
        ledger = ModelLedger(self.path, now=now)
        ledger.promised = self.promised
        if comes_to_light and self._unseen is not None:
            self._unseen(ledger)
        return ledger


def _watched(name):
    write = getattr(Ledger, name)

    def watched(self, *arguments):
        deed = self.fate.meet(name)
        self._unseen = None  # the next transaction overwrites it
        if deed is Deed.LEDGER_LIES:
            self._unseen = lambda ledger: write(ledger, *arguments)
        if deed in LEDGER:
            raise LedgerError(self.path, "its disk fails")
        result = write(self, *arguments)
        if name == "commit":
            self.promised.update(p.recorded.copy.base for p in arguments[0])
        self.fate.meet(f"{name} done")
        return result

    return watched


for _name in WRITES:
    setattr(ModelLedger, _name, _watched(_name))


def new_ledger() -> Path:
    """
    Return the path of a new ledger's file; the one before it is gone.
    """
    place = Path(_folder().name)
    for old in place.glob("ledger.db*"):
        if old.is_file():
            old.unlink()
    shutil.copyfile(place / "new.db", place / "ledger.db")
    return place / "ledger.db"


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    # With a ledger that is made once, then copied: a schema takes longer than a story.
    base = MEMORY if MEMORY.is_dir() else None
    folder = tempfile.TemporaryDirectory(prefix="popfetchd-", dir=base)
    Ledger(Path(folder.name) / "new.db", now=lambda: 0.0).close()
    return folder
