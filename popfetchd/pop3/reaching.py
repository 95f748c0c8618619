"""
The way to a server: its name, its addresses, the proxy before it.

Rules of this file:

- The addresses of both families are raced, the preferred one with a head start (RFC 8305):
  a dead IPv6 costs a quarter of a second, not a timeout. What was tried is told.
- `getaddrinfo` cannot be interrupted: it runs in a thread that is left behind when it
  takes too long.
- Through a proxy nothing is asked of the DNS here but the proxy's own name: the server's
  goes to the proxy as it is written (what others call socks5h).
- python-socks speaks to the proxy, over a connection that is made, bounded and closed
  here. It is an extra, imported late.
"""

from __future__ import annotations

import errno
import os
import queue
import selectors
import socket
import threading

from collections import deque
from dataclasses import replace
from itertools import zip_longest
from socket import IPPROTO_TCP, SO_ERROR, SOL_SOCKET, TCP_NODELAY
from typing import Any, Self, cast

from popfetchd.errors import (
    ConnectFailed,
    ExtraMissing,
    NameNotResolved,
    ProxyFailed,
    SourceUnusable,
)
from popfetchd.pop3.deadline import Deadline, Limit
from popfetchd.problems import problem
from popfetchd.values import Channel, Proxy, Server


ATTEMPT_DELAY = 0.25
"""Seconds that an address has for itself before the next is tried too (RFC 8305 §5)."""

MOST_ADDRESSES = 16
"""Addresses of one name that are tried: no honest name needs more."""

NO_ANSWER = "no answer"
"""What is told of an address that was tried and had not settled."""

NO_SOCKS = "it does not speak SOCKS 5"

_Address = tuple[Any, ...]
"""What getaddrinfo returns: family, type, protocol, canonical name, socket address."""


def reach(server: Server, limit: Limit) -> tuple[socket.socket, Channel]:
    """
    Return a connection to *server*, through its proxy if it has one.

    Raises NetworkError; ExtraMissing where the proxy needs a package that is not here.
    """
    if server.proxy is None:
        return _connected(server.host, server.port, server.source_address, limit)
    proxy = server.proxy
    sock, channel = _connected(proxy.host, proxy.port, server.source_address, limit)
    try:
        _pass_through(proxy, server, sock, limit)
    except BaseException:
        sock.close()
        raise
    return sock, replace(channel, proxy=str(proxy))


# -- names ----------------------------------------------------------------------------


