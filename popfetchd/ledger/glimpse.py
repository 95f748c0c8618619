"""
A look into a ledger that leaves no trace: for verbs that only show.

Rules of this file:

- Nothing is made: no ledger, no folder, no lock. Where there is no ledger there is
  nothing to see, which is no error.
- As root, another user's ledger is read as that user: what SQLite has to make beside it
  (the index of its log) is his, and he cannot make root write elsewhere. Where he does
  not reach it himself (systemd keeps a DynamicUser's below a folder of root's), root
  reads it, and SQLite makes nothing.
- Each look opens the file anew; nobody looks often.
"""

from __future__ import annotations

import os
import sqlite3

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar

from popfetchd.errors import LedgerError
from popfetchd.ledger import rows as table
from popfetchd.ledger.database import (
    connect_to_read,
    migrations,
    refused,
    schema_version,
    told,
)
from popfetchd.ledger.ledger import all_states
from popfetchd.values import AccountName, AccountState, Failure, Known, UniqueId


T = TypeVar("T")


class Glimpse:
    """
    What the ledger in the file at *path* shows.

    Its methods raise LedgerError: it cannot be read, or is of another version.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def states(self) -> dict[AccountName, AccountState]:
        """
        Return what is remembered of every account.
        """
        return self._ask(all_states, {})

    def failures(self) -> dict[AccountName, dict[UniqueId, Failure]]:
        """
        Return, of each account that has some, the messages that failed.
        """
        return self._ask(table.all_failures, {})

    def archived(self, account: AccountName) -> frozenset[UniqueId]:
        """
        Return the unique-ids of the account's archived messages: hints, no proofs.
        """
        known = self.known(account)
        return frozenset(row.unique_id for row in known if row.unique_id is not None)

    def known(self, account: AccountName) -> list[Known]:
        """
        Return what is known of the account's archived messages, in no order.
        """
        nothing: list[Known] = []
        return self._ask(lambda db: table.known(db, account), nothing)

    def _ask(self, question: Callable[[sqlite3.Connection], T], nothing: T) -> T:
        try:
            owner = self._path.stat().st_uid
        except FileNotFoundError:
            return nothing
        except OSError as error:
            raise refused(self._path, error) from error
        try:
            with self._opened(owner) as db:
                return question(db) if self._is_ours(db) else nothing
        except sqlite3.Error as error:
            raise told(self._path, error) from error

    @contextmanager
    def _opened(self, owner: int) -> Iterator[sqlite3.Connection]:
        with _acting_for(owner):
            reaches = os.access(self._path, os.R_OK, effective_ids=True)
        reader = owner if reaches else os.geteuid()
        with (
            _acting_for(reader),
            closing(connect_to_read(self._path, untouched=not reaches)) as db,
        ):
            yield db

    def _is_ours(self, db: sqlite3.Connection) -> bool:
        version, newest = schema_version(db, self._path), len(migrations())
        if 0 < version < newest:
            problem = "is an older popfetchd's; the next visit brings it up to date"
            raise LedgerError(self._path, problem)
        return version == newest  # 0: it was made a moment ago


@contextmanager
def _acting_for(owner: int) -> Iterator[None]:
    before = os.geteuid()
    if before != 0 or owner == 0:
        yield
        return
    os.seteuid(owner)
    try:
        yield
    finally:
        os.seteuid(before)
