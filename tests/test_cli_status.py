"""
`popfetchd status`: from the running service, or from the ledger, and which of the two.
"""

from __future__ import annotations

import json
import re
import signal

from contextlib import contextmanager
from dataclasses import asdict

import bcrypt
import pytest
import trustme

from popfetchd import __version__
from popfetchd.cli import standing, watching
from popfetchd.cli.standing import NotTold, Seen, Source, asked
from popfetchd.cli.tables import cells
from popfetchd.config.model import Http
from popfetchd.ledger import Ledger
from popfetchd.values import NEVER, AccountName, AccountState
from popfetchd.web import Access, Guard, Server, Site, tls_context
from tests.desk import desk, letter
from tests.test_cli_healthcheck import service
from tests.test_daemon_running import running
from tests.typist import Typist


WELL = AccountState(last_poll=1.7e9, last_success=1.7e9, next_poll=NEVER, archived=7)
ILL = AccountState(1.7e9, 0.0, 4e9, 3, reason="auth", error="refused", hint="check it")

HASHED = bcrypt.hashpw(b"tiger", bcrypt.gensalt(4)).decode()


@pytest.fixture
def here(tmp_path, capsys):
    with desk(tmp_path, capsys) as made:
        yield made


@contextmanager
def serving(here, states, access=None, **http):
    """
    Let a service tell *states*; it listens where the configuration says.
    """
    site = Site(lambda: b"", lambda: True, lambda: True, lambda: states)
    server = Server("127.0.0.1", 0, site, access or Access())
    server.start()
    try:
        accounts = (here.account(name) for name in ("alice", "bob"))
        listen = f"127.0.0.1:{server.port}"
        here.write(*accounts, http={"listen": listen} | http)
        yield listen
    finally:
        server.stop()


def remember(here, **accounts):
    with Ledger(here.directory / "state" / "ledger.db", now=lambda: 0.0) as ledger:
        for name, state in accounts.items():
            ledger.save_state(AccountName(name), state)


def rows(here, *words):
    """
    Return what `status --json` tells by account, and its line on stderr.
    """
    code, out, err = here.type("status", "--json", *words)
    assert 0 == code
    return {row["account"]: row for row in json.loads(out)}, err


# -- which of the two -----------------------------------------------------------------


def test_the_service_tells_while_it_runs(here):
    """
    What it has at hand is shown, in the configuration's order, and a line says so.
    """
    with serving(here, {"bob": ILL, "alice": WELL, "else": WELL}) as listen:
        code, out, err = here.type("status")
        shown, _ = rows(here)
    assert (0, f"popfetchd: from the service at http://{listen}\n") == (code, err)
    assert ["ACCOUNT", "alice", "bob"] == [line.split()[0] for line in out.splitlines()]
    assert re.search(r"^alice +ok .* not planned +7 ", out, re.MULTILINE)
    assert "auth: refused (hint: check it)" in out
    assert {"service"} == {row["source"] for row in shown.values()}


def test_the_ledger_tells_otherwise_and_why(here):
    """
    What it remembers is shown, and a line says so.
    """
    with serving(here, {}) as listen:
        pass
    remember(here, bob=ILL)
    shown, err = rows(here)
    why = "[Errno 111] Connection refused"
    assert f"popfetchd: from the ledger (http://{listen}: {why})\n" == err
    assert ("ledger", 3) == (
        shown["bob"]["source"],
        shown["bob"]["consecutive_failures"],
    )


def test_both_tell_the_same(here):
    """
    Each field, also of what was never visited, and of messages that failed.
    """
    states = {"alice": AccountState(), "bob": ILL}
    with serving(here, states):
        remember(here, bob=ILL)
        told, _ = rows(here)
    remembered, _ = rows(here)
    for row in (*told.values(), *remembered.values()):
        del row["source"]
    assert remembered == told


def test_messages_that_failed_are_not_known_without_the_ledger(here):
    """
    What the service tells is shown all the same.
    """
    with serving(here, {"alice": WELL, "bob": ILL}):
        path = here.directory / "state" / "ledger.db"
        path.parent.mkdir()
        path.write_bytes(b"nonsense" * 1000)
        shown, err = rows(here)
        code, out, _ = here.type("status")
    assert [None, None] == [row["failed_messages"] for row in shown.values()]
    assert str(path) in err
    assert (0, True) == (code, "auth: refused" in out)
    assert 73 == here.type("status")[0]


