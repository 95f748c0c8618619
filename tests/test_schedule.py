"""
When visits are planned. Plans are pure; the engine is tried with its own clock, briefly.
"""

from __future__ import annotations

import random
import threading

from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest

from hypothesis import given
from hypothesis import strategies as st

from popfetchd import schedule
from popfetchd.errors import Reason
from popfetchd.schedule import Agenda, Grid, Next, Scheduler, Turn
from popfetchd.values import NEVER, AccountName, AccountState, Cron, Every


NOW = 1_800_000_000.0
PATIENCE = 10.0
WEEKDAYS = Cron("*/10 8-18 * * mon-fri", "Europe/Berlin")

half = lambda: 0.5  # noqa: E731 -- a chance that is none
never = lambda: 0.0  # noqa: E731


def fire(turn, previous, now):
    if previous is not None:
        turn.at = previous
        turn.taken(now)
    return turn.next(now)


# -- back-off -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "seconds"),
    [
        (Reason.CONNECT, [300, 600, 1200, 2400, 3600, 3600]),
        (Reason.CERTIFICATE, [300, 600, 1200, 2400, 3600, 3600]),
        (Reason.IN_USE, [300, 600, 900, 900, 900, 900]),
        (Reason.SYS_TEMP, [300, 600, 900, 900, 900, 900]),
        (Reason.AUTH, [900, 1800, 3600, 7200, 14400, 21600]),
        (Reason.SECRET, [900, 1800, 3600, 7200, 14400, 21600]),
    ],
)
def test_back_off_grows_by_reason(reason, seconds):
    """
    It doubles: gently for a busy maildrop, to an hour for what passes by itself, and
    hard for what would lock an account.
    """
    waits = [schedule.back_off(n, reason, 300.0, never) for n in range(1, 7)]
    assert seconds == waits


@given(
    failures=st.integers(0, 10**9),
    reason=st.sampled_from(Reason),
    interval=st.floats(1, 10**7),
    chance=st.floats(0, 1, exclude_max=True),
)
def test_back_off_is_bounded(failures, reason, interval, chance):
    """
    Whatever happened, an account is tried again within a little more than six hours.
    """
    wait = schedule.back_off(failures, reason, interval, lambda: chance)
    limit = schedule.LONGEST_HARD_BACK_OFF * (1 + schedule.BACK_OFF_JITTER)
    assert 0 < wait <= limit


def test_accounts_that_failed_together_come_back_apart():
    """
    Chance lengthens a back-off, up to a fifth, and never shortens it.
    """
    waits = {schedule.back_off(1, Reason.DNS, 300.0, random.random) for _ in range(50)}
    assert len(waits) > 1
    assert all(300 <= wait < 360 for wait in waits)


def test_a_well_account_waits_for_the_login_floor_only():
    """
    LOGIN-DELAY counts from the last login, and is zero if the server asked for none.
    """
    assert 0.0 == schedule.earliest(AccountState(last_login=NOW), 60.0)
    state = AccountState(last_login=NOW, login_delay=300.0)
    assert NOW + 300 == schedule.earliest(state, 60.0, never, lambda: NOW + 5)


def test_a_failing_account_waits_for_the_longer_of_the_two():
    """
    Back-off counts from the end of the last visit; a longer login floor prevails.
    """
    state = AccountState(
        last_poll=NOW + 5, consecutive_failures=2, reason="dns", last_login=NOW
    )
    assert NOW + 125 == schedule.earliest(state, 60.0, never, lambda: NOW + 5)
    floor = AccountState(
        last_poll=NOW + 5,
        consecutive_failures=2,
        reason="dns",
        last_login=NOW,
        login_delay=900.0,
    )
    assert NOW + 900 == schedule.earliest(floor, 60.0, never, lambda: NOW + 5)


# -- the grid -------------------------------------------------------------------------


def test_a_clock_that_was_set_back_holds_nobody():
    """
    A visit that failed a year ahead, by a wrong clock, is waited for as if it were now.
    """
    later = NOW + 365 * 86_400
    state = AccountState(
        last_poll=later,
        consecutive_failures=1,
        reason="certificate",
        last_login=later,
        login_delay=300.0,
    )
    assert NOW + 300 == schedule.earliest(state, 60.0, never, lambda: NOW)
    assert NOW + 300 == schedule.floor(state, lambda: NOW)
    assert NOW + 300 == schedule.floor(state, lambda: NOW, 60.0)
    assert NOW + 900 == schedule.floor(state, lambda: NOW, 900.0)


