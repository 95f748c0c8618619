"""
The channel: octets both ways, in time, and how each failure is told. Loopback only.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
import time

import pytest

from popfetchd.errors import (
    Disconnected,
    TimedOut,
)
from popfetchd.pop3.deadline import Deadline
from popfetchd.pop3.tls import TlsContexts
from popfetchd.pop3.transport import connect
from popfetchd.problems import problem
from popfetchd.values import Channel
from tests.channels import LONG, SHORT, opened, plain, quiet, served


def test_a_deadline_counts_down() -> None:
    """What remains is told by the clock given, and falls below zero."""
    now = 100.0
    deadline = Deadline(5.0, lambda: now)
    first, now = deadline.remaining(), 106.0
    assert (5.0, -1.0) == (first, deadline.remaining())


def test_a_connection_in_clear() -> None:
    """Octets go both ways, the end is no octets, and the channel tells no TLS."""

    def echo(connection: socket.socket) -> None:
        connection.sendall(connection.recv(100))

    with served(echo) as port:
        channel = opened(plain(port))
        channel.send(b"hello", "HELLO")
        assert (b"hello", b"") == (channel.recv("HELLO"), channel.recv("HELLO"))
        assert Channel("127.0.0.1") == channel.channel
        channel.close()
        channel.close()


# -- time -----------------------------------------------------------------------------


def test_a_silent_server() -> None:
    """Waiting for a reply ends after the step's time."""
    with served(quiet) as port:
        channel = opened(plain(port, SHORT))
        with pytest.raises(TimedOut, match=r"no end of RETR within 0\.05 s"):
            channel.recv("RETR")
        channel.close()


def test_the_visit_is_over() -> None:
    """Past the visit's deadline no step begins, and a step under way ends with it."""
    begun, now = time.monotonic(), 0.0
    with served(quiet) as port:
        deadline = Deadline(10, lambda: now)
        channel = connect(plain(port), TlsContexts(), deadline)
        now = 11.0
        with pytest.raises(TimedOut, match=r"no end of the visit, at RETR within 10 s"):
            channel.recv("RETR")
        channel.close()
        channel = opened(plain(port), SHORT)
        with pytest.raises(
            TimedOut, match=r"no end of the visit, at TOP within 0\.05 s"
        ):
            channel.recv("TOP")
        channel.close()
    assert time.monotonic() - begun < LONG / 2


def test_a_server_that_does_not_read() -> None:
    """Sending ends after the step's time too."""
    over = threading.Event()
    with served(lambda connection: over.wait(LONG)) as port:
        channel = opened(plain(port, SHORT))
        with pytest.raises(TimedOut, match="no end of RETR"):
            channel.send(bytes(50_000_000), "RETR")
        channel.close()
        over.set()


def test_waiting_does_not_wait() -> None:
    """What has come already is given, nothing when nothing has."""
    over = threading.Event()

    def handle(connection: socket.socket) -> None:
        over.wait(LONG)
        connection.sendall(b"+OK")

    with served(handle) as port:
        channel = opened(plain(port))
        assert b"" == channel.waiting("NOOP")
        over.set()
        assert b"+OK" == channel.recv("NOOP")
        channel.close()


def test_a_reset() -> None:
    """A connection that is reset is a lost one."""

    def reset(connection: socket.socket) -> None:
        connection.recv(1)
        linger = struct.pack("ii", 1, 0)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    with served(reset) as port:
        channel = opened(plain(port))
        channel.send(b"x", "RETR")
        with pytest.raises(Disconnected, match="lost during RETR: Connection reset"):
            channel.recv("RETR")
        channel.close()


def test_a_failing_close_is_no_failure() -> None:
    """What close(2) says of a connection takes nothing back that a server answered."""
    with served(quiet) as port:
        channel = opened(plain(port))
        os.close(channel._sock.fileno())
        channel.close()


@pytest.mark.parametrize(
    ("error", "told"),
    [(OSError("in words"), "in words"), (OSError(), "OSError"), (ValueError("x"), "x")],
)
def test_a_problem_is_always_told(error: Exception, told: str) -> None:
    """Even an error that says nothing is told by its name."""
    assert told == problem(error)
