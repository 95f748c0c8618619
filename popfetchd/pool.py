"""
The threads that visit: one for each visit, never more than the limits.

Rules of this file:

- An account is in the pool once: waiting or running.
- First come, first served; but a host at its cap, or a server that does not answer,
  holds up nobody behind it (P3). Who waits holds no thread.
- A server is held to answer once it has, or while another way to its host does
  (docs/adr/0015-silent-servers.md). All others together have PROBING of the threads, those
  that were silent AGAIN of them; and one that failed to answer rests, is then
  probed by one visit, and is open to all again as soon as that is answered.
- A thread is made when a visit starts and ends with it: nothing idles. Threads are
  daemons, so that a visit that hangs in a system call cannot keep the process alive;
  the archive protocol makes that safe at any instant (P1).
- What escapes from a visit is handed over, and costs that visit only.
- No callback is called under the lock.
"""

from __future__ import annotations

import heapq
import itertools
import math
import time

from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Hashable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from threading import Condition, Thread

from popfetchd.values import AccountName


PROBING = 0.75
"""The share of the threads, rounded up, for servers that are not known to answer: at a
first start that is everybody. Five hundred of them that hang leave the other quarter, 16
of 64, to those that do: that is fifty visits in a second."""

AGAIN = 0.25
"""The share of the threads, rounded up, for those that were found silent, all of whom a
reload has probed at once: the rest of PROBING is for servers never asked."""

FIRST_REST = 1.0
"""Seconds that a server rests after a failure that cost nothing: one lost connection of
a busy server holds up nobody for long."""

TOLD = 5.0
"""Seconds of rest from which those who wait are told of it. A shorter one, after a lost
connection of a server that is there, is no more than a delay."""

LONGEST_REST = 900.0
"""A server that comes back is found within a quarter of an hour."""


def rest(took: float, failures: int) -> float:
    """
    Return for how many seconds a server is left alone that did not answer.

    As long as the try *took* to fail, seconds of a thread, and twice as long each time.
    """
    doublings = min(failures - 1, 30)  # 2**30 is beyond any limit
    return min(max(took, FIRST_REST) * 2.0**doublings, LONGEST_REST)


@dataclass(frozen=True, slots=True)
class Silence:
    """
    Why a server is not visited: what its last visit failed with.
    """

    reason: str
    error: str


class Trust(Enum):
    """
    What is known of a server.
    """

    KNOWN = "it answers"
    UNKNOWN = "it has not been asked"
    SILENT = "it did not answer"


@dataclass(slots=True)
class Host:
    """
    What concerns one host: how many visits run, and the doors that lead to it.
    """

    running: int = 0
    doors: list[Door] = field(default_factory=list)


@dataclass(slots=True)
class Door:
    """
    What concerns one server: the visits that wait for it, and whether it answers.

    A host may have several: other ports, proxies or certificates fail by themselves.
    Times are monotonic seconds.
    """

    key: Key
    host: Host
    answers: bool
    waiting: OrderedDict[AccountName, Visit] = field(default_factory=OrderedDict)
    running: int = 0
    silence: Silence | None = None
    probe: Visit | None = None
    """The visit that asks whether it answers again. Others that run began before."""
    told: bool = False
    """Whether those who wait are put off, and are to hear of it."""
    failures: int = 0
    news_at: float = -math.inf
    """When it was last known whether it answers; a try that began before tells nothing."""
    free_since: float = -math.inf
    """Since when it can be visited again; of a silent one the end of its rest."""

    def admits(self, per_host: int, now: float) -> bool:
        """
        Tell whether the next visit that waits may begin, as far as this door goes.
        """
        if not self.waiting or self.host.running >= per_host:
            return False
        return self.silence is None or (self.probe is None and self.free_since <= now)

    def trust(self) -> Trust:
        """
        Tell which share of the threads its visits count to.
        """
        if self.answers:
            return Trust.KNOWN
        return Trust.UNKNOWN if self.silence is None else Trust.SILENT

    def first(self) -> int:
        """
        Return the place of the next visit in the order of arrival.
        """
        return next(iter(self.waiting.values())).sequence


@dataclass(frozen=True, slots=True)
class Visit:
    """
    A visit that waits or runs; *sequence* is its place in the order of arrival.
    """

    sequence: int
    account: AccountName
    door: Door
    work: Callable[[], None]


Key = tuple[str, Hashable]
"""A host, and what tells its servers apart."""

Entry = tuple[bool, int, int, int, Door]
"""In a heap: known to be silent, visits that run if it is not known to answer, the place
of the next one, a number of the entry's own, the door."""


