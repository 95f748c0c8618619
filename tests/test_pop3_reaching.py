"""
The way to a server: names, addresses, families. Loopback only.
"""

from __future__ import annotations

import errno
import socket
import threading

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from popfetchd.errors import (
    ConnectFailed,
    NameNotResolved,
)
from popfetchd.pop3 import reaching
from popfetchd.pop3.reaching import MOST_ADDRESSES
from popfetchd.values import Server, TlsPolicy
from tests.channels import LONG, SHORT, address, failure, opened, plain, quiet, served


# -- names and addresses --------------------------------------------------------------


def test_nobody_listens() -> None:
    """A port that refuses is told as such, at once."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    error = failure(plain(port))
    sentence = f"127.0.0.1:{port}: no connection: Connection refused"
    assert (ConnectFailed, sentence) == (type(error), str(error))


@pytest.mark.parametrize("host", ["a..b", "x" * 300, "a\0b"])
def test_what_is_no_host_name(host: str) -> None:
    """A host that cannot be a name has no address."""
    error = failure(Server(host, 1, TlsPolicy(), LONG))
    assert (NameNotResolved, host) == (type(error), error.host)


def test_a_name_without_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the resolver says is told with the name."""

    def lookup(host: str, port: int) -> list:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(reaching, "_lookup", lookup)
    error = failure(Server("pop.example", 1, TlsPolicy(), LONG))
    sentence = "pop.example: name not resolved: Name or service not known"
    assert (NameNotResolved, sentence) == (type(error), str(error))


def test_a_resolver_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolver that does not answer is left behind in time."""
    over = threading.Event()

    def lookup(host: str, port: int) -> list:
        over.wait(LONG)
        return []

    monkeypatch.setattr(reaching, "_lookup", lookup)
    error = failure(Server("pop.example", 1, TlsPolicy(), SHORT))
    over.set()
    assert "no end of name resolution within 0.05 s" == str(error)


def test_a_name_with_no_addresses_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty answer is a failure to connect, not a crash."""
    monkeypatch.setattr(reaching, "_lookup", lambda host, port: [])
    assert "the name has no address" in str(failure(plain(1)))


def test_families_alternate() -> None:
    """The preferred family comes first, then one of the other, and so on (RFC 8305)."""
    six = [address(n, "::1", socket.AF_INET6) for n in (1, 2, 3)]
    four = [address(4)]
    assert [six[0], four[0], six[1], six[2]] == reaching._alternating(six + four)


@contextmanager
def deaf() -> Iterator[int]:
    """
    A port that neither takes nor refuses connections: its queue is full.
    """
    with socket.socket() as listener, socket.socket() as a, socket.socket() as b:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for sock in (a, b):
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def test_the_first_address_that_answers_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses that hang, refuse or belong to no family here do not hold us up."""
    monkeypatch.setattr(reaching, "ATTEMPT_DELAY", 0.01)
    with socket.create_server(("127.0.0.1", 0)) as gone:
        refusing = gone.getsockname()[1]
    with served(quiet) as port, deaf() as hanging:
        places = [
            address(1, family=9999),
            address(hanging),
            address(refusing),
            address(port),
        ]
        monkeypatch.setattr(reaching, "_lookup", lambda host, port: places)
        opened(plain(port)).close()


def test_an_address_that_cannot_be_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that fails at once, e.g. without a route, leaves nothing behind."""

    class Unreachable(socket.socket):
        def connect_ex(self, place: object) -> int:
            return errno.ENETUNREACH

    monkeypatch.setattr(socket, "socket", Unreachable)
    monkeypatch.setattr(reaching, "_lookup", lambda host, port: [address(1)])
    assert "127.0.0.1:1: no connection: Network is unreachable" == str(
        failure(plain(1))
    )


def test_every_address_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that does not answer is given up in time."""
    with deaf() as hanging:
        places = [address(hanging)] * (2 * MOST_ADDRESSES)
        monkeypatch.setattr(reaching, "_lookup", lambda host, port: places)
        monkeypatch.setattr(reaching, "ATTEMPT_DELAY", 0.001)
        error = failure(plain(hanging, SHORT))
    assert "no end of connect to 127.0.0.1 within 0.05 s" == str(error)
