"""
Servers of one connection each, and clients for them. Loopback only.

Rules of this file:

- A server is a function of a connected socket; when it returns, the connection ends.
- Nothing waits for longer than LONG; what is to take too long is given SHORT.
"""

from __future__ import annotations

import socket
import threading

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from popfetchd.errors import (
    PopfetchdError,
)
from popfetchd.pop3.deadline import Deadline
from popfetchd.pop3.tls import TlsContexts
from popfetchd.pop3.transport import Transport, connect
from popfetchd.values import Server, TlsMode, TlsPolicy


SHORT = 0.05
"""Seconds: the time limit where one is to be met."""

LONG = 5.0
"""Seconds: the time limit where none is to be met."""

Handler = Callable[[socket.socket], None]


@contextmanager
def served(handle: Handler) -> Iterator[int]:
    """
    Let *handle* serve one connection; the port is what this gives.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(LONG)

        def serve() -> None:
            try:
                connection = listener.accept()[0]
                connection.settimeout(LONG)
                with connection:
                    handle(connection)
            except OSError:
                pass  # the client has gone; what it told is what counts

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
    thread.join(2 * LONG)
    assert not thread.is_alive()


def quiet(connection: socket.socket) -> None:
    """
    Take all, say nothing.
    """
    while connection.recv(65536):
        pass


def plain(port: int, timeout: float = LONG) -> Server:
    """
    A server in clear.
    """
    return Server("127.0.0.1", port, TlsPolicy(TlsMode.NONE), timeout)


def opened(server: Server, seconds: float = 60.0) -> Transport:
    """
    Connect with contexts and a deadline of its own.
    """
    return connect(server, TlsContexts(), Deadline(seconds))


def failure(server: Server, seconds: float = 60.0) -> PopfetchdError:
    """
    Return the error that connecting to *server* ends in.
    """
    with pytest.raises(PopfetchdError) as caught:
        opened(server, seconds)
    return caught.value


def address(port: int, host: str = "127.0.0.1", family: int = socket.AF_INET) -> tuple:
    """
    Return what getaddrinfo would.
    """
    return (family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port))
