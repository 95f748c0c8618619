"""
The threads that visit: one for each visit, never more than the limits.

Rules of this file:

- An account is in the pool once: waiting or running.
- First come, first served; but a host at its cap holds up nobody behind it (P3).
- A thread is made when a visit starts and ends with it: nothing idles. Threads are
  daemons, so that a visit that hangs in a system call cannot keep the process alive;
  the archive protocol makes that safe at any instant (P1).
- What escapes from a visit is handed over, and costs that visit only.
- No callback is called under the lock.
"""

from __future__ import annotations

import heapq
import itertools

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Condition, Thread

from popfetchd.values import AccountName


@dataclass(frozen=True, slots=True)
class Visit:
    """
    A visit that waits or runs; *sequence* is its place in the order of arrival.
    """

    sequence: int
    account: AccountName
    host: str
    work: Callable[[], None]


@dataclass(slots=True)
class Host:
    """
    What concerns one host: the visits that wait for it, and how many run.
    """

    waiting: deque[Visit] = field(default_factory=deque)
    running: int = 0


class Pool:
    """
    At most *sessions* visits at once, *per_host* of them to one host.

    *escaped* is given the account and the exception that left its visit's work.
    """

    def __init__(
        self,
        sessions: int,
        per_host: int,
        escaped: Callable[[AccountName, BaseException], None],
    ) -> None:
        self._sessions = sessions
        self._per_host = per_host
        self._escaped = escaped
        self._changed = Condition()
        self._sequence = itertools.count()
        self._accounts: set[AccountName] = set()
        self._hosts: dict[str, Host] = {}
        self._ready: list[tuple[int, str]] = []
        """A heap of the hosts below their cap: the sequence of each one's next visit."""
        self._running: set[AccountName] = set()
        self._closed = False

    # -- what others see --------------------------------------------------------------

    @property
    def active(self) -> int:
        """
        Visits that run.
        """
        return len(self._running)

    @property
    def waiting(self) -> int:
        """
        Visits that wait for a thread.
        """
        return len(self._accounts) - len(self._running)

    @property
    def running(self) -> frozenset[AccountName]:
        """
        The accounts that are being visited.
        """
        with self._changed:
            return frozenset(self._running)

    @property
    def closed(self) -> bool:
        """
        Nothing is accepted any more.
        """
        return self._closed

    # -- what others do ---------------------------------------------------------------

    def submit(self, account: AccountName, host: str, work: Callable[[], None]) -> bool:
        """
        Visit *account* as soon as the limits allow: call *work* in a thread.

        Returns False, and does nothing, if the account waits or is being visited, or
        if the pool is closed.
        """
        with self._changed:
            if self._closed or account in self._accounts:
                return False
            self._accounts.add(account)
            visit = Visit(next(self._sequence), account, host, work)
            entry = self._hosts.setdefault(host, Host())
            entry.waiting.append(visit)
            if len(entry.waiting) == 1:
                self._make_ready(host)
        self._start()
        return True

    def resize(self, sessions: int, per_host: int) -> None:
        """
        Take new limits. Visits that run are left alone, also those above a limit.
        """
        with self._changed:
            self._sessions, self._per_host = sessions, per_host
            self._ready.clear()
            for host in self._hosts:
                self._make_ready(host)
        self._start()

    def wait(self, timeout: float | None = None) -> bool:
        """
        Wait until nothing waits or runs; False if that took more than *timeout* seconds.
        """
        with self._changed:
            return self._changed.wait_for(lambda: not self._accounts, timeout)

    def close(self) -> None:
        """
        Accept nothing any more, and forget what waits. What runs goes on.
        """
        with self._changed:
            self._closed = True
            self._accounts &= self._running
            self._ready.clear()
            for host in self._hosts.values():
                host.waiting.clear()
            self._changed.notify_all()

    def drain(self, grace: float) -> bool:
        """
        Close, and wait up to *grace* seconds for what runs; False if some still does.
        """
        self.close()
        return self.wait(grace)

    # -- inside -----------------------------------------------------------------------

    def _make_ready(self, host: str) -> None:
        entry = self._hosts[host]
        if entry.waiting and entry.running < self._per_host:
            heapq.heappush(self._ready, (entry.waiting[0].sequence, host))

    def _start(self) -> None:
        """
        Start every visit that the limits allow.
        """
        while (visit := self._take()) is not None:
            thread = Thread(
                target=self._run,
                args=(visit,),
                name=f"visit-{visit.account}",
                daemon=True,
            )
            try:
                thread.start()
            except RuntimeError as error:  # the system gives no more threads
                self._release(visit)
                self._escaped(visit.account, error)

    def _take(self) -> Visit | None:
        with self._changed:
            if not self._ready or len(self._running) >= self._sessions:
                return None
            _, host = heapq.heappop(self._ready)
            entry = self._hosts[host]
            visit = entry.waiting.popleft()
            entry.running += 1
            self._running.add(visit.account)
            self._make_ready(host)
            return visit

    def _run(self, visit: Visit) -> None:
        try:
            visit.work()
        except BaseException as error:  # noqa: BLE001 -- handed over, whatever it is
            self._escaped(visit.account, error)
        finally:
            self._release(visit)
            self._start()

    def _release(self, visit: Visit) -> None:
        with self._changed:
            self._accounts.discard(visit.account)
            self._running.discard(visit.account)
            entry = self._hosts[visit.host]
            was_capped = entry.running >= self._per_host
            entry.running -= 1
            if was_capped:
                self._make_ready(visit.host)
            if not entry.running and not entry.waiting:
                del self._hosts[visit.host]
            self._changed.notify_all()
