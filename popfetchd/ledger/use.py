"""
Who has the ledger open: many at once, or one alone who is to replace it.

Rules of this file:

- It is a lock of the kernel (flock), held as long as the ledger is open: it goes when
  its holder goes, however that dies.
- Nobody waits: a service holds it for weeks.
"""

from __future__ import annotations

import fcntl
import os

from contextlib import suppress
from pathlib import Path

from popfetchd.errors import LedgerInUse
from popfetchd.ledger.database import FILE_MODE, refused


NAME = ".use"
"""In the folder of the locks; no account's name has a dot first."""


class Use:
    """
    The use of *ledger*, told by a lock in the folder *locks*; *alone*: nobody else's.

    LedgerInUse where another process makes that impossible.
    """

    def __init__(self, ledger: Path, locks: Path, *, alone: bool) -> None:
        path = locks / NAME
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._fd = os.open(path, flags, FILE_MODE)
        except OSError as error:
            raise refused(path, error) from error
        try:
            kind = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
            fcntl.flock(self._fd, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            self.end()
            problem = (
                "another popfetchd has it open" if alone else "is being made again"
            )
            raise LedgerInUse(ledger, problem) from None
        except OSError as error:
            self.end()
            raise refused(path, error) from error

    def end(self) -> None:
        """
        Let go of it. Never raises.
        """
        with suppress(OSError):
            os.close(self._fd)
