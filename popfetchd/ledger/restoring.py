"""
A ledger that is made again from the archive: all of it in one transaction, or nothing.

Rules of this file:

- Whoever makes it again has the ledger alone. A process killed in the midst of it has
  changed nothing; one that is done has changed all that a visit asks about.
"""

from __future__ import annotations

import sqlite3

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from popfetchd.ledger import copies, rows
from popfetchd.values import AccountName, Destination, Found, LedgerId


class Restoring:
    """
    The ledger within the transaction in which it is made again, at *now*.
    """

    def __init__(self, db: sqlite3.Connection, now: float) -> None:
        self._db = db
        self._now = now
        self.is_new = copies.is_empty(db)
        """It knows no message: its own id is in the name of none."""

    @property
    def id(self) -> LedgerId:
        """
        The ledger's name.
        """
        return rows.ledger_id(self._db)

    @property
    def highest(self) -> int:
        """
        The highest number given so far.
        """
        return rows.highest(self._db)

    def places(self, account: AccountName) -> list[Destination]:
        """
        Return where copies of the account's messages stand, as far as it is known.
        """
        return copies.places(self._db, account)

    def known(self, account: AccountName, directory: Path) -> Counter[str]:
        """
        Return the keys of messages in *directory* that are not to be restored, how often.
        """
        return copies.known_to(self._db, account, directory)

    def restore(self, account: AccountName, found: Iterable[Found]) -> int:
        """
        Take what was *found* for archived messages of *account*; return how many.
        """
        return copies.restore(self._db, account, found, self._now)

    def begin_at(self, highest: int, ledger_id: LedgerId) -> None:
        """
        Give no number up to *highest* any more; bear *ledger_id* from now on.
        """
        copies.begin_at(self._db, highest, ledger_id)
