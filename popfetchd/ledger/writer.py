"""
One writer with group commit: many visits, few fsyncs.

Rules of this file:

- One thread writes. Jobs that wait while it commits go into the next transaction
  together; each returns only when that transaction is durable.
- A job that fails is undone alone, by its savepoint. A commit that fails, fails all of
  its jobs: none may believe that it was recorded.
- What a failed commit left in the write-ahead log may still come to light after a power
  cut. Each job is such that this harms nothing: the archive's `settle` decides.
"""

from __future__ import annotations

import queue
import sqlite3
import threading

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from popfetchd.errors import LedgerError
from popfetchd.ledger.database import told


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Job(Generic[T]):
    """
    What is to be written, and the future that waits for it.
    """

    work: Callable[[sqlite3.Connection], T]
    future: Future[T]


@dataclass(frozen=True, slots=True)
class Done(Generic[T]):
    """
    What a job gave, to be told when the commit is durable.
    """

    job: Job[T]
    result: T

    def tell(self) -> None:
        self.job.future.set_result(self.result)


@dataclass(frozen=True, slots=True)
class Failed(Generic[T]):
    """
    Why a job was undone.
    """

    job: Job[T]
    error: Exception

    def tell(self) -> None:
        self.job.future.set_exception(self.error)


class Writer:
    """
    Writes through *connection*, which becomes its own.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
        # A closed writer takes no more jobs: one put after the None would wait forever.
        self._gate = threading.Lock()
        self._closed = False
        self._jobs: queue.SimpleQueue[Job[object] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="ledger", daemon=True)
        self._thread.start()

    def do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """
        Do *work* in a transaction; return its result once that is durable.

        Raises LedgerError when the database fails, else whatever *work* raises.
        """
        job: Job[T] = Job(work, Future())
        with self._gate:
            if self._closed:
                raise LedgerError(self._path, "was closed")
            self._jobs.put(job)  # type: ignore[arg-type]  # a Job of any T is taken
        return job.future.result()

    def close(self) -> None:
        """
        End when all jobs are done; close the connection. May be called again.
        """
        with self._gate:
            if self._closed:
                return
            self._closed = True
            self._jobs.put(None)
        self._thread.join()
        self._connection.close()

    def _work(self) -> None:
        open_ = True
        while open_:
            jobs = [self._jobs.get()]
            with suppress(queue.Empty):
                while True:
                    jobs.append(self._jobs.get_nowait())
            open_ = None not in jobs
            self._write([job for job in jobs if job is not None])

    def _write(self, jobs: list[Job[object]]) -> None:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            outcomes = [self._try(job) for job in jobs]
            self._connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 -- the writer outlives whatever it is
            with suppress(sqlite3.Error):
                self._connection.rollback()
            outcomes = [self._failed(job, error) for job in jobs]
        for outcome in outcomes:
            outcome.tell()

    def _try(self, job: Job[object]) -> Done[object] | Failed[object]:
        self._connection.execute("SAVEPOINT job")
        outcome: Done[object] | Failed[object]
        try:
            outcome = Done(job, job.work(self._connection))
        except Exception as error:
            if not self._connection.in_transaction:
                raise  # SQLite has undone all of it (a full disk): all have failed
            self._connection.execute("ROLLBACK TO job")
            outcome = self._failed(job, error)
        self._connection.execute("RELEASE job")
        return outcome

    def _failed(self, job: Job[object], error: Exception) -> Failed[object]:
        if isinstance(error, sqlite3.Error):
            failure = told(self._path, error)
            failure.__cause__ = error
            return Failed(job, failure)
        return Failed(job, error)