def test_phases_are_spread_evenly():
    """
    A thousand accounts fall into all tenths of an interval, and stay there for ever.
    """
    tenths = [int(schedule.fraction(f"account-{i}") * 10) for i in range(1000)]
    assert all(60 < tenths.count(tenth) < 140 for tenth in range(10))
    assert 0.3043658763184171 == schedule.fraction(AccountName("alice"))


def test_the_grid_does_not_drift():
    """
    With jitter, a thousand visits later the mean period is still the interval.
    """
    grid = Grid(300.0, 17.0, 60.0, random.Random(1).random)
    moment = grid.next(None, NOW)
    begin = moment
    for _ in range(1000):
        moment = grid.next(moment, moment)
        assert 0 <= (moment - 17.0) % 300.0 < 60.0
    assert abs((moment - begin) / 1000 - 300.0) < 0.1


@given(
    interval=st.floats(1, 10**6),
    share=st.floats(0, 1, exclude_max=True),
    jitter=st.floats(0, 0.99),
    chances=st.lists(st.floats(0, 0.99), min_size=2, max_size=2),
    now=st.floats(10**9, 2 * 10**9),
)
def test_each_slot_has_one_visit(interval, share, jitter, chances, now):
    """
    Any grid: a planned visit is never in the past, and the next is in the next slot.
    """
    chance = iter(chances)
    grid = Grid(interval, share * interval, jitter * interval, lambda: next(chance))
    first = grid.next(None, now)
    assert first > now - 1e-3
    assert first - now <= interval * (1 + jitter) + 1e-3
    second = grid.next(first, first)
    slots = [
        round((moment - grid.phase - at * grid.jitter) / interval)
        for moment, at in zip((first, second), chances, strict=True)
    ]
    assert 1 == slots[1] - slots[0]


def test_a_visit_off_the_grid_takes_the_nearest_slot():
    """
    After a first visit at any time, half an interval passes at least.
    """
    grid = Grid(100.0, 0.0, 0.0, never)
    assert [1100.0, 1200.0] == [grid.next(1040.0, 1040.0), grid.next(1060.0, 1060.0)]


def test_a_suspended_machine_has_no_list_to_catch_up():
    """
    After a week asleep there is one next visit, and it is to come.
    """
    turn = Turn(Grid(300.0, 0.0, 0.0, never))
    week = 7 * 86400.0
    assert NOW + week + 300 == fire(turn, NOW, NOW + week)


# -- plans from schedules -------------------------------------------------------------


def test_every_makes_a_grid_with_the_account_s_phase():
    """
    The phase is the name's share of the interval; jitter is capped by the interval.
    """
    plan = schedule.plan(AccountName("alice"), Every(100.0, 500.0), half)
    phase = schedule.fraction(AccountName("alice")) * 100
    assert Grid(100.0, phase, 100.0, half) == plan


def test_cron_is_read_in_its_zone():
    """
    A line means the wall clock of its time zone.
    """
    plan = schedule.plan(AccountName("alice"), WEEKDAYS, never)
    berlin = ZoneInfo("Europe/Berlin")
    friday = datetime(2026, 11, 27, 18, 50, tzinfo=berlin).timestamp()
    monday = datetime(2026, 11, 30, 8, 0, tzinfo=berlin).timestamp()
    assert monday == plan.next(None, friday)
    assert monday + 600 == plan.next(monday, friday)


@pytest.mark.parametrize(
    ("cron", "error"),
    [
        (Cron("* * * *", "UTC"), ValueError),
        (Cron("@hourly", "Europe/Atlantis"), ZoneInfoNotFoundError),
    ],
)
def test_a_plan_that_cannot_be_made_is_an_error(cron, error):
    """
    What the configuration should have refused is refused here too.
    """
    with pytest.raises(error):
        schedule.plan(AccountName("alice"), cron, never)