def test_only_those_that_fail_or_are_named(here):
    """
    `--failing` and names choose, in the table and in JSON.
    """
    with serving(here, {"alice": WELL, "bob": ILL}):
        assert {"bob"} == rows(here, "--failing")[0].keys()
        assert {"alice"} == rows(here, "alice")[0].keys()
        assert {} == rows(here, "alice", "--failing")[0]
        assert 64 == here.type("status", "eve")[0]


# -- a service that does not tell -----------------------------------------------------


def test_where_a_password_is_wanted_the_ledger_tells(here):
    """
    The pages' password is known as a hash only.
    """
    states, users = {"alice": WELL, "bob": WELL}, {"prom": HASHED}
    with serving(here, states, Access(guard=Guard(users)), basic_auth_users=users):
        shown, err = rows(here)
    assert "ledger" == shown["alice"]["source"]
    assert "it wants a password (http: basic_auth_users)" in err


def certificate(here, name):
    leaf = trustme.CA().issue_cert("pages.example.net")
    path = here.directory / f"{name}.pem"
    path.write_bytes(leaf.private_key_and_cert_chain_pem.bytes())
    path.chmod(0o600)
    return path


@pytest.mark.parametrize(("configured", "source"), [("a", "service"), ("b", "ledger")])
def test_over_tls_it_shows_the_certificate_of_the_configuration(
    here, configured, source
):
    """
    That one, whatever its name is and whoever signed it, and no other.
    """
    files = {name: certificate(here, name) for name in ("a", "b")}
    access = Access(context=tls_context(files["a"], None))
    tls = {"cert_file": str(files[configured])}
    with serving(here, {"alice": WELL, "bob": WELL}, access, tls=tls) as listen:
        shown, err = rows(here)
    assert source == shown["alice"]["source"]
    assert f"https://{listen}" in err
    assert (source == "ledger") == ("CERTIFICATE_VERIFY_FAILED" in err)


def test_an_account_that_it_does_not_know(here):
    """
    It is another configuration's service, or has not read ours again.
    """
    with serving(here, {"alice": WELL}):
        shown, err = rows(here)
    assert {"ledger"} == {row["source"] for row in shown.values()}
    assert "it knows no account bob: reload it, if it is ours" in err


def told(octets, status=200):
    """
    Return what is taken of an answer of these *octets*, by account.
    """
    with service(status, octets) as (port, _):
        here = f"127.0.0.1:{port}"
        return asked(f"http://{here}", Http(listen=here), [AccountName("alice")])


def page(**changed):
    account = {**asdict(WELL), "next_poll": 0, **changed}
    return json.dumps({"version": __version__, "accounts": {"alice": account}}).encode()


def test_an_answer_is_taken_as_it_is_written():
    """
    What is added by a later hand does not matter.
    """
    assert {"alice": AccountState(1.7e9, 1.7e9, archived=7)} == told(page(more=1))


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"version": "%s", "accounts": ["alice"]}' % __version__.encode(),
        b'{"version": "%s", "accounts": {"alice": 1}}' % __version__.encode(),
        b"[" * 100_000,
        page(last_poll=float("nan")),
        page(last_poll=float("inf")),
        page(next_poll=-1.0),
        page(archived=10**400),
        page(archived=True),
        page(last_poll=10**400),
        page(reason=None),
    ],
)
def test_what_is_not_written_by_us_is_not_taken(octets):
    """
    Whoever listens there may be anybody: nothing of it is shown, and nothing breaks.
    """
    with pytest.raises(NotTold, match="what answers there is no popfetchd"):
        told(octets)


def test_another_version_is_not_taken():
    """
    Its fields may mean something else.
    """
    with pytest.raises(NotTold, match=r"it is of version 0\.0, this is .*: restart it"):
        told(b'{"version": "0.0", "accounts": {}}')


def test_an_answer_without_end_is_not_taken(monkeypatch):
    """
    No more of it is kept than a service would say.
    """
    monkeypatch.setattr(standing, "LONGEST_ANSWER", 100)
    with pytest.raises(NotTold, match="no popfetchd"):
        told(page())


@pytest.mark.parametrize(
    ("status", "why"),
    [(403, "it refuses the question"), (599, "it answers 599")],
)
def test_another_answer_is_none(status, why):
    """
    It is told by its number.
    """
    with pytest.raises(NotTold, match=why):
        told(b"no", status)


def test_what_it_says_does_not_write_to_the_terminal(here):
    """
    Neither from the line that says why, nor from the table.
    """
    with serving(here, {"alice": WELL, "bob": AccountState(1.0, reason="\x1b[2J")}):
        _, out, err = here.type("status")
    assert "\x1b" not in out + err
    with service(200, b'{"version": "\\u001b[2J", "accounts": {}}') as (port, _):
        here.write(here.account("alice"), http={"listen": f"127.0.0.1:{port}"})
        err = here.type("status")[2]
    assert (False, True) == ("\x1b" in err, r"\x1b[2J" in err)


