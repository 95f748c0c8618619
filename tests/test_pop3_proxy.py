"""
Through a SOCKS 5 proxy: what it is told, how it fails, and that it cannot hold us up.
"""

from __future__ import annotations

import builtins
import socket
import ssl
import threading
import time

from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from popfetchd.errors import (
    CertificateUnexpected,
    ConnectFailed,
    Disconnected,
    ExtraMissing,
    NameNotResolved,
    ProxyFailed,
    TimedOut,
)
from popfetchd.pop3 import reaching
from popfetchd.pop3.deadline import Deadline
from popfetchd.values import Proxy, Secret, Server, TlsMode, TlsPolicy
from tests.channels import LONG, SHORT, failure, opened, plain, quiet, served
from tests.socks import Socks, exactly


CANARY = "hunter2-canary"


def behind(proxy: int, server: int, *login: str, host: str = "pop.example") -> Server:
    """
    Return a server in clear behind a proxy on a port of loopback.
    """
    user, password = (login[0], Secret(login[1])) if login else (None, None)
    way = Proxy("127.0.0.1", proxy, user, password)
    return replace(plain(server), host=host, proxy=way)


def echo(connection: socket.socket) -> None:
    """
    Return the first octets that come.
    """
    connection.sendall(connection.recv(100))


@pytest.mark.parametrize("host", ["pop.example", "127.0.0.1"])
@pytest.mark.parametrize("login", [(), ("alice", CANARY)])
def test_through_a_proxy(
    host: str, login: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server's name goes to the proxy as written; only its own is resolved here."""
    sought: list[str] = []
    lookup = reaching._lookup
    monkeypatch.setattr(
        reaching,
        "_lookup",
        lambda host, port: sought.append(host) or lookup(host, port),
    )
    with (
        Socks({"pop.example": "127.0.0.1"}, login or None) as proxy,
        served(echo) as port,
    ):
        channel = opened(behind(proxy.port, port, *login, host=host))
        channel.send(b"hello", "HELLO")
        assert b"hello" == channel.recv("HELLO")
        told = channel.channel
        channel.close()
    assert [(host, port)] == proxy.asked
    assert ["127.0.0.1"] == sought
    assert ("127.0.0.1", f"socks5://127.0.0.1:{proxy.port}") == (
        told.address,
        told.proxy,
    )


def test_tls_behind_a_proxy_is_the_servers(tmp_path: Path) -> None:
    """The certificate is that of the server's name, which the proxy cannot change."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("pop.example").configure_cert(context)

    def handle(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as line:
            quiet(line)

    names = {"pop.example": "127.0.0.1", "other.example": "127.0.0.1"}
    policy = TlsPolicy(ca_file=tmp_path / "ca.pem")
    with Socks(names) as proxy, served(handle) as port:
        opened(replace(behind(proxy.port, port), tls=policy)).close()
    with Socks(names) as proxy, served(handle) as port:
        server = behind(proxy.port, port, host="other.example")
        error = failure(replace(server, tls=policy))
    assert CertificateUnexpected is type(error)


# -- how it fails ---------------------------------------------------------------------


HINT = (
    "check host, port, user and password in `proxy:`, and that the proxy lets this "
    "machine connect to the server"
)


def refusal(
    proxy: Socks, *login: str, server: int = 1, host: str = "pop.example"
) -> str:
    """
    Return what is told of a proxy that gives no connection, without its own address.
    """
    error = failure(behind(proxy.port, server, *login, host=host))
    assert (ProxyFailed, HINT) == (type(error), error.hint)
    assert CANARY not in f"{error!r}{error.__cause__!r}"
    return str(error).replace(f"socks5://127.0.0.1:{proxy.port}", "PROXY")


def test_a_proxy_that_refuses_the_password() -> None:
    """A wrong password of the proxy is told, and never repeated."""
    with Socks(login=("alice", "other")) as proxy:
        assert (
            "pop.example:1: not through PROXY: Username and password authentication failure"
        ) == refusal(proxy, "alice", CANARY)


def test_a_proxy_that_wants_a_password() -> None:
    """Who has none to give is turned away."""
    with Socks(login=("alice", CANARY)) as proxy:
        assert "No acceptable authentication methods" in refusal(proxy)


def test_a_name_that_the_proxy_does_not_know() -> None:
    """What the proxy says of the way behind it is told in the RFC's words."""
    with Socks() as proxy:
        assert "pop.example:1: not through PROXY: Host unreachable" == refusal(proxy)


def test_a_server_that_refuses_the_proxy() -> None:
    """A port where nobody listens, seen from the proxy."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with Socks() as proxy:
        told = refusal(proxy, server=port, host="127.0.0.1")
    assert told.endswith("Connection refused by destination host")


def test_no_proxy_there() -> None:
    """A proxy that is not there is told by its own address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    error = failure(behind(port, 1))
    assert ConnectFailed is type(error)
    assert f"127.0.0.1:{port}: no connection: Connection refused" == str(error)


def test_a_proxy_without_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy's name is the one that was not resolved."""

    def lookup(host: str, port: int) -> list:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(reaching, "_lookup", lookup)
    server = replace(plain(1), proxy=Proxy("proxy.example", 1080))
    error = failure(server)
    assert (NameNotResolved, "proxy.example") == (type(error), error.host)


CONNECTED = b"\5\0\0\1" + bytes(6)


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ([b"HT"], "Unexpected SOCKS version number: 72"),
        ([b"\4\0"], "Unexpected SOCKS version number: 4"),
        ([b"\5\1"], "Unexpected SOCKS authentication method: 1"),
        ([b"\5\2"], "Unexpected SOCKS authentication method: 2"),
        ([b"\5\x99"], "Invalid authentication method: 0X99"),
        ([b"\5"], "Connection closed unexpectedly"),
        ([b"\5\0", b"\4\0\0\1" + bytes(6)], "Unexpected SOCKS version number: 0X4"),
        ([b"\5\0", b"\5\x77\0"], "Invalid reply code: 0X77"),
        ([b"\5\0", b"\5\0\1"], "The reserved byte must be 0X0"),
        ([b"\5\0", b"\5\0\0\7"], "Invalid address type: 0X7"),
        ([b"\5\0", b"\5\0\0\1" + bytes(5)], "Connection closed unexpectedly"),
        ([b"\5\0", b"\5\0\0\3\2\xff\xff\0\0"], "it does not speak SOCKS 5"),
        ([b"\5\0", b""], "Connection closed unexpectedly"),
    ],
)
def test_a_proxy_that_lies(answers: list[bytes], told: str) -> None:
    """Whatever stands where a proxy should, its octets are an error and never a reply."""

    def handle(connection: socket.socket) -> None:
        for answer, asked in zip(answers, (3, 18), strict=False):
            exactly(connection, asked)
            connection.sendall(answer)

    with served(handle) as port:
        error = failure(behind(port, 110))
    assert (ProxyFailed, told) == (type(error), error.problem)


