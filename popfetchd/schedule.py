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
import math
import random
import time

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
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


# -- APScheduler ----------------------------------------------------------------------


class Trigger(BaseTrigger):  # type: ignore[misc] # APScheduler ships no types
    """
    A plan in APScheduler's terms, what it is held by, and the last visit it began.

    All times are seconds since 1970.
    """

    __slots__ = ("first", "not_before", "plan", "previous")

    def __init__(
        self,
        plan: Plan,
        *,
        first: float | None = None,
        not_before: float = 0.0,
        previous: float | None = None,
    ) -> None:
        self.plan = plan
        self.first = first
        """The first visit after a start; None: it took place, or is as planned."""
        self.not_before = not_before
        self.previous = previous

    def get_next_fire_time(
        self, previous_fire_time: datetime | None, now: datetime
    ) -> datetime:
        """
        Return the next time, never before *now*, in UTC.
        """
        if previous_fire_time is not None:
            self.previous, self.first = previous_fire_time.timestamp(), None
        return datetime.fromtimestamp(self._next(now.timestamp()), UTC)

    def _next(self, now: float) -> float:
        if self.first is not None:
            return max(self.first, self.not_before, now)
        return self.plan.next(self.previous, max(now, self.not_before))


class Submit(BaseExecutor):  # type: ignore[misc] # APScheduler ships no types
    """
    Calls a job's function where it is, with the time for which it was planned.
    """

    def _do_submit_job(self, job: Job, run_times: list[datetime]) -> None:
        account, _ = job.args
        job.func(account, run_times[-1].timestamp())
        self._run_job_success(job.id, [])


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
        self._triggers: dict[AccountName, Trigger] = {}
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
        beats = Trigger(Grid(HEARTBEAT, 0.0, 0.0, self._chance))
        self._engine.add_job(self._beat, beats, args=("", 0.0))
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

    def _beat(self, _account: AccountName, _planned: float) -> None:
        self._beaten = self._monotonic()
        self._on_beat()

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
        for name in self._schedules.keys() - schedules.keys():
            del self._triggers[name]
            self._engine.remove_job(name)
        self._schedules = dict(schedules)
        spread = len(changed) / FIRST_VISITS_PER_SECOND
        for name, its_plan in changed.items():
            held = (not_before or {}).get(name, 0.0)
            self._put(name, self._trigger(name, its_plan, spread, held))

    def _trigger(
        self, name: AccountName, its_plan: Plan, spread: float, held: float
    ) -> Trigger:
        known, schedule = self._triggers.get(name), self._schedules[name]
        if known is not None:
            return Trigger(
                its_plan, not_before=known.not_before, previous=known.previous
            )
        if isinstance(schedule, Cron):
            return Trigger(its_plan, not_before=held)
        within = min(spread, schedule.seconds)
        first = self._clock() + fraction(name) * within
        return Trigger(its_plan, first=first, not_before=held)

    def _put(self, name: AccountName, trigger: Trigger) -> None:
        self._triggers[name] = trigger
        self._engine.add_job(
            self._submit, trigger, args=(name, 0.0), id=name, replace_existing=True
        )

    def hold(self, account: AccountName, not_before: float) -> None:
        """
        Plan no visit of *account* before that time; a later call replaces it.

        An account that is not there (any more) is passed over.
        """
        trigger = self._triggers.get(account)
        if trigger is None or trigger.not_before == not_before:
            return
        trigger.not_before = not_before
        now = datetime.fromtimestamp(self._clock(), UTC)
        self._move(account, trigger.get_next_fire_time(None, now))

    def trigger_now(self, account: AccountName) -> None:
        """
        Visit *account* at once, held or not. Passed over if it is not there.
        """
        self._move(account, datetime.fromtimestamp(self._clock(), UTC))

    def _move(self, account: AccountName, moment: datetime) -> None:
        # Gone meanwhile, or not started: there is nothing to move.
        with suppress(JobLookupError):
            self._engine.modify_job(account, next_run_time=moment)

    def next_time(self, account: AccountName) -> float:
        """
        Return when the next visit is planned; NEVER if none is.

        Before the start it is reckoned anew, and may differ by the jitter.
        """
        job = self._engine.get_job(account)
        if job is None:
            return NEVER
        now = datetime.fromtimestamp(self._clock(), UTC)
        moment = getattr(job, "next_run_time", None)
        moment = moment or job.trigger.get_next_fire_time(None, now)
        return float(moment.timestamp())
