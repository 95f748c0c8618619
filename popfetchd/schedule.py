"""
When to visit, and nothing else: the only file that knows APScheduler.

Rules of this file:

- `every:` is a grid. Each account has a phase of its own, a hash of its name, so that
  visits are spread evenly and stay where they are over restarts. Jitter is added to the
  grid, never to the last visit: it does not accumulate.
- A time in the past is never planned: after a suspension there is one visit, no list of
  missed ones. Nothing is ever dropped for being late.
- The first visit after a start comes at once, spread at FIRST_VISITS_PER_SECOND; with
  `cron:` it comes when the line says.
- A visit, whenever it took place, stands for the slot nearest to it: no slot has two.
- Back-off and the server's login floor hold an account: the next visit is the first
  planned one that is not earlier. The plan itself does not move.
- Only plans: `submit` is called with the account and the planned time, in the
  scheduler's thread, and must return at once.
- Time is the wall clock's. Put forward, it makes visits due at once, and the pool bounds
  them; put back, it stalls the heartbeat too, which `alive` tells to whoever watches.
"""

from __future__ import annotations

import hashlib
import heapq
import math
import random
import time

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import Protocol
from zoneinfo import ZoneInfo

from apscheduler.executors.base import BaseExecutor
from apscheduler.job import Job
from apscheduler.jobstores.base import JobLookupError
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger

from popfetchd import crontab
from popfetchd.errors import Reason
from popfetchd.values import (
    NEVER,
    AccountName,
    AccountState,
    Cron,
    Every,
    Schedule,
)


Random = Callable[[], float]
"""Gives a number from 0.0 up to, and not including, 1.0."""

FIRST_VISITS_PER_SECOND = 20.0
"""After a start: ten accounts within half a second, 6,000 within five minutes."""

HEARTBEAT = 5.0
"""Seconds between two signs of life of the scheduler's thread."""

LONGEST_SILENCE = 60.0
"""Seconds without a sign of life after which the scheduler is taken to be stuck."""

HOUR = 3600.0

LONGEST_BACK_OFF = HOUR
"""For what passes by itself: a server that comes back is visited within the hour."""

GENTLE_BACK_OFF = HOUR / 4
"""For a maildrop that is only busy: its server told us that all is well."""

FIRST_HARD_BACK_OFF = HOUR / 4
"""For refused credentials. Providers lock accounts after some ten tries in an hour."""

LONGEST_HARD_BACK_OFF = 6 * HOUR
"""Four tries a day lock nobody out, and find a corrected password on the same day."""

BACK_OFF_JITTER = 0.2
"""Share added at random: accounts that failed together do not come back together."""

HARD = frozenset({Reason.AUTH, Reason.SECRET, Reason.SYS_PERM, Reason.CONFIGURATION})
"""Reasons that need a person. TLS and certificates are not among them: a network on
the way (a portal, a proxy) causes them too, and no credential was sent."""

GENTLE = frozenset({Reason.IN_USE, Reason.LOGIN_DELAY, Reason.SYS_TEMP})
"""RFC 2449 section 8, RFC 3206: the server is there, and asks us to come again."""


def back_off(
    consecutive_failures: int, reason: Reason, interval: float, chance: Random
) -> float:
    """
    Return for how many seconds after a failed visit the account is left alone.

    *interval* is the account's own, in seconds. What passes by itself doubles it, up to
    LONGEST_BACK_OFF, or up to GENTLE_BACK_OFF where the server asked for it; refused
    credentials begin at FIRST_HARD_BACK_OFF and end at LONGEST_HARD_BACK_OFF.
    """
    if reason in HARD:
        first, longest = FIRST_HARD_BACK_OFF, LONGEST_HARD_BACK_OFF
    else:
        first = interval
        longest = GENTLE_BACK_OFF if reason in GENTLE else LONGEST_BACK_OFF
    doublings = min(max(consecutive_failures - 1, 0), 30)  # 2**30 is beyond any limit
    return min(first * 2.0**doublings, longest) * (1 + BACK_OFF_JITTER * chance())


def earliest(
    state: AccountState,
    interval: float,
    chance: Random = random.random,
    clock: Callable[[], float] = time.time,
    login_floor: float = 0.0,
) -> float:
    """
    Return the time (seconds since 1970) before which the account is not to be visited.

    It is the later of the end of its back-off and the server's floor between logins. A
    visit of the future took place before the clock was set back: it counts as of now.
    """
    held = floor(state, clock, login_floor)
    if not state.reason:
        return held
    rest = back_off(state.consecutive_failures, Reason(state.reason), interval, chance)
    return max(held, min(state.last_poll, clock()) + rest)


