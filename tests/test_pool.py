"""
The pool of visits: its bounds, its order, its end. Gates stand for time; none sleeps.
"""

from __future__ import annotations

import math
import threading
import time

import pytest

from hypothesis import given
from hypothesis import strategies as st

from popfetchd.pool import FIRST_REST, LONGEST_REST, Pool, Silence, rest


PATIENCE = 10.0


class Works:
    """
    Makes works that say that they began, and end when they are told.
    """

    def __init__(self):
        self.began = []
        self._changed = threading.Condition()
        self._open = set()

    def work(self, name):
        def run():
            with self._changed:
                self.began.append(name)
                self._changed.notify_all()
                assert self._changed.wait_for(lambda: name in self._open, PATIENCE)

        return run

    def expect(self, *names):
        """
        Wait until so many began, and tell that it was these.
        """
        with self._changed:
            self._changed.wait_for(lambda: len(self.began) >= len(names), PATIENCE)
            assert list(names) == self.began

    def end(self, *names):
        with self._changed:
            self._open.update(names)
            self._changed.notify_all()


@pytest.fixture
def works():
    return Works()


@pytest.fixture
def escaped():
    return []


@pytest.fixture
def make(escaped):
    pools = []

    def pool(sessions, per_host, clock=time.monotonic):
        escape = lambda *args: escaped.append((*args,))  # noqa: E731 -- to be short
        pools.append(Pool(sessions, per_host, escape, clock))
        return pools[-1]

    yield pool
    for made in pools:
        made.drain(PATIENCE)


def test_visits_run_up_to_the_bound(make, works):
    """
    No more than *sessions* run at once; who ends makes room for who waits.
    """
    pool = make(2, 2)
    for name in "abc":
        assert pool.submit(name, f"host-{name}", works.work(name))
    works.expect("a", "b")
    assert (2, 1) == (pool.active, pool.waiting)
    assert frozenset({"a", "b"}) == pool.running
    works.end("a")
    works.expect("a", "b", "c")
    works.end("b", "c")
    assert pool.wait(PATIENCE)
    assert (0, 0) == (pool.active, pool.waiting)


def test_an_account_is_in_the_pool_once(make, works):
    """
    Who waits or runs is refused, and welcome again afterwards.
    """
    pool = make(1, 1)
    assert pool.submit("a", "host", works.work("a"))
    assert pool.submit("b", "host", works.work("b"))
    assert not pool.submit("a", "host", works.work("a"))
    assert not pool.submit("b", "host", works.work("b"))
    works.end("a", "b")
    assert pool.wait(PATIENCE)
    assert pool.submit("a", "host", works.work("a"))


def test_a_busy_host_holds_up_nobody(make, works):
    """
    Visits to a host at its cap are passed by, and keep their order among themselves.
    """
    pool = make(3, 1)
    for name in ("x1", "x2", "x3", "y1", "z1"):
        pool.submit(name, name[0], works.work(name))
    works.expect("x1", "y1", "z1")
    works.end("y1", "z1")
    works.end("x1")
    works.expect("x1", "y1", "z1", "x2")
    works.end("x2")
    works.expect("x1", "y1", "z1", "x2", "x3")
    works.end("x3")


def test_who_came_first_goes_first(make, works):
    """
    Below the caps the order is that of arrival, whichever the host.
    """
    pool = make(1, 1)
    order = ["a", "b", "c", "d", "e"]
    for name in order:
        pool.submit(name, "one" if name in "ace" else "two", works.work(name))
    works.end(*order)
    assert pool.wait(PATIENCE)
    works.expect(*order)


def test_what_escapes_costs_one_visit_only(make, escaped):
    """
    Any exception, an exit too, is handed over with its account; the next visit runs.
    """
    pool, error, ran = make(1, 1), SystemExit(1), []

    def fail():
        raise error

    pool.submit("bad", "host", fail)
    pool.submit("good", "host", lambda: ran.append(threading.current_thread()))
    assert pool.wait(PATIENCE)
    assert [("bad", error)] == escaped
    assert ["visit-good"] == [thread.name for thread in ran]
    assert ran[0].daemon