def test_intervals_are_told_for_both():
    """
    The interval of a line is the time between its next two visits.
    """
    assert 300.0 == schedule.interval(Every(300.0), NOW)
    assert 86400.0 == schedule.interval(Cron("@daily", "UTC"), NOW)


# -- holds ----------------------------------------------------------------------------


def test_a_hold_takes_the_first_planned_time_after_it():
    """
    A held account keeps its phase.
    """
    turn = Turn(Grid(300.0, 20.0, 0.0, never), not_before=NOW + 1000)
    assert NOW + 1220 == fire(turn, None, NOW)


def test_the_first_visit_comes_at_once_or_when_the_hold_ends():
    """
    `first` is used once; what is held comes as soon as it may.
    """
    grid = Grid(86400.0, 0.0, 0.0, never)
    turn = Turn(grid, first=NOW + 2)
    assert NOW + 2 == fire(turn, None, NOW)
    assert NOW + 5 == fire(turn, None, NOW + 5)
    turn.not_before = NOW + 60
    assert NOW + 60 == fire(turn, None, NOW)
    later = fire(turn, NOW + 60, NOW + 60)
    assert 0 == later % 86400
    assert later > NOW + 43200


# -- who is due -----------------------------------------------------------------------


@given(
    phases=st.lists(st.floats(0, 100), min_size=1, max_size=20),
    moves=st.lists(st.tuples(st.integers(0, 19), st.floats(0, 400)), max_size=20),
    steps=st.lists(st.floats(0, 150), max_size=6),
)
def test_everybody_is_due_in_time_and_once(phases, moves, steps):
    """
    Whatever is moved: who is due is yielded in the order of time, and nobody else.
    """
    agenda, now = Agenda(), NOW
    turns = {f"a{n}": Turn(Grid(100.0, p, 0.0, never)) for n, p in enumerate(phases)}
    for turn in turns.values():
        turn.at = turn.next(now)
    agenda.change(turns, [])
    for number, after in moves:
        agenda.move(f"a{number}", now + after)
    for step in steps:
        now += step
        expected = sorted((turn.at, name) for name, turn in turns.items())
        expected = [(name, at) for at, name in expected if at <= now]
        assert expected == list(agenda.due(now))
        assert agenda.earliest() == min(turn.at for turn in turns.values()) > now


def test_nobody_is_due_where_nobody_is():
    """
    An agenda that is empty, or was emptied, has no next time.
    """
    agenda, alice = Agenda(), AccountName("alice")
    assert NEVER == agenda.earliest()
    agenda.change({alice: Turn(Grid(100.0, 0.0, 0.0, never), at=NOW)}, [])
    assert NOW == agenda.earliest()
    agenda.change({}, [alice])
    assert (NEVER, []) == (agenda.earliest(), list(agenda.due(NOW)))
    assert agenda.get(alice) is None


def test_what_is_overdue_is_asked_for_a_moment_later():
    """
    APScheduler asks for the next time until it is told one that is still to come.
    """
    agenda, alice = Agenda(), AccountName("alice")
    agenda.change({alice: Turn(Grid(100.0, 0.0, 0.0, never), at=NOW)}, [])
    now = datetime.fromtimestamp(NOW + 5, UTC)
    assert now < Next(agenda).get_next_fire_time(None, now)


def test_who_is_one_of_thousands_costs_no_look_at_the_others():
    """
    A hold and the next visit touch one account's turn, not the list of all.
    """
    agenda, counted = Agenda(), []

    class Counted(Turn):
        def next(self, now):
            counted.append(now)
            return super().next(now)

    grid = Grid(1000.0, 0.0, 0.0, never)
    turns = {f"a{n}": Counted(grid, at=NOW + n) for n in range(1000)}
    agenda.change(turns, [])
    agenda.move("a999", NOW + 3)
    assert ["a0", "a1"] == [name for name, _ in agenda.due(NOW + 1)]
    assert 2 == len(counted)


# -- the engine -----------------------------------------------------------------------


class Visits:
    """
    What was submitted, and a way to wait for it.
    """

    def __init__(self):
        self.seen = []
        self._changed = threading.Condition()

    def submit(self, account, planned):
        with self._changed:
            self.seen.append((account, planned))
            self._changed.notify_all()

    def wait(self, count):
        with self._changed:
            return self._changed.wait_for(lambda: len(self.seen) >= count, PATIENCE)

    @property
    def accounts(self):
        return [account for account, _ in self.seen]


