"""
The way to a server: names, addresses, families. Loopback only.
"""

from __future__ import annotations

import errno
import socket
import threading
import time

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from popfetchd.errors import (
    ConnectFailed,
    NameNotResolved,
    SourceUnusable,
)
from popfetchd.pop3 import reaching
from popfetchd.pop3.reaching import MOST_ADDRESSES
from popfetchd.values import Proxy, Server, TlsPolicy
from tests.channels import LONG, SHORT, address, failure, opened, plain, quiet, served
from tests.socks import Socks


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
def deaf(host: str = "127.0.0.1", family: int = socket.AF_INET) -> Iterator[int]:
    """
    A port that neither takes nor refuses connections: its queue is full.
    """
    with (
        socket.socket(family) as listener,
        socket.socket(family) as a,
        socket.socket(family) as b,
    ):
        listener.bind((host, 0))
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


def test_a_dead_family_costs_no_more_than_its_head_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where IPv6 leads nowhere, IPv4 is there soon, and what was tried is told."""
    with served(quiet) as port, deaf("::1", socket.AF_INET6) as hanging:
        places = [address(hanging, "::1", socket.AF_INET6)] * 3 + [address(port)]
        monkeypatch.setattr(reaching, "_lookup", lambda host, port: places)
        begun = time.monotonic()
        channel = opened(plain(port))
        took = time.monotonic() - begun
        assert ("127.0.0.1", ("::1",)) == (
            channel.channel.address,
            channel.channel.tried,
        )
        channel.close()
    assert reaching.ATTEMPT_DELAY <= took < 4 * reaching.ATTEMPT_DELAY


def test_the_preferred_family_has_a_head_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that answers at once is alone: the other family is not even tried."""
    with (
        socket.create_server(("::1", 0), family=socket.AF_INET6) as six,
        served(lambda connection: None) as port,
    ):
        places = [
            address(six.getsockname()[1], "::1", socket.AF_INET6),
            address(port),
        ]
        monkeypatch.setattr(reaching, "_lookup", lambda host, port: places)
        channel = opened(plain(port))
        assert ("::1", ()) == (channel.channel.address, channel.channel.tried)
        channel.close()
        socket.create_connection(("127.0.0.1", port)).close()  # ends `served`


def test_an_address_that_refuses_gives_way_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The next address is tried as soon as one has failed (RFC 8305 §5)."""
    monkeypatch.setattr(reaching, "ATTEMPT_DELAY", LONG)
    with socket.create_server(("127.0.0.1", 0)) as gone:
        refusing = gone.getsockname()[1]
    with served(quiet) as port:
        places = [address(refusing, "127.0.0.2"), address(1, family=9999)]
        places.append(address(port))
        monkeypatch.setattr(reaching, "_lookup", lambda host, port: places)
        begun = time.monotonic()
        channel = opened(plain(port))
        assert ("127.0.0.2",) == channel.channel.tried
        channel.close()
    assert time.monotonic() - begun < LONG / 2


def test_every_address_fails_in_its_own_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """What became of each address is told, by sentence and by field."""
    with socket.create_server(("127.0.0.1", 0)) as gone:
        refusing = gone.getsockname()[1]
    odd = (9999, socket.SOCK_STREAM, 0, "", ("192.0.2.9", 1))
    places = [odd, address(refusing)]
    monkeypatch.setattr(reaching, "_lookup", lambda host, port: places)
    error = failure(replace(plain(1), host="pop.example"))
    assert {
        "192.0.2.9": "Address family not supported by protocol",
        "127.0.0.1": "Connection refused",
    } == error.tried
    assert (
        "pop.example:1: no connection: 192.0.2.9: Address family not supported by "
        "protocol; 127.0.0.1: Connection refused"
    ) == str(error)


# -- our own address ------------------------------------------------------------------


def test_a_source_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """We come from the address that is configured; the other family is not tried."""
    came: list[str] = []

    def handle(connection: socket.socket) -> None:
        came.append(connection.getpeername()[0])

    with served(handle) as port:
        places = [address(port, "::1", socket.AF_INET6), address(port)]
        monkeypatch.setattr(reaching, "_lookup", lambda host, port: places)
        channel = opened(replace(plain(port), source_address="127.0.0.2"))
        assert b"" == channel.recv("greeting")
        assert () == channel.channel.tried
        channel.close()
    assert ["127.0.0.2"] == came


SOURCE_HINT = (
    "`source_address:` must be an address of this machine, of a family that the server "
    "has too"
)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("192.0.2.9", "Cannot assign requested address"),
        ("::1", "127.0.0.1 has no address of its family"),
    ],
)
def test_a_source_address_that_is_no_use(source: str, told: str) -> None:
    """An address that is not ours, or not of the server's family, is the operator's."""
    with served(quiet) as port:
        error = failure(replace(plain(port), source_address=source))
        socket.create_connection(("127.0.0.1", port)).close()  # ends `served`
    assert f"source_address {source}: {told}" == str(error)
    assert (SourceUnusable, SOURCE_HINT) == (type(error), error.hint)


def test_a_source_address_for_the_way_to_a_proxy() -> None:
    """Where there is a proxy, that is whom we come to."""
    with Socks() as proxy, served(quiet) as port:
        way = Proxy("127.0.0.1", proxy.port)
        server = replace(plain(port), proxy=way, source_address="127.0.0.3")
        opened(server).close()
    assert ["127.0.0.3"] == proxy.peers


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
