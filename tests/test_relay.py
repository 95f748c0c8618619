"""
The relay makes exactly the trouble that it is told to make.
"""

from __future__ import annotations

import contextlib
import socket
import threading

from collections.abc import Iterator

import pytest

from tests.relay import HOST, End, Flow, Relay, Trouble


@pytest.fixture
def echo() -> Iterator[tuple[str, int]]:
    """
    The address of a server that sends back whatever it receives.
    """
    listener = socket.create_server((HOST, 0))
    connections: list[socket.socket] = []

    def serve(connection: socket.socket) -> None:
        try:
            while octets := connection.recv(65536):
                connection.sendall(octets)
        except OSError:
            pass
        finally:
            connection.close()

    def accept() -> None:
        try:
            while True:
                connection, _ = listener.accept()
                connection.settimeout(10)
                connections.append(connection)
                threading.Thread(target=serve, args=(connection,), daemon=True).start()
        except OSError:
            pass

    acceptor = threading.Thread(target=accept, daemon=True)
    acceptor.start()
    yield listener.getsockname()
    listener.shutdown(socket.SHUT_RDWR)
    acceptor.join(10)
    listener.close()


def client(relay: Relay) -> socket.socket:
    """
    Return a connection to *relay* that waits ten seconds at most.
    """
    return socket.create_connection((HOST, relay.port), 10)


def receive(connection: socket.socket, octets: int) -> bytes:
    """
    Return so many octets, or fewer if the connection ends before.
    """
    received = b""
    while len(received) < octets and (chunk := connection.recv(65536)):
        received += chunk
    return received


def test_without_trouble_everything_passes_and_is_heard(echo):
    """
    A megabyte goes there and back unaltered, and the relay has it in both directions.
    """
    sent = bytes(range(256)) * 4096
    with Relay(echo) as relay, client(relay) as connection:
        threading.Thread(target=connection.sendall, args=(sent,), daemon=True).start()
        assert sent == receive(connection, len(sent))
        assert [(sent, sent)] == [(bytes(h.up), bytes(h.down)) for h in relay.heard]


@pytest.mark.parametrize("octets", [0, 1, 7, 10])
def test_a_cut_downwards_lets_exactly_its_measure_pass(echo, octets):
    """
    The client receives that many octets of the answer, and then the end.
    """
    trouble = Trouble(down=Flow(octets))
    with Relay(echo, trouble) as relay, client(relay) as connection:
        try:
            connection.sendall(b"0123456789")
        except OSError:
            assert octets == 0
        assert b"0123456789"[:octets] == receive(connection, 11)


def test_a_cut_upwards_ends_both_directions(echo):
    """
    The server sees only the first octets, and the client sees the end.
    """
    with Relay(echo, Trouble(up=Flow(3))) as relay, client(relay) as connection:
        connection.sendall(b"abc")
        assert receive(connection, 10) in {b"", b"abc"}
        assert b"abc" == relay.heard[0].up


@pytest.mark.parametrize(
    "trouble", [Trouble(up=Flow(3, End.RST)), Trouble(down=Flow(3, End.RST))]
)
def test_a_reset_is_no_orderly_end(echo, trouble):
    """
    The client gets ECONNRESET, not an end of file.
    """
    with Relay(echo, trouble) as relay, client(relay) as connection:
        connection.sendall(b"abcdef")
        with pytest.raises(ConnectionResetError):
            receive(connection, 10)


def test_silence_swallows_and_says_nothing(echo):
    """
    Past its measure nothing comes back, the connection stays, and all is heard.
    """
    trouble = Trouble(down=Flow(2, End.SILENCE))
    with Relay(echo, trouble) as relay, client(relay) as connection:
        connection.sendall(b"abcdef")
        assert b"ab" == receive(connection, 2)
        connection.settimeout(0.1)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        assert b"abcdef" == relay.heard[0].up


def test_a_mark_ends_the_flow_before_it(echo):
    """
    What stands before it passes, and nothing from there on.
    """
    trouble = Trouble(down=Flow(end=End.SILENCE, mark=b"cd"))
    with Relay(echo, trouble) as relay, client(relay) as connection:
        connection.sendall(b"abcdef")
        assert b"ab" == receive(connection, 2)
        connection.settimeout(0.1)
        with pytest.raises(TimeoutError):
            connection.recv(1)


def test_dribbling_gives_every_octet_in_order(echo):
    """
    Segments of one octet with a latency make no difference but time.
    """
    slow = Flow(segment=1, latency=0.0001)
    with Relay(echo, Trouble(slow, slow)) as relay, client(relay) as connection:
        connection.sendall(b"0123456789" * 10)
        assert b"0123456789" * 10 == receive(connection, 100)


def test_each_connection_has_its_own_trouble(echo):
    """
    The second connection fares well where the first was cut at once.
    """

    def first_only(number: int) -> Trouble:
        return Trouble(down=Flow(0)) if number == 0 else Trouble()

    with Relay(echo, first_only) as relay:
        with client(relay) as connection:
            assert b"" == receive(connection, 1)
        with client(relay) as connection:
            connection.sendall(b"x")
            assert b"x" == receive(connection, 1)


def test_nobody_behind_the_relay_is_an_early_end():
    """
    A target that refuses shows as a connection that ends at once.
    """
    with socket.create_server((HOST, 0)) as gone:
        target = gone.getsockname()
    with Relay(target) as relay, client(relay) as connection:
        assert b"" == receive(connection, 1)


def test_close_does_not_wait_for_latency(echo):
    """
    A relay that would need an hour for its octets ends when it is told to.
    """
    slow = Trouble(up=Flow(segment=1, latency=3600))
    relay = Relay(echo, slow)
    with client(relay) as connection:
        connection.sendall(b"abc")
        relay.close()
        with contextlib.suppress(ConnectionResetError):  # it may not have begun
            assert b"" == receive(connection, 1)
