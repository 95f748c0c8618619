"""
The channel from outside: what an operator writes of it, and what comes of that.
"""

from __future__ import annotations

import json
import ssl

import pytest

from popfetchd.pool import Pool
from tests.certificates import fingerprint, forge
from tests.desk import CANARY, desk, letter, until
from tests.relay import End, Flow, Relay, Trouble
from tests.socks import Socks
from tests.test_cli_fetch import events
from tests.test_daemon_running import running


TEN_DAYS = 10


@pytest.fixture
def here(tmp_path, capsys):
    with desk(tmp_path, capsys) as made:
        yield made


def shows(here, name, forged):
    """
    Let the server of account *name* show another certificate.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    forged.configure_cert(context)
    here.servers[name]._context = context


# -- certificates ---------------------------------------------------------------------


def test_a_certificate_that_ends_in_ten_days(here):
    """
    A warning in the log and a line in `status`, each with a hint; the visit succeeds.
    """
    forged = forge("localhost", days=TEN_DAYS)
    trusted = here.private("server.pem", forged.pem.decode())
    here.write(here.account("alice", letter(b"one"), ca_file=str(trusted)))
    shows(here, "alice", forged)
    code, _, err = here.type("fetch")
    (told,) = [it for it in events(err) if it["event"] == "certificate expires soon"]
    assert (0, "warning", TEN_DAYS - 1) == (code, told["level"], told["days"])
    assert (
        "tell the provider, or renew it if the server is yours; where it is pinned, "
        "write the next one's fingerprint beside it"
    ) == told["hint"]
    _, out, _ = here.type("status")
    assert f"the certificate ends in {TEN_DAYS - 1} days" in out


@pytest.mark.slow
def test_the_end_of_a_certificate_is_a_metric(here):
    """
    The service shows when it ends, and warns once.
    """
    forged = forge("localhost", days=TEN_DAYS)
    trusted = here.private("server.pem", forged.pem.decode())
    keys = {"ca_file": str(trusted), "every": "1s", "jitter": "0s"}
    here.write(here.account("alice", letter(b"one"), **keys))
    shows(here, "alice", forged)
    name = 'popfetchd_account_tls_certificate_expiry_timestamp_seconds{account="alice"}'
    with running(here) as service:
        service.heard("READY=1")
        service.logged("certificate expires soon")
        until(lambda: service.metric(name))
        assert forged.expires == service.metric(name)
        polls = 'popfetchd_polls_total{outcome="success"}'
        until(lambda: service.metric(polls) > 2)
        assert 1 == len(service.events("certificate expires soon"))


def test_hostile_words_in_a_certificate_reach_no_terminal(here):
    """
    Subject, issuer and names of a server: escaped in `check`, `fetch` and the log (T9).
    """
    forged = forge("localhost", hostile=b"\x1b[31m\r\n+OK\xff")
    trusted = here.private("server.pem", forged.pem.decode())
    here.write(here.account("alice", letter(b"one"), ca_file=str(trusted)))
    shows(here, "alice", forged)
    for words in (["check"], ["check", "--json"], ["fetch"]):
        code, out, err = here.type(*words)
        assert 0 == code, err
        assert "\x1b" not in out + err
        assert all(line.isprintable() for line in (out + err).splitlines())
    assert "[31m" in here.type("check")[1]  # it is told, and only told


def test_the_fingerprint_that_check_tells_is_a_pin(here):
    """
    What `check` shows can be written; what then differs is refused with no credential.
    """
    alice = here.account("alice", letter(b"one"))
    here.write(alice)
    (seen,) = json.loads(here.type("check", "--json")[1])
    pin = seen["channel"]["certificate"]["sha256"]
    pinned = alice | {"fingerprint_sha256": [":".join(["00"] * 32), pin.upper()]}
    del pinned["ca_file"]
    here.write(pinned)
    code, out, err = here.type("check")
    assert (0, "", True) == (code, err, "  certificate   as pinned, " in out)
    assert 0 == here.type("fetch")[0]
    before = here.servers["alice"].wire
    other = forge("localhost")
    shows(here, "alice", other)
    code, _, err = here.type("check")
    assert 69 == code
    assert f"its SHA-256 fingerprint is {fingerprint(other)}, and" in err
    spoken = here.servers["alice"].wire.removeprefix(before)
    assert CANARY.encode() not in spoken
    assert 1 == here.archived("alice")


def test_a_client_certificate_that_is_gone_fails_its_own_account(here):
    """
    One account is told of by `config check` and fails; the other is served (P3).
    """
    here.write(
        here.account("alice", letter(b"one"), client_cert="gone.pem"),
        here.account("bob", letter(b"two")),
    )
    gone = f"{here.directory}/gone.pem"
    code, _, err = here.type("config", "check")
    assert 0 == code
    assert (
        f"warning: account 'alice': client_cert: {gone} cannot be read: No such" in err
    )
    code, _, err = here.type("fetch")
    failure = events(err.partition("\n")[2])[0]
    assert (78, "configuration") == (code, failure["reason"])
    assert f"{gone}: cannot be used as client_cert: No such file" in failure["error"]
    assert (0, 1) == (here.archived("alice"), here.archived("bob"))


def test_a_server_is_told_by_its_name_behind_a_tunnel(here, monkeypatch):
    """
    Which server's sessions are counted is what `server_name` says, not the address.
    """
    hosts, submit = [], Pool.submit

    def submitted(self, name, host, visit):
        hosts.append(host)
        return submit(self, name, host, visit)

    monkeypatch.setattr(Pool, "submit", submitted)
    here.write(
        here.account("alice", letter(b"one"), host="127.0.0.1"),
        here.account("bob", letter(b"two"), host="127.0.0.1", server_name="localhost"),
    )
    assert 0 == here.type("fetch")[0]
    assert ["127.0.0.1", "localhost"] == hosts


# -- proxies --------------------------------------------------------------------------


def test_a_visit_through_a_proxy(here):
    """
    Mail comes through it, and the proxy's password stands nowhere.
    """
    with Socks(login=("carrier", f"{CANARY}-proxy")) as proxy:
        url = proxy.url(f"carrier:{CANARY}-proxy@")
        alice = here.account("alice", letter(b"one"), letter(b"two"), proxy=url)
        here.write(alice)
        said = [here.type("fetch"), here.type("check"), here.type("config", "show")]
        asked = set(proxy.asked)
    assert [0, 0, 0] == [code for code, _, _ in said]
    assert 2 == here.archived("alice")
    assert {("localhost", alice["port"])} == asked
    assert f"  through     {proxy.url()}\n" in said[1][1]
    assert f"proxy: {proxy.url('carrier:(hidden)@')}" in said[2][1]
    assert CANARY not in "".join(out + err for _, out, err in said)


def test_a_proxy_that_refuses_holds_up_nobody(here):
    """
    Its account fails as one that cannot connect, without a secret; the other is served.
    """
    with Socks(login=("carrier", "other")) as proxy:
        url = proxy.url(f"carrier:{CANARY}-proxy@")
        here.write(
            here.account("alice", letter(b"one"), proxy=url),
            here.account("bob", letter(b"two")),
        )
        code, out, err = here.type("fetch")
    failure = next(it for it in events(err) if it["event"] == "visit failed")
    assert (69, "connect") == (code, failure["reason"])
    assert "authentication failure" in failure["error"]
    assert CANARY not in out + err
    assert (0, 1) == (here.archived("alice"), here.archived("bob"))


# -- TLS that ends too early ----------------------------------------------------------


def test_a_message_that_tls_did_not_end_is_discarded(here):
    """
    A line that ends in mid-message without TLS saying so archives nothing of it; the
    next visit archives it once.
    """
    alice = here.account(
        "alice", letter(b"big", b"x" * 70 + b"\r\n") + 20_000 * b"y\r\n"
    )
    port = alice["port"]
    cut = Trouble(down=Flow(octets=30_000, end=End.FIN))
    with Relay(
        ("127.0.0.1", port), lambda number: cut if number == 0 else Trouble()
    ) as relay:
        here.write(alice | {"port": relay.port})
        code, _, err = here.type("fetch")
        assert (69, "disconnected") == (code, events(err)[0]["reason"])
        assert 0 == here.archived("alice")
        assert 0 == here.type("fetch")[0]
    assert 1 == here.archived("alice")
    assert [] == list((here.directory / "mail" / "alice" / "tmp").iterdir())
