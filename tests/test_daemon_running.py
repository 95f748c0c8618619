"""
The service in a process of its own, as systemd, an operator and a scrape see it.

Rules of this file:

- A wait ends with what it waits for: a line to systemd, a log event, a page.
- The machine may be busy: how long a stop took is read from the service's own log.
"""

from __future__ import annotations

import json
import re
import signal
import socket
import ssl
import threading
import time
import urllib.parse
import urllib.request

from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import trustme

from popfetchd.maildrop.certificate import certify
from tests.desk import CANARY, PATIENCE, desk, letter, until, value
from tests.test_cli_fetch import Gate, letters


pytestmark = pytest.mark.slow

OFTEN = {"every": "1s", "jitter": "0s"}
"""The shortest schedule that a configuration may have."""

REFUSED = ["READY=1", "STATUS=1 account; configuration refused, the old one stays"]
"""What systemd is told at the end of a reload that changed nothing."""


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
        Send a signal; return the exit code.
        """
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


def moment(event):
    """
    Return when a log event was written.
    """
    return datetime.fromisoformat(event["timestamp"])


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
    READY, a first visit at once, STOPPING on the signal, the end in less than 2 s, 0.
    """
    here.write(here.account("alice", *letters(3)))
    with running(here) as service:
        assert ["READY=1", "STATUS=1 account"] == service.heard("READY=1")
        assert "ready\n" == service.page("readyz")
        ended = service.logged("visit ended")
        code = service.stop(number)
        service.heard("STOPPING=1")
        stopping, stopped = service.events()[-2:]
        assert ("alice", 3) == (ended["account"], ended["archived"])
        assert ("stopping", "stopped") == (stopping["event"], stopped["event"])
        assert moment(stopped) - moment(stopping) < timedelta(seconds=2)
    assert 0 == code
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
        assert ">alice<td" in service.page()
        assert 0 == service.stop()
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
            assert ["WATCHDOG=1", "STATUS=1 account"] == service.heard("WATCHDOG=1")
        assert 0 == service.stop()


def test_systemd_is_told_how_many_accounts_fail(here):
    """
    `systemctl status` shows it, as soon as there is a sign of life.
    """
    here.write(
        here.account("alice", password_file=str(here.directory / "none"), **OFTEN)
    )
    with running(here, WATCHDOG_USEC="300000") as service:
        service.logged("visit failed")
        service.heard("STATUS=1 account; 1 of them failing")
        assert 0 == service.stop()


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
        code = service.stop()
        assert [] == service.events("stopped")  # it did not wait for the visit
    gate.open.set()
    assert 128 + signal.SIGTERM == code
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
        assert 0 == service.stop()
    assert 5 == here.archived("alice")


