"""
The lock on an account: one visit at a time, whichever process makes it.

Rules of this file:

- It is a lock of the kernel (flock) on a file of its own. It goes when its holder goes,
  however that dies; the file stays and means nothing.
- A child process does not inherit it (O_CLOEXEC).
- The file is never unlinked: a second one of the same name would be a second lock.
"""

from __future__ import annotations

import fcntl
import os
import time

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from popfetchd.errors import AccountLocked
from popfetchd.ledger.database import FILE_MODE, refused
from popfetchd.values import AccountName


LOOK_AGAIN = 0.05
"""Seconds between two tries: flock cannot wait for a limited time."""


class AccountLock:
    """
    The lock on *account*, whose file is at *path*. A context manager, once acquired::

        with ledger.lock(account).acquire(wait=10.0):
            …
    """

    def __init__(
        self,
        account: AccountName,
        path: Path,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._account = account
        self._path = path
        self._clock = clock
        self._sleep = sleep
        self._fd: int | None = None

    def acquire(self, wait: float | None = 0.0) -> Self:
        """
        Hold the lock; AccountLocked when another holds it for longer than *wait* seconds.

        None: wait without end. LedgerError when there can be no lock at all.
        """
        started = self._clock()
        while not self._try():
            if wait is not None and self._clock() - started >= wait:
                raise AccountLocked(self._account)
            self._sleep(LOOK_AGAIN)
        return self

    def release(self) -> None:
        """
        Let go of the lock, if it is held. Never raises.
        """
        fd, self._fd = self._fd, None
        if fd is not None:
            _close(fd)

    def __enter__(self) -> Self:
        return self if self._fd is not None else self.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def _try(self) -> bool:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = os.open(self._path, flags, FILE_MODE)
        except OSError as error:
            raise refused(self._path, error) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _close(fd)
            return False
        except OSError as error:
            _close(fd)
            raise refused(self._path, error) from error
        self._fd = fd
        return True


def _close(fd: int) -> None:
    # Whatever close(2) says, descriptor and lock are gone; there is no data to lose.
    with suppress(OSError):
        os.close(fd)