def test_what_comes_behind_the_answer_is_the_servers() -> None:
    """No octet behind the proxy's answer is lost: it is the server's first."""

    def handle(connection: socket.socket) -> None:
        exactly(connection, 3)
        connection.sendall(b"\5\0")
        exactly(connection, 18)
        connection.sendall(CONNECTED + b"+OK")
        quiet(connection)

    with served(handle) as port:
        channel = opened(behind(port, 110))
        assert b"+OK" == channel.recv("greeting")
        channel.close()


def test_a_password_that_cannot_be_sent_is_not_told() -> None:
    """What the library cannot encode stands in no error."""

    def handle(connection: socket.socket) -> None:
        exactly(connection, 4)
        connection.sendall(b"\5\2")
        quiet(connection)

    with served(handle) as port:
        error = failure(behind(port, 110, "alice", f"{CANARY}\u20ac"))
    assert ProxyFailed is type(error)
    assert (None, True) == (error.__cause__, error.__suppress_context__)
    assert CANARY not in f"{error!r}"


# -- time -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answers",
    [[], [b"\5"], [b"\5\0"], [b"\5\0", b"\5\0\0\1"], [b"\5\2"], [b"\5\2", b"\1\0"]],
)
def test_a_proxy_that_falls_silent(answers: list[bytes]) -> None:
    """Silence at each step of the dialogue ends within the step's time (T11)."""

    def handle(connection: socket.socket) -> None:
        for answer in answers:
            connection.recv(100)
            connection.sendall(answer)
        quiet(connection)

    with served(handle) as port:
        server = behind(port, 110, "alice", CANARY)
        error = failure(replace(server, timeout=SHORT))
    step = f"the dialogue with the proxy socks5://127.0.0.1:{port}"
    assert (TimedOut, f"no end of {step} within 0.05 s") == (type(error), str(error))


