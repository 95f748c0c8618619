"""
The service as systemd, an operator and a scrape see it.

Rules of this file:

- Whatever needs a signal runs in a process of its own; waits end with what they wait for.
- What no process can be made to do (a ledger that fails in the midst of it) is done to a
  `Service` or to `Visits` in this one.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import threading
import time
import urllib.error
import urllib.request

from contextlib import contextmanager
from pathlib import Path

import pytest

from popfetchd import daemon
from popfetchd.daemon import Service, Systemd, Visits, Wish
from popfetchd.errors import AccountLocked, LedgerError
from popfetchd.ledger import Ledger
from popfetchd.maildrop.certificate import certify
from popfetchd.metrics import Metrics
from popfetchd.poll import poll
from popfetchd.report import Reporter
from popfetchd.values import AccountName, AccountState, Outcome
from tests.desk import CANARY, PATIENCE, desk, letter, restored, until
from tests.test_cli_fetch import Gate, letters
from tests.world import world


ALICE = AccountName("alice")

OFTEN = {"every": "1s", "jitter": "0s"}
"""The shortest schedule that a configuration may have."""


@pytest.fixture
def here(tmp_path, capsys):
    with desk(tmp_path, capsys) as made:
        yield made


class Running:
    """
    A service in a process of its own, with the ears of systemd.
    """

    def __init__(self, here, **environ):
        self.here = here
        self.log = here.directory / "log"
        self._seen = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(here.directory / "notify"))
        self._socket.settimeout(PATIENCE)
        with self.log.open("w") as log:
            self.process = here.spawn(
                "run",
                environ={"NOTIFY_SOCKET": str(here.directory / "notify")} | environ,
                stderr=log,
            )

    def close(self):
        self._socket.close()
        (self.here.directory / "notify").unlink()

    def heard(self, line):
        """
        Wait until systemd is told *line*, and return what was said with it.
        """
        while True:
            said = self._socket.recv(4096).decode().split("\n")
            self._seen.append(said)
            if line in said:
                return said

    def events(self, name=None):
        """
        Return the log events so far, those called *name* if one is named.
        """
        lines = self.log.read_text().split("\n")[:-1]
        events = [json.loads(line) for line in lines]
        return [event for event in events if name in {None, event["event"]}]

    def logged(self, name, count=1):
        """
        Wait for the *count*-th log event called *name*, and return it.
        """
        return until(lambda: self.events(name)[count - 1 :])[0]

    @property
    def url(self):
        return self.logged("started")["http"]

    def page(self, path=""):
        with urllib.request.urlopen(f"{self.url}{path}", timeout=PATIENCE) as page:
            return page.read().decode()

    def metric(self, name):
        """
        Return a series' value, None if there is no such series.
        """
        return value(self.page("metrics"), name)

    def reload(self):
        """
        Send SIGHUP, and wait until it is done.
        """
        self.process.send_signal(signal.SIGHUP)
        reloading = self.heard("RELOADING=1")
        assert re.fullmatch(r"MONOTONIC_USEC=\d+", reloading[1])
        return self.heard("READY=1")

    def stop(self, number=signal.SIGTERM):
        """
        Send a signal; return the exit code, and the seconds until it came.
        """
        began = time.monotonic()
        self.process.send_signal(number)
        code = self.process.wait(PATIENCE)
        return code, time.monotonic() - began


def value(page, name):
    """
    Return the value of the series *name* in a page of metrics, None if it has none.
    """
    found = re.search(rf"^{re.escape(name)} (\S+)$", page, re.MULTILINE)
    return None if found is None else float(found[1])


@contextmanager
def running(here, **environ):
    service = Running(here, **environ)
    try:
        yield service
    finally:
        service.close()


# -- life -----------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_ready_visits_and_stops(here, number):
    """
    READY, a first visit at once, STOPPING on the signal, exit 0 in less than 2 s.
    """
    here.write(here.account("alice", *letters(3)))
    with running(here) as service:
        assert ["READY=1", "STATUS=1 accounts"] == service.heard("READY=1")
        assert "ready\n" == service.page("readyz")
        ended = service.logged("visit ended")
        code, seconds = service.stop(number)
        service.heard("STOPPING=1")
        assert ("alice", 3) == (ended["account"], ended["archived"])
        assert ["stopping", "stopped"] == [e["event"] for e in service.events()[-2:]]
    assert 0 == code
    assert seconds < 2
    assert 3 == here.archived("alice")


def test_visits_come_on_schedule(here):
    """
    What arrives later is archived by a later visit, and told in metrics and status.
    """
    here.write(here.account("alice", *letters(1), **OFTEN))
    with running(here) as service:
        service.logged("visit ended")
        here.account("alice", letter(b"later"))
        service.logged("visit ended", 2)
        page = service.page("metrics")
        assert value(page, 'popfetchd_polls_total{outcome="success"}') >= 2
        assert 2 == value(page, "popfetchd_messages_archived_total")
        assert 1 == value(
            page, 'popfetchd_account_poll_interval_seconds{account="alice"}'
        )
        assert 1 == value(page, "popfetchd_config_last_reload_successful")
        assert "<td>alice" in service.page()
        assert 0 == service.stop()[0]
    assert 2 == here.archived("alice")
    _, out, _ = here.type("status")
    assert re.search(r"alice +ok +20.* 2 +0 +0", out)


def test_the_watchdog_is_fed(here):
    """
    Three signs of life in the time that systemd waits.
    """
    here.write(here.account("alice"))
    with running(here, WATCHDOG_USEC="300000") as service:
        service.heard("READY=1")
        for _ in range(3):
            assert ["WATCHDOG=1"] == service.heard("WATCHDOG=1")
        assert 0 == service.stop()[0]


def test_a_second_signal_ends_at_once(here):
    """
    A server that hangs holds up a stop for the grace only, and nobody who insists.
    """
    here.write(here.account("alice", *letters(5), delete_after="verified"))
    gate = Gate(here.servers["alice"], at=3)
    with running(here) as service:
        assert gate.reached.wait(PATIENCE)
        service.process.send_signal(signal.SIGTERM)
        service.heard("STOPPING=1")
        code, seconds = service.stop()
    gate.open.set()
    assert 128 + signal.SIGTERM == code
    assert seconds < 2
    assert 5 == here.waiting("alice")
    assert 0 == here.type("fetch")[0]
    assert (5, 0) == (here.archived("alice"), here.waiting("alice"))


def test_a_visit_under_way_ends_with_what_it_has(here):
    """
    A stop lets the message under way be archived, and the next start goes on from there.
    """
    here.write(here.account("alice", *letters(5), delete_after="verified"))
    gate = Gate(here.servers["alice"], at=3)
    with running(here) as service:
        assert gate.reached.wait(PATIENCE)
        service.process.send_signal(signal.SIGTERM)
        service.heard("STOPPING=1")
        gate.open.set()
        assert 0 == service.process.wait(PATIENCE)
        (failed,) = service.events("visit failed")
        assert ("info", "interrupted") == (failed["level"], failed["reason"])
    assert (3, 2) == (here.archived("alice"), here.waiting("alice"))
    with running(here) as service:
        until(lambda: here.waiting("alice") == 0)
        assert 0 == service.stop()[0]
    assert 5 == here.archived("alice")


def test_a_port_that_is_taken_is_78(here):
    """
    One line, with the file and the key, and a hint; no half of a service stays.
    """
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        here.write(here.account("alice", letter(b"one")), http={"listen": listen})
        code, out, err = here.type("run")
    assert (78, "") == (code, out)
    assert err == (
        f"{here.path}: http.listen: {listen}: Address already in use\n"
        "  hint: correct the file; `popfetchd config check` tells whether it is right\n"
    )
    assert 0 == here.archived("alice")


def test_healthcheck_agrees(here):
    """
    0 while the service runs, 1 when it has gone.
    """
    here.write(here.account("alice"))
    with running(here) as service:
        url = f"{service.url}healthz"
        assert (0, "ok\n", "") == here.type("healthcheck", "--url", url)
        service.stop()
        assert 1 == here.type("healthcheck", "--url", url)[0]


# -- reload ---------------------------------------------------------------------------


def test_a_reload_takes_a_new_account_and_lets_an_old_one_go(here):
    """
    SIGHUP: the new one is visited; the series of the one that went are gone.
    """
    here.write(here.account("alice", letter(b"one")))
    with running(here) as service:
        service.logged("visit ended")
        here.write(here.account("bob", letter(b"two")))
        assert ["READY=1", "STATUS=1 accounts"] == service.reload()
        assert "bob" == service.logged("visit ended", 2)["account"]
        page = service.page("metrics")
        assert 'account="bob"' in page
        assert "alice" not in page
        assert 0 == service.stop()[0]


def test_a_broken_configuration_changes_nothing(here):
    """
    The old one stays, the metric says 0, the log every mistake; mended, it is taken.
    """
    alice = here.account("alice", **OFTEN)
    here.write(alice)
    with running(here) as service:
        service.heard("READY=1")
        here.write(here.account("bob", every="soon"))
        assert ["READY=1", "STATUS=1 accounts"] == service.reload()
        assert 0 == service.metric("popfetchd_config_last_reload_successful")
        refused = service.logged("configuration refused, the old one stays")
        assert "error" == refused["level"]
        assert re.fullmatch(
            rf"{here.path}:\d+:\d+: account 'bob': every: .*", *refused["mistakes"]
        )
        here.account("alice", letter(b"one"))
        assert "alice" == service.logged("visit ended")["account"]

        here.write(alice, here.account("bob"))
        assert ["READY=1", "STATUS=2 accounts"] == service.reload()
        assert 1 == service.metric("popfetchd_config_last_reload_successful")
        assert 0 == service.stop()[0]


def test_what_needs_a_restart_is_refused_in_plain_words(here):
    """
    Another ledger or address is not taken silently, nor the rest of that file.
    """
    alice = here.account("alice")
    here.write(alice)
    with running(here) as service:
        service.heard("READY=1")
        here.write(
            alice,
            here.account("bob"),
            ledger=f"{here.directory}/other.db",
            http={"listen": "127.0.0.1:1"},
        )
        assert ["READY=1", "STATUS=1 accounts"] == service.reload()
        refused = service.logged("configuration refused, the old one stays")
        assert [
            f"{here.path}: ledger: a change needs a restart",
            f"{here.path}: http: a change needs a restart",
        ] == refused["mistakes"]
        assert 0 == service.metric("popfetchd_config_last_reload_successful")
        assert not (here.directory / "other.db").exists()
        assert 0 == service.stop()[0]


def test_a_reload_does_not_disturb_a_visit(here):
    """
    A visit under way ends as it began, though its account has gone meanwhile.
    """
    here.write(here.account("alice", *letters(5)))
    gate = Gate(here.servers["alice"], at=3)
    with running(here) as service:
        assert gate.reached.wait(PATIENCE)
        here.write(here.account("bob"))
        service.reload()
        gate.open.set()
        ended = service.logged("visit ended")
        assert ("alice", 5) == (ended["account"], ended["archived"])
        assert "alice" not in service.page("metrics")
        assert 0 == service.stop()[0]


def test_a_reload_reads_a_renewed_authority(here):
    """
    What stands in `ca_file` is read again, and what failed for it succeeds.
    """
    (here.directory / "old").mkdir()
    ca_file = here.directory / "old" / "ca.pem"
    certify(ca_file.parent)
    here.write(here.account("alice", letter(b"a"), ca_file=str(ca_file), **OFTEN))
    with running(here) as service:
        assert "certificate" == service.logged("visit failed")["reason"]
        ca_file.write_bytes(here.certificate.ca_file.read_bytes())
        service.reload()
        assert 1 == service.logged("visit ended")["archived"]
        assert 0 == service.stop()[0]


def test_a_bad_further_file_holds_back_its_own_accounts(here):
    """
    At the start they are missing; once they were taken, they stay as they were.
    """
    bob = here.account("bob", letter(b"b"), ca_file=None)
    more = f"- {json.dumps(bob | {'ca_file': str(here.certificate.ca_file)})}\n"
    here.write(here.account("alice", letter(b"a")), include=["more.yaml"])
    here.private("more.yaml", "- name: bob\n  hots: y\n")
    with running(here) as service:
        assert ["READY=1", "STATUS=1 accounts"] == service.heard("READY=1")
        held = service.logged("accounts are held back")
        assert "error" == held["level"]
        assert held["mistake"].startswith(f"{here.directory}/more.yaml:1:3: ")
        assert "alice" == service.logged("visit ended")["account"]

        here.private("more.yaml", more)
        assert ["READY=1", "STATUS=2 accounts"] == service.reload()
        assert "bob" == service.logged("visit ended", 2)["account"]

        here.private("more.yaml", "nonsense")
        assert ["READY=1", "STATUS=2 accounts"] == service.reload()
        assert 'account="bob"' in service.page("metrics")
        assert 0 == service.stop()[0]


# -- others ---------------------------------------------------------------------------


def test_a_server_that_hangs_holds_up_nobody_else(here):
    """
    One account's server says nothing; the other is visited on time (P3).
    """
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        here.write(
            here.account("alice", port=port, **OFTEN),
            here.account("bob", **OFTEN),
            limits={"sessions": 2, "sessions_per_host": 2},
        )
        with running(here) as service:
            success = 'popfetchd_polls_total{outcome="success"}'
            until(lambda: service.metric(success) >= 3)
            page = service.page("metrics")
            assert 1 == value(page, "popfetchd_sessions_active")
            assert value(page, 'popfetchd_polls_skipped_total{reason="overrun"}') >= 1
            assert 0 == value(page, 'popfetchd_polls_total{outcome="failure"}')
            late = value(page, 'popfetchd_schedule_delay_seconds_bucket{le="0.5"}')
            assert late == value(page, "popfetchd_schedule_delay_seconds_count")
            (skipped,) = service.events("visit skipped")[:1]
            assert ("alice", "overrun") == (skipped["account"], skipped["reason"])


def test_a_failing_account_is_left_alone_and_the_other_is_not(here):
    """
    Refused credentials back off hard, also over a restart: providers lock accounts.
    """
    wrong = str(here.private("wrong.pass", f"{CANARY}-wrong"))
    here.write(
        here.account("alice", password_file=wrong, **OFTEN),
        here.account("bob", **OFTEN),
    )
    success = 'popfetchd_polls_total{outcome="success"}'
    failing = 'popfetchd_account_failing{account="alice",reason="auth"}'
    with running(here) as service:
        service.logged("visit failed")
        until(lambda: service.metric(success) >= 3)
        page = service.page("metrics")
        assert 1 == value(page, 'popfetchd_poll_failures_total{reason="auth"}')
        assert 1 == value(page, failing)
        planned = value(
            page, 'popfetchd_account_next_poll_timestamp_seconds{account="alice"}'
        )
        assert planned > time.time() + 600
        assert 0 == service.stop()[0]
    wire = here.servers["alice"].wire
    with running(here) as service:
        until(lambda: service.metric(success) >= 2)
        assert 1 == service.metric(failing)
        assert 0 == service.stop()[0]
    assert wire == here.servers["alice"].wire


def test_a_fetch_beside_the_service_waits_for_its_visit(here):
    """
    Two processes, one account: no visit fails, nothing is archived twice.
    """
    here.write(here.account("alice", *letters(5)))
    gate = Gate(here.servers["alice"], at=3)
    with running(here) as service:
        assert gate.reached.wait(PATIENCE)
        fetch = here.spawn("fetch", "--json")
        threading.Timer(0.5, gate.open.set).start()
        out, _ = fetch.communicate(timeout=PATIENCE)
        (report,) = json.loads(out)
        assert (0, "success", 0) == (
            fetch.returncode,
            report["outcome"],
            report["archived"],
        )
        assert 5 == service.logged("visit ended")["archived"]
        assert 0 == service.stop()[0]
    assert 5 == here.archived("alice")


@pytest.mark.parametrize("format_", ["json", "console"])
def test_no_secret_is_in_what_is_told(here, format_):
    """
    At level debug, whatever fails: no log line, page, metric, or process list has it.
    """
    wrong = str(here.private("wrong.pass", f"{CANARY}-wrong"))
    here.write(
        here.account("alice", letter(b"one"), **OFTEN),
        here.account("bob", password=f"{CANARY}-bob", password_file=None, **OFTEN),
        here.account("eve", password_file=wrong),
        here.account("ian", tls="none", ca_file=None, timeout="1s"),
        log={"level": "debug", "format": format_},
    )
    with running(here) as service:
        until(lambda: service.log.read_text().count("visit failed") >= 2)
        until(lambda: service.log.read_text().count("visit ended") >= 4)
        url = re.search(r"http://127[^\s'\"]+/", service.log.read_text())[0]
        pages = [
            urllib.request.urlopen(f"{url}{path}", timeout=PATIENCE).read()
            for path in ("metrics", "", "?format=json")
        ]
        pages.append(Path(f"/proc/{service.process.pid}/cmdline").read_bytes())
        assert 0 == service.stop()[0]
    assert CANARY not in service.log.read_text()
    assert CANARY.encode() not in b"".join(pages)


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

    monkeypatch.setattr(daemon, "poll", busy)
    with visits(tmp_path) as (there, made, _):
        report = made.make(there.account, stop=stop, patience=patience)
    assert tries == len(waits)
    assert (tries == 3) == (report.failure is None)
    assert all(0.0 <= wait <= daemon.LOOK_UP for wait in waits)


def test_a_ledger_that_fails_is_told_and_hides_nothing(tmp_path, monkeypatch):
    """
    What cannot be remembered is still told; what was known of the account still shows.
    """
    with visits(tmp_path) as (there, made, told):
        known = AccountState(last_poll=1.0, last_success=1.0, archived=7)
        made.metrics.set_accounts({ALICE: daemon.Watched(known, 300.0)})
        monkeypatch.setattr(Ledger, "state", failing)
        for _ in range(2):
            report = made.make(there.account, stop=threading.Event())
        shown = made.metrics.states()[ALICE]
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
