"""
The composition root: visits, and a service that is made in this process.

What needs a process of its own is in test_daemon_running.py.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
import time

from contextlib import contextmanager, suppress

import pytest

import popfetchd.visits

from popfetchd import daemon
from popfetchd.daemon import Service, Systemd, Wish
from popfetchd.errors import (
    AccountLocked,
    Disconnected,
    LedgerError,
    PopfetchdError,
    SystemTemporary,
    TimedOut,
    TlsFailed,
)
from popfetchd.ledger import Ledger
from popfetchd.metrics import Metrics
from popfetchd.poll import poll
from popfetchd.pop3.deadline import Deadline
from popfetchd.report import Reporter
from popfetchd.values import AccountName, AccountState, Outcome
from popfetchd.visits import LOOK_UP, Sessions, Visits
from tests.desk import PATIENCE, desk, letter, restored, until, value
from tests.test_cli_fetch import Gate, letters
from tests.world import world


ALICE = AccountName("alice")


@pytest.fixture
def here(tmp_path, capsys):
    with desk(tmp_path, capsys) as made:
        yield made


# -- a service in this process --------------------------------------------------------


@contextmanager
def made(here, **keys):
    """
    Give a service that was made, and not run.
    """
    here.write(here.account("alice", *letters(1), **keys))
    with restored():
        service = Service(here.path, os.environ)
        try:
            yield service
        finally:
            service._web.server_close()
            service.ledger.close()


def stop_when(service, condition):
    """
    In a thread of its own: ask *service* to stop once *condition* is true.
    """

    def ask():
        try:
            until(condition)
        finally:  # the test fails then, but it does not hang
            service.wish(Wish.STOP)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    return thread


def test_it_runs_and_puts_the_signals_back(here):
    """
    Whoever embeds the service has its own signals again when it has ended.
    """
    before = [signal.getsignal(number) for number in daemon.SIGNALS]
    with made(here) as service:
        stop_when(service, lambda: here.archived("alice") == 1)
        assert service.run()
    assert before == [signal.getsignal(number) for number in daemon.SIGNALS]


def test_a_reload_may_be_wished_for(here):
    """
    A wish from any thread does what SIGHUP does.
    """
    with made(here) as service:
        here.write(here.account("alice"), here.account("bob", letter(b"two")))
        service.wish(Wish.RELOAD)
        stop_when(service, lambda: here.archived("bob") == 1)
        assert service.run()
        assert {"alice", "bob"} == set(service.metrics.states())


def test_visits_that_do_not_end_are_abandoned(here, monkeypatch, capsys):
    """
    After the grace the service ends without them, and says so; nothing is lost.
    """
    monkeypatch.setattr(daemon, "GRACE", 0.05)
    with made(here) as service:
        gate = Gate(here.servers["alice"], at=1)
        stop_when(service, gate.reached.is_set)
        assert not service.run()
        assert "stopped, visits were abandoned" in capsys.readouterr().err
        gate.open.set()
        assert service._pool.wait(PATIENCE)


def test_a_signal_wakes_whichever_thread_was_given_it(here):
    """
    The system may give it to a thread that is not the main one, which sleeps then.
    """
    taken = "popfetchd_config_last_reload_successful"
    with made(here) as service:
        service.metrics.reloaded(taken=False, at=0.0)

        def is_taken():
            return value(service.metrics.page().decode(), taken) == 1

        def ask():
            until(lambda: here.archived("alice") == 1)
            signal.pthread_kill(threading.get_ident(), signal.SIGHUP)
            with suppress(AssertionError):
                until(is_taken, 3.0)  # less than the main thread sleeps
            service.wish(Wish.STOP)

        threading.Thread(target=ask, daemon=True).start()
        assert service.run()
        assert is_taken()


def test_a_bell_that_rings_already_is_rung_in_vain():
    """
    Nobody is held up by ringing, and one wait hears all of it.
    """
    bell = daemon.Bell()
    bell.ring()
    with bell.hung():
        for _ in range(10_000):
            bell.ring()
        while select.select([bell._ends[0]], [], [], 0.0)[0]:
            bell.wait(PATIENCE)
        bell.wait(0.0)
    bell.ring()


def test_a_second_wish_to_stop_ends_the_process(here, monkeypatch):
    """
    At once, whatever runs: that is safe at any instant (P1).
    """
    ends = []
    monkeypatch.setattr(os, "_exit", ends.append)
    with made(here) as service:
        service.wish(Wish.STOP)
        assert [] == ends
        service.wish(Wish.STOP)
    assert [143] == ends


def test_a_visit_that_is_due_while_another_runs_is_skipped(here):
    """
    It is told as an overrun; after a stop, as what it is; an unknown account is nobody.
    """
    skipped = 'popfetchd_polls_skipped_total{reason="%s"}'
    with made(here) as service:
        gate = Gate(here.servers["alice"], at=1)
        service._due(ALICE, time.time())
        assert gate.reached.wait(PATIENCE)
        service._due(ALICE, time.time())
        service._due(AccountName("nobody"), time.time())
        assert 1 == value(service.metrics.page().decode(), skipped % "overrun")
        gate.open.set()
        assert service._pool.drain(PATIENCE)
        service._due(ALICE, time.time())
        assert 1 == value(service.metrics.page().decode(), skipped % "stopping")


def test_a_reload_gives_way_to_visits(here, monkeypatch):
    """
    While it works, who visits waits a tenth as long for a turn; then as before.
    """
    usual, seen = sys.getswitchinterval(), []
    with made(here) as service:
        real = daemon.load.load

        def look(*args):
            seen.append(sys.getswitchinterval())
            return real(*args)

        monkeypatch.setattr(daemon.load, "load", look)
        service.reload()
    assert [pytest.approx(daemon.TURN)] == seen
    assert usual == sys.getswitchinterval()


def test_a_visit_waits_for_a_server_that_another_found_silent(here):
    """
    It is put off and shown; the first answer opens the server, and mail comes at once.
    """
    skipped = 'popfetchd_polls_skipped_total{reason="unreachable"}'
    with made(here) as service:
        server = service._accounts[ALICE].server
        service._heard(server, Disconnected("greeting", "reset"), 60.0)
        service._due(ALICE, time.time())
        service._due(ALICE, time.time())
        assert 2 == value(service.metrics.page().decode(), skipped)
        assert "disconnected" == service.metrics.state(ALICE).reason
        assert (0, 1) == (service._pool.active, service._pool.waiting)
        service._heard(server, None, 0.1)
        assert service._pool.wait(PATIENCE)
        assert ("", 1) == (service.metrics.state(ALICE).reason, here.archived("alice"))
        text = service.metrics.page().decode()
        assert value(text, "popfetchd_schedule_delay_seconds_sum") < 1


def test_who_waits_when_a_server_falls_silent_is_told(here):
    """
    They did not ask it themselves.
    """
    with made(here) as service:
        server = service._accounts[ALICE].server
        service._pool.resize(1, 1)
        gate = threading.Event()
        service._pool.submit("bob", daemon._door(server)[0], gate.wait, server)
        service._due(ALICE, time.time())
        assert "" == service.metrics.state(ALICE).reason
        service._heard(server, Disconnected("greeting", "reset"), 60.0)
        assert "disconnected" == service.metrics.state(ALICE).reason
        gate.set()
        service._pool.drain(PATIENCE)


def test_who_waits_for_a_silent_server_stays_told_over_a_reload(here, monkeypatch):
    """
    The probe that a reload brings may take a minute; the ledger knows nothing of it.
    """
    with made(here) as service:
        server = service._accounts[ALICE].server
        service._heard(server, Disconnected("greeting", "reset"), 60.0)
        service._pool.resize(1, 1)
        gate = threading.Event()
        service._pool.submit("bob", "another", gate.wait)
        monkeypatch.setattr(service._pool, "resize", lambda *_: None)
        service._due(ALICE, time.time())
        before = service.metrics.state(ALICE)
        service.reload()
        assert 1 == service._pool.waiting
        assert "disconnected" == before.reason
        assert before == service.metrics.state(ALICE)
        gate.set()
        assert service._pool.wait(PATIENCE)
        assert "" == service.metrics.state(ALICE).reason


def test_a_visit_that_waits_is_made_as_a_reload_says(here):
    """
    What waits for a silent server is not visited where it was, once that is mended.
    """
    with made(here) as service:
        server = service._accounts[ALICE].server
        service._heard(server, Disconnected("greeting", "reset"), 60.0)
        service._due(ALICE, time.time())
        here.write(here.account("alice", timeout="7s"))
        service.reload()
        assert 0 == service._pool.waiting
        service._due(ALICE, time.time())
        assert service._pool.wait(PATIENCE)
        assert 1 == here.archived("alice")


def test_a_server_that_answered_before_a_restart_is_known(here):
    """
    A start does not begin with doubts about everybody.
    """
    with made(here) as service:
        service._due(ALICE, time.time())
        assert service._pool.wait(PATIENCE)
    here.write(here.account("alice"))
    with restored():
        service = Service(here.path, os.environ)
        door = daemon._door(service._accounts[ALICE].server)
        assert service._pool._doors[door].answers
        service._web.server_close()
        service.ledger.close()


@pytest.mark.parametrize(
    ("outcome", "left", "expected"),
    [
        (None, 9.0, [None]),
        (Disconnected("greeting", "reset"), 9.0, [Disconnected]),
        (TlsFailed("host", 995, "no"), 9.0, [TlsFailed]),
        (TimedOut("connect", 1.0), 0.0, []),
        (SystemTemporary("greeting", "-ERR"), 9.0, [None]),
        (LedgerError("path", "of ours"), 9.0, []),
    ],
)
def test_a_connection_tells_whether_the_server_answers(
    monkeypatch, outcome, left, expected
):
    """
    A refusal is an answer; the end of the visit's own time, or a fault here, is no sign.
    """
    heard = []
    sessions = Sessions({}, lambda _server, failure, _took: heard.append(failure))

    def opened(*_):
        if outcome is not None:
            raise outcome
        return "session"

    monkeypatch.setattr(popfetchd.visits, "open_session", opened)
    with suppress(PopfetchdError):
        assert "session" == sessions.connect("server", Deadline(left))
    assert expected == [failure and type(failure) for failure in heard]


def test_a_cron_line_has_an_interval_and_a_next_time(here):
    """
    The time between the next two visits is what Prometheus compares ages with.
    """
    interval = 'popfetchd_account_poll_interval_seconds{account="alice"}'
    with made(here, every=None, cron="0 * * * *") as service:
        assert 3600 == value(service.metrics.page().decode(), interval)


def test_a_failing_account_on_a_cron_line_backs_off(here):
    """
    What fails is held for longer than to the next minute, as with `every:`.
    """
    with made(here, every=None, cron="* * * * *") as service:
        now = time.time()
        state = AccountState(now, consecutive_failures=4, reason="connect")
        account = service._accounts[ALICE]
        assert now + 8 * 60 <= daemon._earliest(state, account)


def test_a_service_whose_ledger_fails_is_not_healthy(here, monkeypatch):
    """
    /healthz and /readyz say so, and the watchdog is not fed.
    """
    told = []
    monkeypatch.setattr(Systemd, "tell", lambda _self, *lines: told.append(lines[0]))
    with made(here) as service:
        assert service.healthy()
        monkeypatch.setattr(Ledger, "highest", failing)
        assert not service.healthy()
        stop_when(service, lambda: told)
        assert service.run()
    assert ["READY=1", "STOPPING=1"] == told


def failing(*_args):
    """
    Fail as a ledger does whose disk has gone.
    """
    raise LedgerError("ledger.db", "its disk fails")


def test_metrics_say_how_accounts_were_before_the_start(here):
    """
    What the ledger remembers is shown before the first visit.
    """
    here.write(here.account("alice"))
    with Ledger(here.directory / "state" / "ledger.db", now=time.time) as ledger:
        ledger.save_state(ALICE, AccountState(last_poll=1.7e9, archived=7))
        ledger.save_state(AccountName("gone"), AccountState(last_poll=1.7e9))
    with made(here) as service:
        assert {ALICE: 7} == {
            n: s.archived for n, s in service.metrics.states().items()
        }


# -- visits ---------------------------------------------------------------------------


@contextmanager
def visits(tmp_path):
    """
    Give `Visits` in a world of its own, and what its reporter logs.
    """
    with world(tmp_path) as there:
        told = []
        log = type("Log", (), {"__getattr__": lambda _s, level: tell(told, level)})()
        metrics = Metrics()
        reporter = Reporter(metrics, log)
        yield there, Visits(there.ledger, metrics, reporter, {}, there.now), told


def tell(told, level):
    return lambda event, **fields: told.append((level, event, fields))


def test_a_visit_is_remembered_and_told(tmp_path):
    """
    The ledger, the metrics and the log agree on what came of it.
    """
    with visits(tmp_path) as (there, made, told):
        there.deliver(*letters(2))
        report = made.make(
            there.account, stop=threading.Event(), next_poll=lambda _state: 42.0
        )
        state = there.ledger.state(ALICE)
    assert Outcome.SUCCESS == report.outcome
    assert (2, 42.0, there.time) == (state.archived, state.next_poll, state.last_poll)
    assert [("info", "visit ended", 2)] == [(a, b, c["archived"]) for a, b, c in told]


def test_a_visit_leaves_to_the_next_one_what_it_has_learnt(tmp_path):
    """
    One that did not take place leaves that alone; one that failed leaves nothing.
    """
    with visits(tmp_path) as (there, made, _told):
        made.make(there.account, stop=threading.Event())
        learnt = there.ledger.recollection(ALICE)
        assert "PIPELINING" in learnt.announced.before
        with there.ledger.lock(ALICE).acquire():
            made.make(there.account, stop=threading.Event())
        assert learnt == there.ledger.recollection(ALICE)
        there.server.close()
        made.make(there.account, stop=threading.Event())
        assert there.ledger.recollection(ALICE) is None


def test_a_visit_of_an_account_that_another_holds_is_skipped(tmp_path):
    """
    Nothing is remembered of a visit that did not take place; without patience, at once.
    """
    with visits(tmp_path) as (there, made, told):
        there.ledger.save_state(ALICE, AccountState(archived=7))
        with there.ledger.lock(ALICE).acquire():
            report = made.make(there.account, stop=threading.Event())
        assert AccountState(archived=7) == there.ledger.state(ALICE)
        assert b"" == there.server.wire
    assert "in_use" == report.failure.reason
    assert ("warning", "visit skipped", "locked") == (
        *told[0][:2],
        told[0][2]["reason"],
    )


@pytest.mark.parametrize(
    ("stopped", "patience", "tries"),
    [(False, PATIENCE, 3), (True, PATIENCE, 1), (False, 0.0, 1)],
)
def test_who_waits_for_an_account_looks_up(
    tmp_path, monkeypatch, stopped, patience, tries
):
    """
    It tries again until the other has ended, its patience has, or it is told to stop.
    """
    stop, waits = threading.Event(), []

    def busy(account, means, *, patience, **keys):
        waits.append(patience)
        if stopped:
            stop.set()
        if len(waits) < 3:
            raise AccountLocked(account.name)
        return poll(account, means, **keys)

    monkeypatch.setattr("popfetchd.visits.poll", busy)
    with visits(tmp_path) as (there, made, _):
        report = made.make(there.account, stop=stop, patience=patience)
    assert tries == len(waits)
    assert (tries == 3) == (report.failure is None)
    assert all(0.0 <= wait <= LOOK_UP for wait in waits)


def test_a_ledger_that_fails_is_told_and_hides_nothing(tmp_path, monkeypatch):
    """
    What cannot be remembered is still told; what was known of the account still shows.
    """
    with visits(tmp_path) as (there, made, told):
        known = AccountState(last_poll=1.0, last_success=1.0, archived=7)
        made.counts.set_accounts({ALICE: daemon.Watched(known, 300.0)})
        monkeypatch.setattr(Ledger, "state", failing)
        for _ in range(2):
            report = made.make(there.account, stop=threading.Event())
        shown = made.counts.state(ALICE)
    assert "ledger" == report.failure.reason
    assert (7, 1.0, 2) == (
        shown.archived,
        shown.last_success,
        shown.consecutive_failures,
    )
    assert ("error", "visit failed") == told[0][:2]


# -- systemd --------------------------------------------------------------------------


def test_without_systemd_nothing_is_said():
    """
    Where there is no socket, there is nobody to tell; signs of life come all the same.
    """
    systemd = Systemd({})
    systemd.tell("READY=1")
    assert 5.0 == systemd.watchdog_interval


def test_an_abstract_socket_is_one(tmp_path):
    """
    Systemd writes the NUL of an abstract address as @.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ears:
        ears.bind(f"\0popfetchd-{os.getpid()}")
        Systemd({"NOTIFY_SOCKET": f"@popfetchd-{os.getpid()}"}).tell("READY=1", "A=b")
        ears.settimeout(PATIENCE)
        assert b"READY=1\nA=b" == ears.recv(100)


def test_a_socket_that_has_gone_is_no_failure(tmp_path):
    """
    Systemd notices by itself when we are silent.
    """
    Systemd({"NOTIFY_SOCKET": str(tmp_path / "gone")}).tell("READY=1")


def test_the_watchdog_wants_a_third_of_its_time():
    """
    One sign of life may be lost, and a second one late.
    """
    assert 10.0 == Systemd({"WATCHDOG_USEC": "30000000"}).watchdog_interval
