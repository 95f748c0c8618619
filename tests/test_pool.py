"""
The pool of visits: its bounds, its order, its end. Gates stand for time; none sleeps.
"""

from __future__ import annotations

import threading

import pytest

from hypothesis import given
from hypothesis import strategies as st

from popfetchd.pool import Pool


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

    def pool(sessions, per_host):
        pools.append(Pool(sessions, per_host, lambda *args: escaped.append((*args,))))
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
    assert ({}, []) == (pool._hosts, pool._ready)