@pytest.fixture
def visits():
    return Visits()


@pytest.fixture
def scheduler(visits):
    scheduler = Scheduler(visits.submit, chance=never)
    scheduler.start()
    yield scheduler
    scheduler.stop()


def test_accounts_are_visited_soon_after_the_start(visits):
    """
    Accounts set before the start are visited once each, at once, and spread.
    """
    scheduler = Scheduler(visits.submit, chance=never)
    scheduler.set_accounts({f"a{i}": Every(3600.0) for i in range(5)})
    assert NEVER == scheduler.next_time(AccountName("b1"))
    scheduler.start()
    assert visits.wait(5)
    scheduler.stop()
    assert {f"a{i}" for i in range(5)} == set(visits.accounts)
    times = [planned for _, planned in visits.seen]
    assert times == sorted(times)
    assert 0 < times[-1] - times[0] < 5 / schedule.FIRST_VISITS_PER_SECOND


def test_a_tiny_interval_is_kept(scheduler, visits):
    """
    Visits follow one another at the interval, each with its planned time.
    """
    scheduler.set_accounts({AccountName("alice"): Every(0.05)})
    assert visits.wait(4)
    gaps = [
        b - a for (_, a), (_, b) in zip(visits.seen[1:], visits.seen[2:], strict=False)
    ]
    assert all(abs(gap % 0.05) < 1e-3 or abs(gap % 0.05 - 0.05) < 1e-3 for gap in gaps)


def test_cron_waits_for_its_time(scheduler, visits):
    """
    An account with a line is not visited at the start.
    """
    scheduler.set_accounts({AccountName("alice"): Cron("0 0 29 2 *", "UTC")})
    scheduler.set_accounts(
        {
            AccountName("alice"): Cron("0 0 29 2 *", "UTC"),
            AccountName("bob"): Every(3600.0),
        }
    )
    assert visits.wait(1)
    assert ["bob"] == visits.accounts
    leap = datetime.fromtimestamp(scheduler.next_time(AccountName("alice")), UTC)
    assert (2, 29) == (leap.month, leap.day)


def test_what_is_planned_is_told_before_the_start(visits):
    """
    A held account, and one with a line, have their next time from the beginning: else a
    status page says "not planned" until their first visit.
    """
    scheduler = Scheduler(visits.submit, chance=never, clock=lambda: NOW)
    held, line = AccountName("held"), AccountName("line")
    scheduler.set_accounts(
        {held: Every(300.0), line: Cron("0 3 * * *", "UTC")}, {held: NOW + 900}
    )
    assert NOW + 900 == scheduler.next_time(held)
    assert NOW < scheduler.next_time(line) <= NOW + 86400


def test_a_reload_disturbs_nobody_else(visits):
    """
    Who stays keeps its plan, who goes is not visited, who is new is visited at once.
    """
    scheduler = Scheduler(visits.submit)  # jitter would show a plan made anew
    scheduler.start()
    alice, bob, carol = (AccountName(name) for name in ("alice", "bob", "carol"))
    scheduler.set_accounts({alice: Every(3600.0, 1800.0), bob: Every(3600.0)})
    assert visits.wait(2)
    planned = scheduler.next_time(alice)
    scheduler.set_accounts({alice: Every(3600.0, 1800.0), carol: Every(3600.0)})
    assert visits.wait(3)
    assert planned == scheduler.next_time(alice)
    assert NEVER == scheduler.next_time(bob)
    scheduler.stop()
    assert "carol" == visits.accounts[2]


def test_a_changed_schedule_is_no_new_account(scheduler, visits):
    """
    A new interval takes effect without a visit of its own, and a hold outlives it.
    """
    alice = AccountName("alice")
    scheduler.set_accounts({alice: Every(3600.0)})
    assert visits.wait(1)
    held = visits.seen[0][1] + 50000
    scheduler.hold(alice, held)
    scheduler.set_accounts({alice: Every(7200.0)})
    assert held <= scheduler.next_time(alice) <= held + 7200
    assert visits.seen[0][1] == scheduler._agenda[alice].previous
    assert 1 == len(visits.seen)


