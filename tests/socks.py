"""
A SOCKS 5 proxy (RFC 1928, RFC 1929) for tests: CONNECT only, on loopback, byte-true.

Rules of this file:

- It resolves names by a table of its own: a name that the client had resolved itself
  would come as an address, and stand in `asked` as one.
- Octets are read exactly as far as each message goes, so that what a client sends too
  early reaches the server behind, as with a real proxy.
- `close` ends every connection and joins every thread.
"""

from __future__ import annotations

import ipaddress
import socket
import threading

from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Self


NO_AUTH, BY_PASSWORD, NONE_OF_THEM = 0, 2, 0xFF
IPV4, NAME, IPV6 = 1, 3, 4
GRANTED, NOT_ALLOWED, HOST_UNREACHABLE, REFUSED = 0, 2, 4, 5

PATIENCE = 10.0
"""Seconds that any one wait of this server may take."""


class Socks:
    """
    A proxy that knows *names*, and lets in whoever knows *login*; everyone if None.
    """

    def __init__(
        self,
        names: Mapping[str, str] | None = None,
        login: tuple[str, str] | None = None,
    ) -> None:
        self.asked: list[tuple[str, int]] = []
        """What clients wanted to be connected to, as they wrote it."""
        self.peers: list[str] = []
        """From which address each client came."""
        self._names = {"localhost": "127.0.0.1"} | dict(names or {})
        self._login = login
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._start(self._accept)

    def url(self, login: str = "") -> str:
        """
        Return the address as a configuration has it; *login* is `user:password@`.
        """
        return f"socks5://{login}127.0.0.1:{self.port}"

    def close(self) -> None:
        for sock in (self._listener, *self._sockets):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE)
        for sock in (self._listener, *self._sockets):
            sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _start(self, task, *arguments: object) -> None:
        thread = threading.Thread(target=task, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):  # `close` has shut the listener down
            while True:
                client, (address, *_) = self._listener.accept()
                client.settimeout(PATIENCE)
                self.peers.append(address)
                self._sockets.append(client)
                self._start(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError, EOFError):  # whoever goes, goes
            server = self._connected(client)
            if server is not None:
                self._sockets.append(server)
                self._start(carry, client, server)
                carry(server, client)

    def _connected(self, client: socket.socket) -> socket.socket | None:
        if not self._let_in(client):
            client.close()
            return None
        _, command, _, kind = exactly(client, 4)
        assert command == 1
        host = self._host(client, kind)
        port = int.from_bytes(exactly(client, 2), "big")
        self.asked.append((host, port))
        try:
            place = host if kind != NAME else self._names[host]
            server = socket.create_connection((place, port), PATIENCE)
        except KeyError:
            return self._answer(client, HOST_UNREACHABLE)
        except ConnectionRefusedError:
            return self._answer(client, REFUSED)
        self._answer(client, GRANTED)
        return server

    def _let_in(self, client: socket.socket) -> bool:
        """
        Choose how the client logs in, and let it (RFC 1928 §3, RFC 1929 §2).
        """
        version, count = exactly(client, 2)
        assert version == 5
        wanted = NO_AUTH if self._login is None else BY_PASSWORD
        if wanted not in exactly(client, count):
            client.sendall(bytes([5, NONE_OF_THEM]))
            return False
        client.sendall(bytes([5, wanted]))
        if self._login is None:
            return True
        exactly(client, 1)
        given = tuple(exactly(client, exactly(client, 1)[0]).decode() for _ in range(2))
        client.sendall(bytes([1, given != self._login]))
        return given == self._login

    def _host(self, client: socket.socket, kind: int) -> str:
        if kind == NAME:
            return exactly(client, exactly(client, 1)[0]).decode()
        return str(ipaddress.ip_address(exactly(client, {IPV4: 4, IPV6: 16}[kind])))

    def _answer(self, client: socket.socket, code: int) -> None:
        client.sendall(bytes([5, code, 0, IPV4]) + bytes(6))


def exactly(sock: socket.socket, count: int) -> bytes:
    """
    Return the next *count* octets. Raises EOFError.
    """
    octets = b""
    while len(octets) < count:
        more = sock.recv(count - len(octets))
        if not more:
            raise EOFError
        octets += more
    return octets


def carry(source: socket.socket, target: socket.socket) -> None:
    """
    Carry octets from *source* to *target* until either ends.
    """
    with suppress(OSError):
        while octets := source.recv(65536):
            target.sendall(octets)
    for sock in (source, target):
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
