"""
A network of a given round trip, as a process of its own.

    python -m benchmarks.relay PORT SECONDS [LISTEN]

It relays each connection to PORT of loopback, every octet SECONDS / 2 late in each
direction, and counts round trips. Its own port (LISTEN, or a free one) is the first line
that it prints; when its standard input ends, it prints what it counted, as JSON, and
ends.

Rules of this file:

- Latency, and no limit of throughput: what is read is held until its time, not paced.
- One thread and few system calls: on a machine with two cores it stands in nobody's way.
- A *round trip* is a link in the longest chain of "sent after something was received":
  what the client sends carries the number of the newest octets that it could have read,
  the server's answer to it one more. Pipelined commands share one. TCP's own handshake,
  which the relay answers itself, counts as one, and its time is waited for.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import json
import selectors
import socket
import sys
import time

from collections.abc import Callable
from dataclasses import dataclass


HOST = "127.0.0.1"

CHUNK = 1 << 18
"""Octets of one read."""

PAUSE = 0.001
"""Seconds until a socket whose buffer was full is tried again."""

HANDSHAKE = 1
"""Round trips of TCP before the first octet may be sent."""


class End:
    """
    One side of a connection: what is on its way to it, and what it has received.
    """

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = connection
        self.waiting = bytearray()  # due, and not yet taken by the socket
        self.blocked = False
        self.ending = False
        self.ended = False
        self.turn = 0  # the newest that it has received


@dataclass
class Link:
    """
    A connection: the client's end and the server's.
    """

    client: End
    server: End

    def other(self, end: End) -> End:
        return self.server if end is self.client else self.client


class Relay:
    """
    Relays until `stopped`. *delay* is that of one direction, in seconds.
    """

    def __init__(self, port: int, delay: float, listen: int = 0) -> None:
        self._target = (HOST, port)
        self._delay = delay
        self._selector = selectors.DefaultSelector()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._stopped = False
        self._listener = socket.create_server((HOST, listen), backlog=1024)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        self.round_trips = 0
        self.octets = 0

    def run(self) -> None:
        """
        Relay until standard input ends.
        """
        self._watch(self._listener, selectors.EVENT_READ, self._accept)
        self._watch(sys.stdin, selectors.EVENT_READ, self._stop)
        while not self._stopped:
            for key, _ in self._selector.select(self._patience()):
                key.data()
            self._release()

    # -- time -------------------------------------------------------------------------

    def _later(self, seconds: float, act: Callable[[], None]) -> None:
        entry = (time.monotonic() + seconds, next(self._order), act)
        heapq.heappush(self._due, entry)

    def _patience(self) -> float | None:
        if not self._due:
            return None
        return max(0.0, self._due[0][0] - time.monotonic())

    def _release(self) -> None:
        now = time.monotonic()
        while self._due and self._due[0][0] <= now:
            heapq.heappop(self._due)[2]()

    # -- connections ------------------------------------------------------------------

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                client = End(self._listener.accept()[0])
                self.connections += 1
                self.round_trips += HANDSHAKE
                # The system has answered at once; the client's first octets, or the
                # server's, come as late as if it had waited for the network.
                self._later(2 * self._delay, lambda c=client: self._connect(c))

    def _connect(self, client: End) -> None:
        try:
            server = End(socket.create_connection(self._target, 10))
        except OSError:
            client.socket.close()
            return
        link = Link(client, server)
        for end in (client, server):
            self._listen(link, end)

    def _listen(self, link: Link, end: End) -> None:
        def act() -> None:
            self._receive(link, end)

        self._watch(end.socket, selectors.EVENT_READ, act)

    def _receive(self, link: Link, end: End) -> None:
        """
        Read from *end* and send it on its way to the other.
        """
        try:
            octets = end.socket.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            octets = b""
        if not octets:
            self._selector.unregister(end.socket)
        turn = end.turn + (end is link.server)
        self.octets += len(octets)
        self._later(self._delay, lambda: self._arrive(link, end, octets, turn))

    def _arrive(self, link: Link, sender: End, octets: bytes, turn: int) -> None:
        """
        Give *octets* to the other side of *sender*; none mean that it has ended.
        """
        end = link.other(sender)
        if octets and turn > end.turn:
            self.round_trips += (turn - end.turn) * (end is link.client)
            end.turn = turn
        end.waiting += octets
        end.ending = end.ending or not octets
        if not end.blocked:
            self._send(link, end)

    def _send(self, link: Link, end: End) -> None:
        try:
            while end.waiting:
                del end.waiting[: end.socket.send(end.waiting)]
        except BlockingIOError:
            self._later(PAUSE, lambda: self._send(link, end))
        except OSError:
            end.waiting.clear()
        end.blocked = bool(end.waiting)
        if end.ending and not end.waiting:
            self._end(link, end)

    def _end(self, link: Link, end: End) -> None:
        with contextlib.suppress(OSError):
            end.socket.shutdown(socket.SHUT_WR)
        end.ended = True
        if link.other(end).ended:
            link.client.socket.close()
            link.server.socket.close()

    # -- the loop ---------------------------------------------------------------------

    def _watch(self, file: object, events: int, act: Callable[[], None]) -> None:
        self._selector.register(file, events, act)  # type: ignore[arg-type]

    def _stop(self) -> None:
        self._stopped = not sys.stdin.buffer.read1()


def main() -> None:
    port, round_trip, *listen = sys.argv[1:]
    relay = Relay(int(port), float(round_trip) / 2, *map(int, listen))
    print(relay.port, flush=True)
    relay.run()
    counted = {
        "connections": relay.connections,
        "round_trips": relay.round_trips,
        "octets": relay.octets,
    }
    print(json.dumps(counted), flush=True)


if __name__ == "__main__":
    main()