def test_what_was_remembered_holds_the_first_visit(scheduler, visits):
    """
    An account held from before the start is not visited before its time.
    """
    alice = AccountName("alice")
    until = datetime(2100, 1, 1, tzinfo=UTC).timestamp()
    scheduler.set_accounts(
        {alice: Every(3600.0), AccountName("bob"): Cron("@hourly", "UTC")},
        {alice: until, AccountName("bob"): until},
    )
    assert until == scheduler.next_time(alice)
    assert until <= scheduler.next_time(AccountName("bob")) <= until + 3600


def test_holding_moves_the_next_visit(scheduler, visits):
    """
    A hold moves the next visit behind it; lifting it moves it back; unknown is fine.
    """
    alice = AccountName("alice")
    scheduler.set_accounts({alice: Every(3600.0)})
    assert visits.wait(1)
    planned = scheduler.next_time(alice)
    scheduler.hold(alice, planned + 10000)
    assert planned + 10000 <= scheduler.next_time(alice) <= planned + 13600
    scheduler.hold(alice, 0.0)
    assert planned == scheduler.next_time(alice)
    scheduler.hold(AccountName("nobody"), 0.0)


def test_a_visit_can_be_had_at_once(scheduler, visits):
    """
    trigger_now does not wait for the plan, nor for a hold; unknown is fine.
    """
    alice = AccountName("alice")
    scheduler.set_accounts({alice: Every(3600.0)})
    assert visits.wait(1)
    scheduler.hold(alice, visits.seen[0][1] + 50000)
    scheduler.trigger_now(alice)
    assert visits.wait(2)
    scheduler.trigger_now(AccountName("nobody"))
    assert scheduler.next_time(alice) >= visits.seen[0][1] + 50000


def test_who_is_due_earlier_is_not_forgotten_for_who_is_due_later(
    scheduler, visits, monkeypatch
):
    """
    Two threads move visits at once: the engine is left with the earliest of them.
    """
    alice, bob = AccountName("alice"), AccountName("bob")
    scheduler.set_accounts({alice: Every(3600.0), bob: Every(3600.0)})
    assert visits.wait(2)
    for name in (alice, bob):
        scheduler.hold(name, visits.seen[0][1] + 50000)
    engine, meanwhile = scheduler._engine, [bob]
    real = engine.modify_job

    def modify(*args, **changes):
        if meanwhile:
            scheduler.trigger_now(meanwhile.pop())
        real(*args, **changes)

    monkeypatch.setattr(engine, "modify_job", modify)
    with engine._jobstores_lock:  # it shall not act on what comes first
        scheduler.hold(alice, 0.0)
    assert visits.wait(3)
    assert bob == visits.seen[2][0]


def test_a_submit_that_fails_costs_one_visit(visits):
    """
    An exception in submit does not stop the scheduler, nor this account's next visit.
    """

    def submit(account, planned):
        visits.submit(account, planned)
        if len(visits.seen) == 1:
            message = "once"
            raise RuntimeError(message)

    scheduler = Scheduler(submit, chance=never)
    scheduler.start()
    scheduler.set_accounts({AccountName("alice"): Every(0.05)})
    assert visits.wait(2)
    scheduler.stop()


def test_life_is_told_by_the_heartbeat():
    """
    The scheduler is alive while its thread beats, and not after a long silence.
    """
    clock = [0.0]
    scheduler = Scheduler(lambda *_: None, monotonic=lambda: clock[0])
    assert scheduler.alive()
    clock[0] = schedule.LONGEST_SILENCE
    assert not scheduler.alive()
    scheduler._beat()
    assert scheduler.alive()


def test_the_heart_beats(monkeypatch):
    """
    The scheduler's own thread beats, also without any account.
    """
    monkeypatch.setattr(schedule, "HEARTBEAT", 0.02)
    beaten = threading.Event()
    scheduler = Scheduler(lambda *_: None)
    monkeypatch.setattr(scheduler, "_beat", lambda *_: beaten.set())
    scheduler.start()
    assert beaten.wait(PATIENCE)
    scheduler.stop()