def _resolve(host: str, port: int, limit: Limit) -> list[_Address]:
    """
    Return the addresses of *host*, in the order in which to try them.
    """
    answers: queue.SimpleQueue[list[_Address] | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(_lookup(host, port))
        except (OSError, ValueError) as error:  # ValueError: no host name at all
            answers.put(error)

    threading.Thread(target=ask, name=f"resolve {host}", daemon=True).start()
    try:
        answer = answers.get(timeout=limit.seconds("name resolution"))
    except queue.Empty:
        raise limit.passed("name resolution") from None
    if isinstance(answer, Exception):
        raise NameNotResolved(host, problem(answer)) from answer
    return answer


def _lookup(host: str, port: int) -> list[_Address]:
    # In the order of RFC 6724, which knows what this machine can reach.
    return list(socket.getaddrinfo(ascii_name(host), port, type=socket.SOCK_STREAM))


def ascii_name(host: str) -> str | bytes:
    """
    Return *host* in octets, if it is ASCII: of a text, Python would load the tables of
    international names.
    """
    return host.encode() if host.isascii() else host


def _alternating(addresses: list[_Address]) -> list[_Address]:
    """
    Alternate between the families, beginning with the one preferred (RFC 8305 §4).
    """
    first = [address for address in addresses if address[0] == addresses[0][0]]
    other = [address for address in addresses if address[0] != addresses[0][0]]
    pairs = zip_longest(first, other)
    return [address for pair in pairs for address in pair if address]


def _from(source: str, host: str, addresses: list[_Address]) -> list[_Address]:
    """
    Return those of *addresses* that can be reached from *source*: of its family.
    """
    family = _place(source)[0]
    usable = [address for address in addresses if address[0] == family]
    if addresses and not usable:
        raise SourceUnusable(source, f"{host} has no address of its family")
    return usable


def _place(source: str) -> tuple[socket.AddressFamily, _Address]:
    flags = socket.AI_NUMERICHOST
    family, _, _, _, place = socket.getaddrinfo(source, 0, flags=flags)[0]
    return family, place


# -- addresses ------------------------------------------------------------------------


def _connected(
    host: str, port: int, source: str | None, limit: Limit
) -> tuple[socket.socket, Channel]:
    """
    Connect to the first address of *host* that lets us.
    """
    addresses = _resolve(host, port, limit)
    if source is not None:
        addresses = _from(source, host, addresses)
    race = _Race(_alternating(addresses)[:MOST_ADDRESSES], source)
    try:
        sock, address = race.run(Deadline(limit.seconds("connect")))
    except TimeoutError:
        raise limit.passed(f"connect to {', '.join(race.tried)}") from None
    except OSError as error:
        raise ConnectFailed(host, port, problem(error), race.tried) from error
    others = tuple(tried for tried in race.tried if tried != address)
    return sock, Channel(address, tried=others)


class _Race:
    """
    Tries each address ATTEMPT_DELAY after the last, at once when that has failed.

    *tried* has the addresses tried so far, with what became of each.
    """

    def __init__(self, addresses: list[_Address], source: str | None) -> None:
        self.tried: dict[str, str] = {}
        self._waiting = deque(addresses)
        self._source = source
        self._running = selectors.DefaultSelector()

    def run(self, deadline: Deadline) -> tuple[socket.socket, str]:
        """
        Return the first connection, with its address; the others are closed.

        Raises the last OSError; TimeoutError at the *deadline*.
        """
        last = OSError("the name has no address")
        with self._running:
            try:
                while self._waiting or self._running.get_map():
                    if self._waiting and (error := self._start()):
                        last = error
                        continue
                    for sock, address in self._settled(deadline):
                        self._running.unregister(sock)
                        if not (number := sock.getsockopt(SOL_SOCKET, SO_ERROR)):
                            return sock, address
                        sock.close()
                        last = self._failed(address, number)
            finally:
                for key in list(self._running.get_map().values()):
                    key.data[0].close()
        raise last

    def _start(self) -> OSError | None:
        """
        Begin to connect to the next address; return the error if that fails at once.
        """
        family, kind, protocol, _, place = self._waiting.popleft()
        self.tried[place[0]] = NO_ANSWER
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError as error:  # a family that this machine does not have
            return self._failed(place[0], error.errno)
        try:
            self._bind(sock)
        except BaseException:
            sock.close()
            raise
        sock.setblocking(False)
        sock.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        number = sock.connect_ex(place)
        if number not in {0, errno.EINPROGRESS}:
            sock.close()
            return self._failed(place[0], number)
        self._running.register(sock, selectors.EVENT_WRITE, data=(sock, place[0]))
        return None

    def _bind(self, sock: socket.socket) -> None:
        if self._source is None:
            return
        try:
            sock.bind(_place(self._source)[1])
        except OSError as error:
            raise SourceUnusable(self._source, problem(error)) from error

    def _settled(self, deadline: Deadline) -> list[tuple[socket.socket, str]]:
        """
        Wait for attempts that have succeeded or failed; with more to try, not for long.
        """
        left = deadline.remaining()
        if left <= 0:
            raise TimeoutError
        ready = self._running.select(
            min(left, ATTEMPT_DELAY) if self._waiting else left
        )
        return [key.data for key, _ in ready]

    def _failed(self, address: str, number: int | None) -> OSError:
        self.tried[address] = os.strerror(number or 0)
        return OSError(number, self.tried[address])


# -- proxies --------------------------------------------------------------------------


def _pass_through(
    proxy: Proxy, server: Server, sock: socket.socket, limit: Limit
) -> None:
    """
    Ask *proxy*, to which *sock* leads, for a connection to *server* (RFC 1928).
    """
    try:
        import python_socks  # noqa: PLC0415 -- an extra, see the rules above
        import python_socks.sync  # noqa: PLC0415
    except ImportError:
        raise ExtraMissing("python-socks", "socks") from None
    step = f"the dialogue with the proxy {proxy}"
    bounded = _Bounded(sock, Deadline(limit.seconds(step)))
    asked = python_socks.sync.Proxy(
        python_socks.ProxyType.SOCKS5,
        proxy.host,
        proxy.port,
        username=proxy.user,
        password=None if proxy.password is None else proxy.password.reveal(),
        rdns=True,
        forward=cast("Any", bounded),
    )
    try:
        asked.connect(server.host, server.port)
    except TimeoutError:
        raise limit.passed(step) from None
    except (python_socks.ProxyError, OSError, ValueError) as error:
        # Not repeated: a ValueError may hold what it could not encode.
        told = NO_SOCKS if isinstance(error, ValueError) else problem(error)
        raise ProxyFailed(str(proxy), server.host, server.port, told) from None


class _Bounded:
    """
    The connection as python-socks uses it: every wait ends at one deadline.

    It stands for a proxy before the proxy, whose connection python-socks takes over.
    """

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._sock = sock
        self._deadline = deadline

    def connect(self, **_: object) -> Self:
        return self

    def recv(self, most: int) -> bytes:
        return self._in_time().recv(most)

    def sendall(self, octets: bytes) -> None:
        self._in_time().sendall(octets)

    def close(self) -> None:
        """
        Do nothing: `reach` closes what it has opened.
        """

    def _in_time(self) -> socket.socket:
        left = self._deadline.remaining()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(left)
        return self._sock