def test_a_proxy_that_dribbles() -> None:
    """An octet now and then does not lengthen the step: its time is for all of them."""
    over = threading.Event()

    def handle(connection: socket.socket) -> None:
        connection.sendall(b"\5\0")
        for octet in b"\5\0\0\3\xff" + bytes(200):
            over.wait(0.02)
            connection.sendall(bytes([octet]))

    begun = time.monotonic()
    with served(handle) as port:
        error = failure(replace(behind(port, 110), timeout=0.2))
        over.set()
    assert TimedOut is type(error)
    assert time.monotonic() - begun < LONG / 2


def test_no_wait_begins_when_the_time_is_over() -> None:
    """Past the deadline of the dialogue nothing is read, however quick it would be."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"\5\0")
        with pytest.raises(TimeoutError):
            reaching._Bounded(ours, Deadline(-1.0)).recv(2)


def test_a_visit_that_is_over_asks_no_proxy() -> None:
    """The visit's deadline holds for the proxy too."""
    with served(quiet) as port:
        error = failure(behind(port, 110), seconds=SHORT)
    assert str(error).startswith("no end of the visit, at the dialogue with the proxy")


def test_a_server_silent_behind_a_proxy() -> None:
    """Once connected, the steps are those of any server (T11)."""
    with Socks({"pop.example": "127.0.0.1"}) as proxy, served(quiet) as port:
        channel = opened(replace(behind(proxy.port, port), timeout=0.3))
        with pytest.raises(TimedOut, match="no end of greeting"):
            channel.recv("greeting")
        channel.close()


def test_a_proxy_that_hangs_up_on_the_session() -> None:
    """A connection that the proxy ends is a lost one."""
    with Socks({"pop.example": "127.0.0.1"}) as proxy, served(echo) as port:
        channel = opened(behind(proxy.port, port))
        proxy.close()
        with pytest.raises(Disconnected):
            channel.send(b"x" * 10_000_000, "RETR")
        channel.close()


# -- what is not there ----------------------------------------------------------------


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where python-socks is not installed, the line that installs it is the hint."""
    load = builtins.__import__

    def missing(name: str, *rest: object) -> object:
        if name.startswith("python_socks"):
            raise ImportError(name)
        return load(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    with served(quiet) as port:
        error = failure(behind(port, 110))
    assert ExtraMissing is type(error)
    assert "pip install popfetchd[socks]" == error.hint


def test_a_proxy_is_told_without_its_password() -> None:
    """Neither user nor password of a proxy is printed by accident."""
    proxy = Proxy("::1", 1080, "alice", Secret(CANARY))
    assert "socks5://[::1]:1080" == str(proxy)
    assert CANARY not in repr(Server("h", 1, TlsPolicy(TlsMode.NONE), 1.0, proxy=proxy))