def test_a_port_that_is_taken_is_69(here):
    """
    One line and a hint; no half of a service stays. systemd may try again.
    """
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        here.write(here.account("alice", letter(b"one")), http={"listen": listen})
        code, out, err = here.type("run")
    assert (69, "") == (code, out)
    assert err == (
        f"popfetchd: http.listen: {listen}: Address already in use\n"
        "  hint: another program, or another popfetchd, listens there: "
        "end it, or write another port\n"
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
        assert ["READY=1", "STATUS=1 account"] == service.reload()
        assert "bob" == service.logged("visit ended", 2)["account"]
        page = service.page("metrics")
        assert 'account="bob"' in page
        assert "alice" not in page
        assert 0 == service.stop()


def test_a_broken_configuration_changes_nothing(here):
    """
    The old one stays, the metric says 0, the log every mistake; mended, it is taken.
    """
    alice = here.account("alice", **OFTEN)
    here.write(alice)
    with running(here) as service:
        service.heard("READY=1")
        here.write(here.account("bob", every="soon"))
        assert REFUSED == service.reload()
        assert 0 == service.metric("popfetchd_config_last_reload_successful")
        refused = service.logged("configuration refused, the old one stays")
        assert "error" == refused["level"]
        assert re.fullmatch(
            rf"{here.path}:\d+:\d+: account 'bob': every: .*", *refused["mistakes"]
        )
        shown = json.loads(service.page("?format=json"))["refusal"]
        assert refused["mistakes"] == shown["mistakes"]
        assert "configuration refused, the old one stays" in service.page()
        here.account("alice", letter(b"one"))
        assert "alice" == service.logged("visit ended")["account"]

        here.write(alice, here.account("bob"))
        assert ["READY=1", "STATUS=2 accounts"] == service.reload()
        assert 1 == service.metric("popfetchd_config_last_reload_successful")
        assert None is json.loads(service.page("?format=json"))["refusal"]
        assert 0 == service.stop()


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
        assert REFUSED == service.reload()
        refused = service.logged("configuration refused, the old one stays")
        assert [
            f"{here.path}: ledger: a change needs a restart",
            f"{here.path}: http: listen: a change needs a restart",
        ] == refused["mistakes"]
        assert 0 == service.metric("popfetchd_config_last_reload_successful")
        assert not (here.directory / "other.db").exists()
        assert 0 == service.stop()


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
        assert 0 == service.stop()


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
        assert 0 == service.stop()


def test_a_reload_takes_a_renewed_certificate_of_the_pages(here):
    """
    Who comes next is shown the new one; one that is no good is refused, and changes
    nothing.
    """
    cert, key = here.directory / "page.pem", here.directory / "page.key"

    def renew():
        leaf = trustme.CA().issue_cert("127.0.0.1")
        leaf.cert_chain_pems[0].write_to_path(cert)
        here.private(key.name, leaf.private_key_pem.bytes().decode())

    def seen():
        address = urllib.parse.urlsplit(service.url)
        return ssl.get_server_certificate((address.hostname, address.port), timeout=5)

    renew()
    tls = {"cert_file": str(cert), "key_file": str(key)}
    here.write(here.account("alice"), http={"listen": "127.0.0.1:0", "tls": tls})
    with running(here) as service:
        service.heard("READY=1")
        assert service.url.startswith("https://")
        first = seen()
        renew()
        service.reload()
        second = seen()
        assert first != second
        cert.write_text("nonsense")
        service.reload()
        refused = service.logged("configuration refused, the old one stays")
        assert re.match(
            rf"{cert}: cannot be used as http: tls: cert_file: ", *refused["mistakes"]
        )
        assert second == seen()
        assert 0 == service.stop()


def test_a_bad_further_file_holds_back_its_own_accounts(here):
    """
    At the start they are missing; once they were taken, they stay as they were.
    """
    bob = here.account("bob", letter(b"b"), ca_file=None)
    more = f"- {json.dumps(bob | {'ca_file': str(here.certificate.ca_file)})}\n"
    here.write(here.account("alice", letter(b"a")), include=["more.yaml"])
    here.private("more.yaml", "- name: bob\n  hots: y\n")
    with running(here) as service:
        assert ["READY=1", "STATUS=1 account; accounts are held back"] == service.heard(
            "READY=1"
        )
        held = service.logged("accounts are held back")
        assert "error" == held["level"]
        assert held["mistake"].startswith(f"{here.directory}/more.yaml:1:3: ")
        assert "accounts are held back" in service.page()
        assert "alice" == service.logged("visit ended")["account"]

        here.private("more.yaml", more)
        assert ["READY=1", "STATUS=2 accounts"] == service.reload()
        assert "bob" == service.logged("visit ended", 2)["account"]

        here.private("more.yaml", "nonsense")
        assert [
            "READY=1",
            "STATUS=2 accounts; accounts are held back",
        ] == service.reload()
        assert 'account="bob"' in service.page("metrics")
        assert 0 == service.stop()


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
            late = value(page, 'popfetchd_schedule_delay_seconds_bucket{le="5.0"}')
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
        assert 0 == service.stop()
    wire = here.servers["alice"].wire
    with running(here) as service:
        until(lambda: service.metric(success) >= 2)
        assert 1 == service.metric(failing)
        assert 0 == service.stop()
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
        assert 0 == service.stop()
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
        assert 0 == service.stop()
    assert CANARY not in service.log.read_text()
    assert CANARY.encode() not in b"".join(pages)