def test_no_thread_to_be_had(make, escaped, monkeypatch):
    """
    If the system gives no thread, that visit is handed over and its place is free.
    """
    pool = make(1, 1)

    def refuse(_thread):
        message = "can't start new thread"
        raise RuntimeError(message)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert pool.submit("a", "host", lambda: None)
    assert ["a"] == [account for account, _ in escaped]
    assert pool.wait(0)
    assert pool.submit("a", "host", lambda: None)


def test_closing_forgets_what_waits(make, works):
    """
    After close nothing begins and nothing is accepted; what runs goes on.
    """
    pool = make(1, 1)
    pool.submit("a", "host", works.work("a"))
    pool.submit("b", "host", works.work("b"))
    pool.submit("c", "other", works.work("c"))
    works.expect("a")
    assert not pool.closed
    assert not pool.drain(0.0)
    assert pool.closed
    assert (1, 0) == (pool.active, pool.waiting)
    assert not pool.submit("d", "other", works.work("d"))
    works.end("a")
    assert pool.drain(PATIENCE)
    works.expect("a")


def test_raised_limits_take_effect_at_once(make, works):
    """
    Who waited for a place begins as soon as the limit is raised.
    """
    pool = make(1, 1)
    for name in ("x1", "x2", "y1"):
        pool.submit(name, name[0], works.work(name))
    works.expect("x1")
    pool.resize(3, 1)
    works.expect("x1", "y1")
    pool.resize(3, 2)
    works.expect("x1", "y1", "x2")
    works.end("x1", "x2", "y1")


def test_lowered_limits_disturb_nobody(make, works):
    """
    Visits above a new limit run on; nobody begins until there is room below it.
    """
    pool = make(3, 3)
    for name in ("a", "b", "c"):
        pool.submit(name, "host", works.work(name))
    works.expect("a", "b", "c")
    pool.resize(3, 1)
    pool.submit("d", "host", works.work("d"))
    works.end("a")
    works.end("b")
    works.expect("a", "b", "c")
    works.end("c")
    works.expect("a", "b", "c", "d")
    works.end("d")


def test_waiting_for_the_end_is_bounded(make, works):
    """
    Who waits gives up after the time given, and says so.
    """
    pool = make(1, 1)
    pool.submit("a", "host", works.work("a"))
    assert not pool.wait(0.0)
    works.end("a")
    assert pool.wait()


@given(
    hosts=st.lists(st.sampled_from("xyz"), max_size=40),
    sessions=st.integers(1, 4),
    per_host=st.integers(1, 3),
)
def test_every_visit_takes_place_within_the_limits(hosts, sessions, per_host):
    """
    Any mixture of hosts: each visit runs once, never more at once than allowed.
    """
    lock, running, done, most = threading.Lock(), [], [], {"all": 0, "host": 0}

    def work(number, host):
        def run():
            with lock:
                running.append(host)
                most["all"] = max(most["all"], len(running))
                most["host"] = max(most["host"], running.count(host))
            with lock:
                running.remove(host)
                done.append(number)

        return run

    pool = Pool(sessions, per_host, lambda *args: done.append(args))
    for number, host in enumerate(hosts):
        assert pool.submit(str(number), host, work(number, host))
    assert pool.wait(PATIENCE)
    assert list(range(len(hosts))) == sorted(done)
    assert most["all"] <= sessions
    assert most["host"] <= per_host
    assert ({}, {}, []) == (pool._hosts, pool._doors, pool._known)


# -- servers that do not answer -------------------------------------------------------

REFUSED = Silence("connect", "refused")


class Clock:
    """
    Monotonic seconds that pass when they are told to.
    """

    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def server(name):
    return name[0], name[0]


def begin(pool, works, *names):
    for name in names:
        assert pool.submit(name, name[0], works.work(name), name[0])