# -- the service itself ---------------------------------------------------------------


@pytest.mark.slow
def test_a_service_in_a_process_of_its_own(here):
    """
    It tells what it did; once it has ended, the ledger tells the same.
    """
    with service() as (port, _):
        pass  # a port that is free now
    here.write(
        here.account("alice", letter(b"one")), http={"listen": f"127.0.0.1:{port}"}
    )
    with running(here) as real:
        real.logged("visit ended")
        up, _ = rows(here)
        assert 0 == real.stop()
    down, _ = rows(here)
    assert ("service", "ledger") == (
        up["alice"].pop("source"),
        down["alice"].pop("source"),
    )
    assert (1, down) == (up["alice"]["archived"], up)


# -- again and again ------------------------------------------------------------------


def many(count, **states):
    names = {f"a{number:02}": AccountState() for number in range(count)}
    return Seen(Source.SERVICE, "from the service", {**names, **states})


def test_what_fails_stands_first_and_the_rest_is_counted():
    """
    Each line fits the width, all of them the height.
    """
    shown = watching.frame(many(30, z=ILL), 1.8e9, 50, 10)
    assert 10 == len(shown)
    assert all(cells(line) <= 50 for line in shown)
    assert shown[2].startswith("z                 failing (3)")
    assert shown[3].startswith("  auth: refused (hint: check it)")
    assert shown[4].startswith("a00")
    assert "… 25 more" == shown[-1]


def test_what_fits_is_not_counted():
    """
    The last line is an account's where there is room for all.
    """
    shown = watching.frame(many(3), 1.8e9, 80, 5)
    assert ["a00", "a01", "a02"] == [line.split()[0] for line in shown[2:]]


@pytest.mark.parametrize("height", range(8))
def test_no_terminal_is_too_small(height):
    """
    It shows what it can.
    """
    shown = watching.frame(many(9, z=ILL), 1.8e9, 5, height)
    assert len(shown) <= height
    assert all(cells(line) <= 5 for line in shown)


def watcher(here, **environ):
    return Typist(
        lambda **popen: here.spawn(
            "status", "--watch=0.05", environ={"TERM": "xterm"} | environ, **popen
        )
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("plain", ["", "1"])
def test_it_is_drawn_anew_until_it_is_stopped(here, number, plain):
    """
    What changes is seen; then the terminal is as it was, and the code is 130.
    """
    states = {"alice": WELL, "bob": WELL}
    with serving(here, states):
        person = watcher(here, NO_COLOR=plain)
        while "alice" not in person.seen:
            assert person.read()
        states["bob"] = ILL
        while "check it" not in person.seen:
            assert person.read()
        person.process.send_signal(number)
        assert 130 == person.end()
    assert person.seen.startswith(watching.ENTER)
    assert person.seen.endswith(watching.LEAVE)
    assert bool(plain) == ("\x1b[31m" not in person.seen)


def test_where_nothing_can_be_drawn_over_it_is_refused(here):
    """
    No terminal, one that cannot, or a program that reads.
    """
    here.write(here.account("alice"))
    for words in (["--watch"], ["--watch=1", "--json"]):
        code, out, err = here.type("status", *words)
        assert (64, "") == (code, out)
        assert err.startswith("popfetchd: status --watch needs a terminal, no --json\n")
    assert 64 == watcher(here, TERM="dumb").end()


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "alice", "3601"])
def test_a_pause_that_is_none(here, seconds):
    """
    It is wrong usage.
    """
    code, _, err = here.type("status", f"--watch={seconds}")
    assert (64, True) == (code, "is no number of seconds" in err)


@pytest.mark.parametrize(
    ("environ", "escapes"),
    [
        ({"NO_COLOR": "", "TERM": "xterm"}, True),
        ({"NO_COLOR": "1", "TERM": "xterm"}, False),
        ({"NO_COLOR": "", "TERM": "dumb"}, False),
    ],
)
def test_a_table_has_colours_where_they_are_wanted(here, environ, escapes):
    """
    NO_COLOR and a dumb terminal get none, nor bold letters.
    """
    here.write(here.account("alice"))
    person = Typist(lambda **popen: here.spawn("status", environ=environ, **popen))
    assert 0 == person.end()
    assert escapes == ("\x1b" in person.seen)
