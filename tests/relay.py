"""
A TCP relay on loopback that does what networks do to a connection.

Rules of this file:

- Deterministic: trouble begins after a number of octets, or at some of them, never
  after a time.
- It knows no protocol. What it reads is kept, in both directions, so that a test can
  look for a credential on the wire itself.
- Nothing outlives `close`; latency waits on it, and so never holds it up.
"""

from __future__ import annotations

import contextlib
import socket
import struct

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from threading import Event, Lock, Thread
from typing import Self


HOST = "127.0.0.1"

CHUNK = 65536
"""Octets of one read."""

PATIENCE = 30.0
"""Seconds after which a silent connection is given up: no test should need them."""


class End(Enum):
    """
    What happens when a flow has passed all that it may.

    FIN ends both directions in order, RST breaks both off, and with SILENCE the flow
    swallows whatever comes and says nothing.
    """

    FIN = auto()
    RST = auto()
    SILENCE = auto()


@dataclass(frozen=True, slots=True)
class Flow:
    """
    How one direction behaves.

    It passes *octets* (None: all) in segments of at most *segment*, each *latency*
    seconds late, and then ends as *end* says; or before *mark*, where that comes, in clear
    and in one piece.
    """

    octets: int | None = None
    end: End = End.FIN
    segment: int = CHUNK
    latency: float = 0.0
    mark: bytes = b""


CLEAR = Flow()
"""Everything passes at once."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """
    What befalls one connection: *up* is from client to server.
    """

    up: Flow = CLEAR
    down: Flow = CLEAR


NONE = Trouble()

Troubles = Callable[[int], Trouble]
"""Takes a connection's number, from 0; returns what shall befall it."""


@dataclass(slots=True)
class Heard:
    """
    The octets of one connection that the relay has read, swallowed ones included.
    """

    up: bytearray = field(default_factory=bytearray)
    down: bytearray = field(default_factory=bytearray)


class Link:
    """
    One connection through the relay: two sockets, and a thread for each direction.
    """

    def __init__(
        self,
        client: socket.socket,
        server: socket.socket,
        trouble: Trouble,
        closed: Event,
    ) -> None:
        self.heard = Heard()
        self._ends = (client, server)
        self._closed = closed
        self._guard = Lock()
        self._ended = False
        for each in self._ends:
            each.settimeout(PATIENCE)
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        up = (client, server, trouble.up, self.heard.up)
        down = (server, client, trouble.down, self.heard.down)
        self._threads = [
            Thread(target=self._pump, args=arguments, daemon=True)
            for arguments in (up, down)
        ]

    def start(self) -> None:
        """
        Begin to pass octets on.
        """
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """
        End the connection, if it has not ended, and join its threads.
        """
        self._end(End.FIN)
        for thread in self._threads:
            thread.join(PATIENCE)
        for each in self._ends:
            each.close()

    def _pump(
        self, source: socket.socket, sink: socket.socket, flow: Flow, heard: bytearray
    ) -> None:
        end = End.FIN
        with contextlib.suppress(OSError):  # the other direction has ended both
            if self._pass_on(source, sink, flow, heard):
                end = flow.end
            if end is End.SILENCE:
                swallow(source, heard)
        self._end(end)

    def _pass_on(
        self, source: socket.socket, sink: socket.socket, flow: Flow, heard: bytearray
    ) -> bool:
        """
        Pass octets on; return True at the flow's measure, False if the source ends.
        """
        while flow.octets is None or len(heard) < flow.octets:
            left = CHUNK if flow.octets is None else flow.octets - len(heard)
            octets = source.recv(min(left, CHUNK))
            heard += octets  # before it is sent: who has received it finds it here
            if not octets:
                return False
            marked = flow.mark and flow.mark in octets
            if marked:
                octets = octets[: octets.index(flow.mark)]
            for start in range(0, len(octets), flow.segment):
                if self._closed.wait(flow.latency):
                    return False
                sink.sendall(octets[start : start + flow.segment])
            if marked:
                return True
        return True

    def _end(self, end: End) -> None:
        """
        End both directions; only the first call does anything.
        """
        with self._guard:
            if self._ended:
                return
            self._ended = True
            for each in self._ends:
                if end is End.RST:
                    reset(each)
                else:
                    shut(each, socket.SHUT_RDWR)


class Relay:
    """
    Relays each connection to *target* until `close`. Listens as soon as it is made.
    """

    def __init__(
        self, target: tuple[str, int], trouble: Trouble | Troubles = NONE
    ) -> None:
        self._target = target
        self._trouble = (lambda _: trouble) if isinstance(trouble, Trouble) else trouble
        self._closed = Event()
        self._links: list[Link] = []
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self._acceptor = Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    @property
    def heard(self) -> list[Heard]:
        """
        What was read, connection by connection.
        """
        return [link.heard for link in self._links]

    def close(self) -> None:
        """
        End every connection and join every thread.
        """
        self._closed.set()
        shut(self._listener, socket.SHUT_RDWR)
        self._acceptor.join(PATIENCE)
        self._listener.close()
        for link in self._links:
            link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the listener was shut down
            while True:
                self._connect(self._listener.accept()[0])

    def _connect(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self._target, PATIENCE)
        except OSError:
            client.close()  # nobody there: the client learns it as an early end
            return
        trouble = self._trouble(len(self._links))
        link = Link(client, server, trouble, self._closed)
        self._links.append(link)  # before it starts: who has received finds it there
        link.start()


def swallow(source: socket.socket, heard: bytearray) -> None:
    """
    Read to the end and pass nothing on.
    """
    while octets := source.recv(CHUNK):
        heard += octets


def reset(connection: socket.socket) -> None:
    """
    Break the connection off with RST, also while another thread reads from it.
    """
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    shut(connection, socket.SHUT_RD)  # wakes the reader, and sends nothing
    connection.close()


def shut(connection: socket.socket, how: int) -> None:
    """
    Shut the connection down, unless it has ended by itself.
    """
    with contextlib.suppress(OSError):
        connection.shutdown(how)