@pytest.mark.parametrize(
    ("took", "rests"),
    [
        (0.001, [1, 2, 4, 8, 16, 32]),
        (60.0, [60, 120, 240, 480, 900, 900]),
        (2000.0, [900, 900]),
    ],
)
def test_a_rest_is_as_long_as_the_failure_was_dear(took, rests):
    """
    It doubles, up to a quarter of an hour.
    """
    assert rests == [rest(took, failures) for failures in range(1, len(rests) + 1)]


def test_a_silent_server_is_probed_by_one_after_its_rest(make, works, clock):
    """
    Who waits for it holds no thread; nobody begins before the time, and then only one.
    """
    pool = make(8, 4, clock)
    begin(pool, works, "x1")
    works.expect("x1")
    assert () == pool.silent(server("x"), REFUSED, 30.0)
    works.end("x1")
    assert pool.wait(PATIENCE)
    begin(pool, works, "x2", "x3")
    assert (0, 2, REFUSED) == (pool.active, pool.waiting, pool.silence("x2"))
    clock.now += 29.9
    pool.wake()
    assert 0 == pool.active
    clock.now += 0.1
    pool.wake()
    works.expect("x1", "x2")
    assert (1, 1) == (pool.active, pool.waiting)
    assert 0.0 == pool.free_for(server("x"))
    assert () == pool.silent(server("x"), REFUSED, 0.0)
    clock.now += 2 * FIRST_REST
    works.end("x2", "x3")
    pool.wake()
    assert pool.wait(PATIENCE)


def test_the_first_answer_opens_a_server_to_all(make, works, clock):
    """
    As soon as it is given, up to the cap, while the visit that got it goes on.
    """
    pool = make(8, 3, clock)
    pool.silent(server("x"), REFUSED, 0.0)
    begin(pool, works, "x1", "x2", "x3", "x4")
    assert 0 == pool.active
    clock.now += FIRST_REST
    pool.wake()
    works.expect("x1")
    clock.now += 5
    pool.answered(server("x"))
    works.expect("x1", "x2", "x3")
    assert (None, 0.0) == (pool.silence("x4"), pool.free_for(server("x")))
    works.end("x1", "x2", "x3", "x4")


def test_who_waits_is_told_once(make, works, clock):
    """
    When a server is silent for longer than a moment, those who wait for it are named,
    and not again until it has answered.
    """
    pool = make(4, 1, clock)
    begin(pool, works, "x1", "x2", "y1")
    works.expect("x1", "y1")
    named = []
    for _ in range(5):
        clock.now += 100
        named.append(pool.silent(server("x"), REFUSED, 0.0))
    assert [(), (), (), ("x2",), ()] == named
    assert (None, REFUSED) == (pool.silence("y1"), pool.silence("x2"))
    pool.answered(server("x"))
    assert pool.silence("x2") is None
    clock.now += 100
    assert () == pool.silent(server("x"), REFUSED, 0.0)
    assert pool.silence("x2") is None
    clock.now += 100
    works.end("x1", "x2", "y1")
    assert pool.wait(PATIENCE)


def test_visits_that_fail_together_are_one_failure(make, clock):
    """
    What began before the last failure was known does not double the rest.
    """
    pool = make(2, 1, clock)
    for _ in range(4):
        pool.silent(server("x"), REFUSED, 60.0)
    assert -60.0 == pool.free_for(server("x"))


def test_a_lost_connection_of_a_server_that_answers_others_is_no_silence(make, clock):
    """
    Where one of a hundred hangs, the other accounts are visited as ever; an answer from
    before it began says nothing.
    """
    pool = make(2, 1, clock)
    pool.answered(server("x"))
    clock.now += 40
    pool.answered(server("x"))
    clock.now += 20
    assert () == pool.silent(server("x"), REFUSED, 60.0)
    assert 60.0 == pool.free_for(server("x"))
    clock.now += 41
    pool.silent(server("x"), REFUSED, 60.0)
    assert -60.0 == pool.free_for(server("x"))