def floor(
    state: AccountState,
    clock: Callable[[], float] = time.time,
    login_floor: float = 0.0,
) -> float:
    """
    Return when the server lets the account log in again (RFC 2449 §6.5).

    *login_floor*: the least seconds between two logins, whatever the server announces.
    """
    seconds = max(state.login_delay, login_floor)
    return min(state.last_login, clock()) + seconds if seconds else 0.0


# -- plans ----------------------------------------------------------------------------


class Plan(Protocol):
    """
    When visits are due, from the schedule alone. Times are seconds since 1970.
    """

    def next(self, previous: float | None, now: float) -> float:
        """
        Return the first time after *now* that is not taken by the visit at *previous*.
        """
        ...


def fraction(account: AccountName) -> float:
    """
    Return the account's own place in any interval, from 0.0 up to 1.0: a hash.
    """
    digest = hashlib.blake2b(account.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


@dataclass(frozen=True, slots=True)
class Grid:
    """
    The slots of `every:`. *interval*, *phase* and *jitter* are seconds.

    A slot begins at phase + k · interval, and its visit up to *jitter* later.
    """

    interval: float
    phase: float
    jitter: float
    chance: Random

    def next(self, previous: float | None, now: float) -> float:
        """
        See `Plan`.
        """
        slot = math.floor((now - self.phase) / self.interval) + 1
        if previous is not None:
            middle = previous - self.jitter / 2
            taken = math.floor((middle - self.phase) / self.interval + 0.5)
            slot = max(slot, taken + 1)
        begin = self.phase + slot * self.interval
        return begin + self.jitter * self.chance()


@dataclass(frozen=True, slots=True)
class Line:
    """
    The times of `cron:`.
    """

    crontab: crontab.Crontab
    zone: ZoneInfo

    def next(self, previous: float | None, now: float) -> float:
        """
        See `Plan`.
        """
        after = now if previous is None else max(now, previous)
        moment = datetime.fromtimestamp(after, self.zone)
        return self.crontab.next(moment).timestamp()


def plan(account: AccountName, schedule: Schedule, chance: Random) -> Plan:
    """
    Return the plan that *schedule* makes for *account*.

    Raises ValueError or ZoneInfoNotFoundError for what the configuration refuses.
    """
    if isinstance(schedule, Cron):
        line = crontab.parse(schedule.expression)
        return Line(line, ZoneInfo(schedule.timezone))
    phase = fraction(account) * schedule.seconds
    jitter = min(schedule.jitter, schedule.seconds)
    return Grid(schedule.seconds, phase, jitter, chance)


def interval(schedule: Schedule, now: float) -> float:
    """
    Return the seconds between two visits: with `cron:`, between the next two.
    """
    if isinstance(schedule, Every):
        return schedule.seconds
    line = plan(AccountName(""), schedule, random.random)
    first = line.next(None, now)
    return line.next(None, first) - first


# -- who is due -----------------------------------------------------------------------


@dataclass(slots=True)
class Turn:
    """
    An account's plan, what it is held by, the last visit it began, and its next one.

    All times are seconds since 1970.
    """

    plan: Plan
    first: float | None = None
    """The first visit after a start; None: it took place, or is as planned."""
    not_before: float = 0.0
    previous: float | None = None
    at: float = NEVER
    """When the next visit is due."""

    def next(self, now: float) -> float:
        """
        Return the time of the next visit, never before *now*.
        """
        if self.first is not None:
            return max(self.first, self.not_before, now)
        return self.plan.next(self.previous, max(now, self.not_before))

    def taken(self, now: float) -> float:
        """
        Return the time for which the visit that begins *now* was planned; plan the next.
        """
        planned, self.previous, self.first = self.at, self.at, None
        self.at = self.next(now)
        return planned


class Agenda:
    """
    Who is due when. Safe to use from any thread.

    A heap: APScheduler keeps a list of jobs that it sorts anew for each of them, 3 KB
    and 100 µs a job, and has but one of ours.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._turns: dict[AccountName, Turn] = {}
        self._heap: list[tuple[float, AccountName]] = []
        """For each account its next time, and some that were moved since."""

    def __getitem__(self, account: AccountName) -> Turn:
        return self._turns[account]

    def get(self, account: AccountName) -> Turn | None:
        """
        Return the turn of *account*; None if it has none.
        """
        return self._turns.get(account)

    def change(
        self, turns: Mapping[AccountName, Turn], gone: Iterable[AccountName]
    ) -> None:
        """
        Take *turns* in, in place of their former ones, and those of *gone* out.
        """
        with self._lock:
            for name in gone:
                del self._turns[name]
            self._turns.update(turns)
            self._heap = [(turn.at, name) for name, turn in self._turns.items()]
            heapq.heapify(self._heap)

    def move(self, account: AccountName, at: float) -> None:
        """
        Let the next visit of *account* be due *at* that time. Passed over if it is not
        there.
        """
        with self._lock:
            if (turn := self._turns.get(account)) is not None:
                self._put(account, turn, at)

    def hold(self, account: AccountName, not_before: float, now: float) -> None:
        """
        Let the next visit of *account* be the first planned after *not_before*. Passed
        over if it is not there.
        """
        with self._lock:
            turn = self._turns.get(account)
            if turn is not None and turn.not_before != not_before:
                turn.not_before = not_before
                self._put(account, turn, turn.next(now))

    def _put(self, account: AccountName, turn: Turn, at: float) -> None:
        if turn.at != at:
            turn.at = at
            heapq.heappush(self._heap, (at, account))

    def earliest(self) -> float:
        """
        Return the time of the next visit; NEVER if there is none.
        """
        with self._lock:
            self._clean()
            return self._heap[0][0] if self._heap else NEVER

    def due(self, now: float) -> Iterator[tuple[AccountName, float]]:
        """
        Yield who is due *now*, each with its planned time, and plan their next.
        """
        while (found := self._pop(now)) is not None:
            yield found

    def _pop(self, now: float) -> tuple[AccountName, float] | None:
        with self._lock:
            self._clean()
            if not self._heap or self._heap[0][0] > now:
                return None
            _, name = self._heap[0]
            planned = self._turns[name].taken(now)
            heapq.heapreplace(self._heap, (self._turns[name].at, name))
            return name, planned

    def _clean(self) -> None:
        # Off the top what was moved, or is gone.
        while self._heap:
            at, name = self._heap[0]
            turn = self._turns.get(name)
            if turn is not None and turn.at == at:
                return
            heapq.heappop(self._heap)


# -- APScheduler ----------------------------------------------------------------------


class Beat(BaseTrigger):  # type: ignore[misc] # APScheduler ships no types
    """
    Each HEARTBEAT.
    """

    def get_next_fire_time(
        self, _previous_fire_time: datetime | None, now: datetime
    ) -> datetime:
        """
        Return the next beat, in UTC.
        """
        return now + timedelta(seconds=HEARTBEAT)


class Next(BaseTrigger):  # type: ignore[misc] # APScheduler ships no types
    """
    When the next visit of an agenda is due.
    """

    def __init__(self, agenda: Agenda) -> None:
        self._agenda = agenda

    def get_next_fire_time(
        self, _previous_fire_time: datetime | None, now: datetime
    ) -> datetime:
        """
        Return that time in UTC, always later than *now*: else APScheduler would ask again
        without an end.
        """
        return max(_moment(self._agenda.earliest()), now + SOONEST)


SOONEST = timedelta(milliseconds=1)
"""What is overdue when the next visit is asked for begins so much later."""

LAST_YEAR = datetime(9000, 1, 1, tzinfo=UTC)
"""Instead of NEVER, which no calendar has."""


def _moment(at: float) -> datetime:
    return LAST_YEAR if at == NEVER else datetime.fromtimestamp(at, UTC)


class Submit(BaseExecutor):  # type: ignore[misc] # APScheduler ships no types
    """
    Calls a job's function where it is.
    """

    def _do_submit_job(self, job: Job, _run_times: list[datetime]) -> None:
        job.func()
        self._run_job_success(job.id, [])


VISITS = "visits"
"""The job that submits who is due."""


class Scheduler:
    """
    Calls *submit* with an account and its planned time (seconds since 1970), and *beat*
    each HEARTBEAT.

    `set_accounts` belongs to one thread; the others may be called from any, also from
    within *submit*.
    """

    def __init__(
        self,
        submit: Callable[[AccountName, float], None],
        *,
        beat: Callable[[], None] = lambda: None,
        chance: Random = random.random,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._submit = submit
        self._on_beat = beat
        self._chance = chance
        self._clock = clock
        self._monotonic = monotonic
        self._beaten = monotonic()
        self._schedules: dict[AccountName, Schedule] = {}
        self._agenda = Agenda()
        self._engine = BackgroundScheduler(
            timezone=UTC,
            jobstores={"default": MemoryJobStore()},
            executors={"default": Submit()},
            # By default APScheduler drops a run that is a second late.
            job_defaults={"misfire_grace_time": None, "coalesce": True},
        )

    # -- life -------------------------------------------------------------------------

    def start(self) -> None:
        """
        Begin to plan. Accounts may be set before or after.
        """
        self._engine.add_job(self._beat, Beat())
        self._engine.add_job(self._visit, Next(self._agenda), id=VISITS)
        self._beaten = self._monotonic()
        self._engine.start()

    def stop(self) -> None:
        """
        Plan nothing any more. *submit* is not called once this has returned.
        """
        self._engine.shutdown(wait=False)

    def alive(self) -> bool:
        """
        Tell whether the scheduler's thread gave a sign of life lately.
        """
        return self._monotonic() - self._beaten < LONGEST_SILENCE

    def _beat(self) -> None:
        self._beaten = self._monotonic()
        self._on_beat()

    def _visit(self) -> None:
        failed: list[Exception] = []
        for name, planned in self._agenda.due(self._clock()):
            try:
                self._submit(name, planned)
            except Exception as error:  # noqa: BLE001 -- costs one visit, and is logged
                failed.append(error)
        if failed:
            raise failed[0]

    # -- accounts ---------------------------------------------------------------------

    def set_accounts(
        self,
        schedules: Mapping[AccountName, Schedule],
        not_before: Mapping[AccountName, float] | None = None,
    ) -> None:
        """
        Visit these accounts, and no others; who stays as it was is not disturbed.

        New ones are visited at once, spread, but not before the times of *not_before*.
        Raises what `plan` raises, and then changes nothing.
        """
        changed = {
            name: plan(name, schedule, self._chance)
            for name, schedule in schedules.items()
            if self._schedules.get(name) != schedule
        }
        gone = self._schedules.keys() - schedules.keys()
        self._schedules = dict(schedules)
        spread = len(changed) / FIRST_VISITS_PER_SECOND
        held = not_before or {}
        turns = {
            name: self._turn(name, its_plan, spread, held.get(name, 0.0))
            for name, its_plan in changed.items()
        }
        was = self._agenda.earliest()
        self._agenda.change(turns, gone)
        self._wake(was)

    def _turn(
        self, name: AccountName, its_plan: Plan, spread: float, held: float
    ) -> Turn:
        known, schedule = self._agenda.get(name), self._schedules[name]
        now = self._clock()
        if known is not None:
            turn = Turn(its_plan, None, known.not_before, known.previous)
        elif isinstance(schedule, Cron):
            turn = Turn(its_plan, None, held)
        else:
            first = now + fraction(name) * min(spread, schedule.seconds)
            turn = Turn(its_plan, first, held)
        turn.at = turn.next(now)
        return turn

    def hold(self, account: AccountName, not_before: float) -> None:
        """
        Plan no visit of *account* before that time; a later call replaces it.

        An account that is not there (any more) is passed over.
        """
        was = self._agenda.earliest()
        self._agenda.hold(account, not_before, self._clock())
        self._wake(was)

    def trigger_now(self, account: AccountName) -> None:
        """
        Visit *account* at once, held or not. Passed over if it is not there.
        """
        was = self._agenda.earliest()
        self._agenda.move(account, self._clock())
        self._wake(was)

    def _wake(self, was: float) -> None:
        """
        Let the engine know if somebody is due earlier than it *was*; where it has not been
        started, it will ask by itself.

        Asked again afterwards: another thread may have told of a still earlier one first.
        """
        while (earliest := self._agenda.earliest()) < was:
            with suppress(JobLookupError):
                self._engine.modify_job(VISITS, next_run_time=_moment(earliest))
            was = earliest

    def next_time(self, account: AccountName) -> float:
        """
        Return when the next visit is planned; NEVER if none is.
        """
        turn = self._agenda.get(account)
        return NEVER if turn is None else turn.at
