"""
Connections for reading: each belongs to one thread at a time, and a few are kept.

Rules of this file:

- Nothing is read unless the path still leads to the file that is open. SQLite goes on
  with one that was deleted or replaced, and all that is written there is lost with the
  process. A visit reads before it fetches: that is where it stops.
"""

from __future__ import annotations

import sqlite3
import threading

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from popfetchd.errors import LedgerError
from popfetchd.ledger.database import connect, told


IDLE = 8
"""Connections kept while nobody reads: a read takes a millisecond, so few overlap."""


class Readers:
    """
    Lends connections to the ledger at *path*.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = identity(path)
        self._gate = threading.Lock()
        self._closed = False
        self._idle: list[sqlite3.Connection] = []

    @contextmanager
    def one(self) -> Iterator[sqlite3.Connection]:
        """
        Lend a connection; LedgerError when there is none, or SQLite fails inside.
        """
        if identity(self._path) != self._file:
            raise LedgerError(self._path, "is gone, or another file is in its place")
        try:
            connection = self._take()
            try:
                yield connection
            finally:
                self._put_back(connection)
        except sqlite3.Error as error:
            raise told(self._path, error) from error

    def close(self) -> None:
        """
        Close all connections; one that is lent, when it comes back.
        """
        with self._gate:
            self._closed = True
            for connection in self._idle:
                connection.close()
            self._idle.clear()

    def _take(self) -> sqlite3.Connection:
        with self._gate:
            if self._closed:
                raise LedgerError(self._path, "was closed")
            if self._idle:
                return self._idle.pop()
        return connect(self._path)

    def _put_back(self, connection: sqlite3.Connection) -> None:
        with self._gate:
            if self._closed or len(self._idle) >= IDLE:
                connection.close()
            else:
                self._idle.append(connection)


def identity(path: Path) -> tuple[int, int] | None:
    """
    Return what tells the file at *path* from every other one; None if there is none.
    """
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