@pytest.mark.parametrize("sessions", [2, 4, 64])
def test_a_long_visit_keeps_nobody_from_probing_its_server(
    make, works, clock, escaped, sessions
):
    """
    One connection was refused while another account's mail is fetched for an hour: the
    others wait for a moment, not for the hour.
    """
    pool = make(sessions, 4, clock)
    pool.answered(server("x"))
    begin(pool, works, "x1", "x2")
    works.expect("x1", "x2")
    clock.now += 10
    pool.silent(server("x"), REFUSED, 0.0)
    works.end("x2")
    begin(pool, works, "x3", "x4")
    clock.now += FIRST_REST
    pool.wake()
    works.expect("x1", "x2", "x3")
    clock.now += 10
    pool.silent(server("x"), REFUSED, 10.0)
    clock.now += 3600
    pool.wake()
    works.expect("x1", "x2", "x3")
    works.end("x3")
    works.expect("x1", "x2", "x3", "x4")
    pool.answered(server("x"))
    clock.now += 10
    pool.silent(server("x"), REFUSED, 0.0)
    works.end("x1", "x4")
    assert pool.wait(PATIENCE)
    assert [] == escaped  # none gave up its wait


def test_who_fell_silent_while_others_waited_goes_behind_them(make, works, clock):
    """
    Its place among those never asked was given up, also once it may be probed.
    """
    pool = make(4, 2, clock)
    begin(pool, works, "x1", "y1", "d1", "d2", "x2", "u1", "v1")
    works.expect("x1", "y1", "d1")
    pool.silent(server("d"), REFUSED, 0.0)
    works.end("d1")
    works.expect("x1", "y1", "d1", "u1")
    clock.now += FIRST_REST
    works.end("y1")
    works.expect("x1", "y1", "d1", "u1", "v1")
    works.end("u1")
    works.expect("x1", "y1", "d1", "u1", "v1", "x2")
    works.end("x1", "v1", "x2", "d2")


def test_servers_not_known_to_answer_get_a_part_of_the_threads(make, works, clock):
    """
    However many hang, the other part is for those that do answer.
    """
    pool = make(4, 2, clock)
    pool.answered(server("g"))
    begin(pool, works, "w1", "x1", "y1", "z1", "g1", "g2")
    works.expect("w1", "x1", "y1", "g1")
    assert 2 == pool.waiting
    works.end("g1")
    works.expect("w1", "x1", "y1", "g1", "g2")
    pool.answered(server("y"))
    works.end("g2")
    works.expect("w1", "x1", "y1", "g1", "g2", "z1")
    works.end("w1", "x1", "y1", "z1")


def test_a_server_that_falls_silent_counts_among_them(make, works, clock):
    """
    Also while visits to it run still.
    """
    pool = make(4, 4, clock)
    pool.answered(server("x"))
    begin(pool, works, "x1", "x2", "x3")
    works.expect("x1", "x2", "x3")
    clock.now += 61
    pool.silent(server("x"), REFUSED, 60.0)
    begin(pool, works, "y1")
    works.expect("x1", "x2", "x3")
    works.end("x1")
    works.expect("x1", "x2", "x3", "y1")
    works.end("x2", "x3", "y1")


def test_who_has_not_been_asked_goes_before_who_was_silent(make, works, clock):
    """
    Many silent servers do not keep new ones from being known.
    """
    pool = make(1, 1, clock)
    pool.silent(server("x"), REFUSED, 0.0)
    begin(pool, works, "y1", "x1", "z1")
    works.expect("y1")
    clock.now += 1
    pool.wake()
    works.end("y1")
    works.expect("y1", "z1")
    works.end("z1")
    works.expect("y1", "z1", "x1")
    works.end("x1")


def test_another_way_to_a_host_that_answers_is_held_to_answer(make, works, clock):
    """
    An account with another `timeout` or port does not wait behind servers that hang.
    """
    pool = make(4, 4, clock)
    pool.answered(("g", "one way"))
    begin(pool, works, "w1", "x1", "y1")
    works.expect("w1", "x1", "y1")
    pool.submit("g1", "g", works.work("g1"), "another")
    works.expect("w1", "x1", "y1", "g1")
    pool.silent(("g", "another"), REFUSED, 60.0)
    assert (0.0, -60.0) == (
        pool.free_for(("g", "one way")),
        pool.free_for(("g", "another")),
    )
    works.end("w1", "x1", "y1", "g1")