class Pool:
    """
    At most *sessions* visits at once, *per_host* of them to one host.

    *escaped* is given the account and the exception that left its visit's work. *clock*
    tells monotonic seconds.
    """

    def __init__(
        self,
        sessions: int,
        per_host: int,
        escaped: Callable[[AccountName, BaseException], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sessions = sessions
        self._per_host = per_host
        self._escaped = escaped
        self._clock = clock
        self._changed = Condition()
        self._sequence = itertools.count()
        self._waiting: dict[AccountName, Door] = {}
        self._running: set[AccountName] = set()
        self._hosts: dict[str, Host] = {}
        self._doors: dict[Key, Door] = {}
        self._known: list[Entry] = []
        """A heap of the doors that answer. Each that admits its next visit is in it; what
        is on top may be out of date, and is looked at again."""
        self._doubtful: list[Entry] = []
        """Such a heap of the others."""
        self._resting: list[tuple[float, int, Door]] = []
        """A heap of the silent ones, by the end of their rest."""
        self._at = Counter[Trust]()
        """Visits that run, by what is known of their server."""
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
        Visits that wait for a thread, or for their server.
        """
        return len(self._waiting)

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

    def silence(self, account: AccountName) -> Silence | None:
        """
        Return why *account* waits for its server to answer; None if it does not, or
        not for long.
        """
        with self._changed:
            door = self._waiting.get(account)
            return door.silence if door is not None and door.told else None

    def free_for(self, server: Key) -> float:
        """
        Return the seconds since when nothing but the limits kept visits from *server*.
        """
        with self._changed:
            door = self._doors.get(server)
            return math.inf if door is None else self._clock() - door.free_since

    # -- what others do ---------------------------------------------------------------

    def submit(
        self,
        account: AccountName,
        host: str,
        work: Callable[[], None],
        server: Hashable = None,
    ) -> bool:
        """
        Visit *account* as soon as the limits allow: call *work* in a thread.

        *server* tells apart what answers by itself; whether it did, the work is to tell by
        `answered` or `silent`. None: nobody tells, and it is held to answer.

        Returns False, and does nothing, if the account waits or is being visited, or
        if the pool is closed.
        """
        with self._changed:
            accepted = not (
                self._closed or account in self._waiting or account in self._running
            )
            if accepted:
                door = self._door((host, server))
                visit = Visit(next(self._sequence), account, door, work)
                self._waiting[account], door.waiting[account] = door, visit
                if len(door.waiting) == 1:
                    self._offer(door)
        self.wake()
        return accepted

    def wake(self) -> None:
        """
        Start every visit that the limits allow.

        To be called now and then: time alone ends a server's rest, and nobody tells.
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

    def wait(self, timeout: float | None = None) -> bool:
        """
        Wait until nothing waits or runs; False if that took more than *timeout* seconds.
        """
        with self._changed:
            return self._changed.wait_for(
                lambda: not self._waiting and not self._running, timeout
            )

    def close(self) -> None:
        """
        Accept nothing any more, and forget what waits. What runs goes on.
        """
        with self._changed:
            self._closed = True
            self._waiting.clear()
            for door in self._doors.values():
                door.waiting.clear()
            self._changed.notify_all()

    def drain(self, grace: float) -> bool:
        """
        Close, and wait up to *grace* seconds for what runs; False if some still does.
        """
        self.close()
        return self.wait(grace)

    # -- a new configuration ----------------------------------------------------------

    def resize(self, sessions: int, per_host: int) -> None:
        """
        Take new limits. Visits that run are left alone, also those above a limit.
        """
        with self._changed:
            self._sessions, self._per_host = sessions, per_host
            for door in self._doors.values():
                self._offer(door)
        self.wake()

    def withdraw(self, accounts: Iterable[AccountName]) -> list[AccountName]:
        """
        Forget those visits of *accounts* that wait; return whose they were.
        """
        with self._changed:
            gone = [name for name in accounts if name in self._waiting]
            for name in gone:
                door = self._waiting.pop(name)
                del door.waiting[name]
                self._offer(door)
                self._forget(door)
            self._changed.notify_all()
        return gone

    def keep(self, servers: Collection[Key]) -> None:
        """
        Let the silent ones of *servers* be probed now: somebody may have mended
        something. Whether any other answers is forgotten, unless it is being visited.
        """
        with self._changed:
            now = self._clock()
            for door in list(self._doors.values()):
                door.failures, door.free_since = 0, min(door.free_since, now)
                self._offer(door)
                self._forget(door, servers)
        self.wake()

    # -- whether servers answer -------------------------------------------------------

    def answered(self, *servers: Key) -> None:
        """
        These answer: whoever waits for them may begin, up to the host's cap.
        """
        with self._changed:
            now, doors = self._clock(), [self._door(server) for server in servers]
            for door in doors:
                door.news_at = now
            news = [door for door in doors if not door.answers]
            for door in news:
                self._weigh(door, -1)
                door.answers, door.silence, door.failures = True, None, 0
                door.told, door.probe = False, None
                door.free_since = now
                self._weigh(door, 1)
                self._offer(door)
        if news:
            self.wake()

    def silent(
        self, server: Key, silence: Silence, took: float
    ) -> tuple[AccountName, ...]:
        """
        *server* did not answer; a visit found that out in *took* seconds. If it answered
        another meanwhile, one of its many connections was lost, and that is all.

        Returns who waits for it and is put off by that, for longer than a moment, first.
        """
        with self._changed:
            now, door = self._clock(), self._door(server)
            if now - took < door.news_at:
                return ()  # begun before the last answer, or failure, was known
            self._weigh(door, -1)
            door.answers, door.silence, door.news_at = False, silence, now
            self._weigh(door, 1)
            door.failures += 1
            seconds = rest(took, door.failures)
            news, door.told = not door.told, door.told or seconds >= TOLD
            door.free_since = now + seconds
            entry = (door.free_since, next(self._sequence), door)
            heapq.heappush(self._resting, entry)
            return tuple(door.waiting) if news and door.told else ()

    # -- inside -----------------------------------------------------------------------

    def _door(self, key: Key) -> Door:
        if key not in self._doors:
            host = self._hosts.setdefault(key[0], Host())
            answers = key[1] is None or any(door.answers for door in host.doors)
            self._doors[key] = Door(key, host, answers)
            host.doors.append(self._doors[key])
        return self._doors[key]

    def _forget(self, door: Door, servers: Collection[Key] = ()) -> None:
        """
        Forget an idle *door*, unless it is to be remembered whether it answers.
        """
        lasting = door.key in servers if servers else door.key[1] is not None
        if lasting or door.waiting or door.running:
            return
        del self._doors[door.key]
        door.host.doors.remove(door)
        if not door.host.doors:
            del self._hosts[door.key[0]]

    def _offer(self, door: Door) -> None:
        if door.admits(self._per_host, self._clock()):
            silent, load = door.silence is not None, 0 if door.answers else door.running
            entry = (silent, load, door.first(), next(self._sequence), door)
            heapq.heappush(self._known if door.answers else self._doubtful, entry)

    def _take(self) -> Visit | None:
        with self._changed:
            now = self._clock()
            while self._resting and self._resting[0][0] <= now:
                self._offer(heapq.heappop(self._resting)[-1])
            door = self._next(now) if len(self._running) < self._sessions else None
            if door is None:
                return None
            account, visit = door.waiting.popitem(last=False)
            del self._waiting[account]
            self._running.add(account)
            self._count(visit, 1)
            self._offer(door)
            return visit

    def _next(self, now: float) -> Door | None:
        """
        Return the door whose visit came first, of those that the limits let begin.
        """
        heaps = (self._known, self._doubtful)
        tops = [heap[0] for heap in heaps if self._clean(heap, now)]
        tops = [entry for entry in tops if self._has_room(entry[-1].trust())]
        return min(tops, key=lambda entry: entry[2])[-1] if tops else None

    def _has_room(self, trust: Trust) -> bool:
        if trust is Trust.KNOWN:
            return True
        silent = self._at[Trust.SILENT]
        if silent + self._at[Trust.UNKNOWN] >= math.ceil(self._sessions * PROBING):
            return False
        # In the heap those that were silent come last: no other is kept waiting by this.
        return trust is Trust.UNKNOWN or silent < math.ceil(self._sessions * AGAIN)

    def _clean(self, heap: list[Entry], now: float) -> bool:
        """
        Take what is out of date off the top of *heap*; tell whether anything is left.
        """
        while heap:
            silent, _, place, _, door = heap[0]
            current = door.answers == (heap is self._known)
            current = current and silent == (door.silence is not None)
            if current and door.admits(self._per_host, now) and door.first() == place:
                return True
            heapq.heappop(heap)
        return False

    def _run(self, visit: Visit) -> None:
        try:
            visit.work()
        except BaseException as error:  # noqa: BLE001 -- handed over, whatever it is
            self._escaped(visit.account, error)
        finally:
            self._release(visit)
            self.wake()

    def _release(self, visit: Visit) -> None:
        with self._changed:
            self._running.discard(visit.account)
            self._count(visit, -1)
            for door in visit.door.host.doors:
                self._offer(door)
            self._forget(visit.door)
            self._changed.notify_all()

    def _count(self, visit: Visit, visits: int) -> None:
        door = visit.door
        self._weigh(door, -1)
        door.running += visits
        door.host.running += visits
        if visits > 0 and door.silence is not None:
            door.probe = visit
        elif door.probe is visit:
            door.probe = None
        self._weigh(door, 1)

    def _weigh(self, door: Door, sign: int) -> None:
        """
        Count the visits that run at *door*, or take them off. Those that began before it
        fell silent may be well: they are no probes of a silent server.
        """
        probes = int(door.probe is not None)
        self._at[Trust.SILENT] += sign * probes
        others = Trust.KNOWN if door.answers else Trust.UNKNOWN
        self._at[others] += sign * (door.running - probes)