def test_who_was_silent_leaves_room_to_who_was_never_asked(make, works, clock):
    """
    A reload, which has all of them probed at once, keeps no new server waiting.
    """
    pool = make(8, 1, clock)
    for name in "uvwxyz":
        pool.silent(server(name), REFUSED, 60.0)
    begin(pool, works, "u1", "v1", "w1", "x1", "y1", "z1")
    pool.keep([server(name) for name in "uvwxyz"])
    works.expect("u1", "v1")
    begin(pool, works, "n1")
    works.expect("u1", "v1", "n1")
    works.end("u1", "v1", "w1", "x1", "y1", "z1", "n1")


def test_one_thread_is_enough(make, works, clock):
    """
    A pool of one visits servers that are not known, too.
    """
    pool = make(1, 1, clock)
    begin(pool, works, "x1", "y1")
    works.end("x1", "y1")
    assert pool.wait(PATIENCE)


def test_what_waits_can_be_withdrawn(make, works, clock):
    """
    An account that was changed is not visited as it was; what runs goes on.
    """
    pool = make(1, 1, clock)
    begin(pool, works, "x1", "x2", "x3")
    works.expect("x1")
    assert ["x2"] == pool.withdraw(["x2", "x1", "nobody"])
    works.end("x1", "x3")
    assert pool.wait(PATIENCE)
    works.expect("x1", "x3")
    assert pool.submit("x2", "x", works.work("x2"), "x")
    works.end("x2")


def test_a_new_configuration_ends_every_rest(make, works, clock):
    """
    Somebody may have mended something; who is not configured any more is forgotten.
    """
    pool = make(8, 1, clock)
    for name in "xyz":
        pool.silent(server(name), REFUSED, 60.0)
    begin(pool, works, "x1", "y1")
    pool.keep([server("x"), server("z")])
    works.expect("x1", "y1")
    assert {server("x"), server("y"), server("z")} >= pool._doors.keys()
    works.end("x1", "y1")
    assert pool.wait(PATIENCE)
    pool.keep([server("x")])
    assert [server("x")] == list(pool._doors)
    clock.now += 100
    pool.silent(server("x"), REFUSED, 60.0)
    assert -60.0 == pool.free_for(server("x"))
    assert math.inf == pool.free_for(server("y"))


@given(
    visits=st.lists(st.tuples(st.sampled_from("vwxyz"), st.booleans()), max_size=40),
    sessions=st.integers(1, 4),
    per_host=st.integers(1, 3),
)
def test_every_visit_takes_place_whatever_answers(visits, sessions, per_host):
    """
    Any mixture of answers: each visit runs once, and within the limits.
    """
    lock, running, done, most = threading.Lock(), [], [], {"all": 0, "host": 0}
    clock = Clock()

    def work(number, host, answers):
        def run():
            with lock:
                running.append(host)
                most["all"] = max(most["all"], len(running))
                most["host"] = max(most["host"], running.count(host))
            if answers:
                pool.answered((host, host))
            else:
                pool.silent((host, host), REFUSED, 1.0)
            with lock:
                running.remove(host)
                done.append(number)

        return run

    pool = Pool(sessions, per_host, lambda *args: done.append(args), clock)
    for number, (host, answers) in enumerate(visits):
        assert pool.submit(str(number), host, work(number, host, answers), host)
    for _ in visits:
        clock.now += LONGEST_REST
        pool.wake()
        pool.wait(0.01)
    assert pool.wait(PATIENCE)
    assert not any(pool._at.values())
    assert list(range(len(visits))) == sorted(done)
    assert most["all"] <= sessions
    assert most["host"] <= per_host
    assert ([], set()) == (pool._known, {count for count in pool._at.values() if count})
