"""
What a hostile, or a huge, server costs: seconds (also of the processor), and memory.

    python -m benchmarks.limits [--messages 1000000]

Rules of this file: each case is a process of its own, with a real session over a loopback
connection to a server that runs in another; the peak is the kernel's count of what was
resident (ru_maxrss), the interpreter and all imports included. The exit code is 1 when a
case takes more than is allowed, or ends otherwise than it should.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import socket
import sys
import time

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from popfetchd.errors import LimitExceeded
from popfetchd.pop3.session import Session, open_session
from popfetchd.pop3.transport import Deadline, TlsContexts
from popfetchd.selection import ROUND_MESSAGES, in_one_session, select
from popfetchd.values import (
    Account,
    AccountName,
    ArchiveFormat,
    Destination,
    Every,
    InlineSecret,
    Known,
    Login,
    Mechanism,
    Octets,
    RowId,
    Secret,
    Server,
    TlsMode,
    TlsPolicy,
    UniqueId,
)


MILLION = 1_000_000
LISTING_MB = 250
REFUSAL_MB = 100

GREETED = b"+OK ready\r\n"
CAPABILITIES = b"+OK\r\nUIDL\r\nUSER\r\nPIPELINING\r\n.\r\n"
SERVED = 300.0
"""Seconds after which a server of this file gives up."""


# -- servers --------------------------------------------------------------------------


def unique_id(number: int) -> str:
    """
    Return 20 octets, as Dovecot gives some.
    """
    return f"{number:08x}5f3a9c0e1b7d"


def listings(messages: int) -> tuple[bytes, bytes]:
    """
    Return the bodies of UIDL and LIST.
    """
    ids = "".join(f"{n} {unique_id(n)}\r\n" for n in range(1, messages + 1))
    sizes = "".join(f"{n} {2000 + n % 50_000}\r\n" for n in range(1, messages + 1))
    return ids.encode(), sizes.encode()


def serve(
    port: multiprocessing.Queue[int], tell: Callable[[socket.socket], None]
) -> None:
    """
    Serve one connection; *tell* says what is strange, after the login.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port.put(listener.getsockname()[1])
        listener.settimeout(SERVED)
        sock, _ = listener.accept()
    with sock:
        sock.settimeout(SERVED)
        sock.sendall(GREETED)
        for reply in (CAPABILITIES, b"+OK\r\n", b"+OK\r\n", CAPABILITIES):
            sock.recv(1000)
            sock.sendall(reply)
        sock.recv(1000)
        try:
            tell(sock)
            while sock.recv(1000):
                pass
        except OSError:
            pass  # the client has had enough


def told_listing(messages: int) -> Callable[[socket.socket], None]:
    def tell(sock: socket.socket) -> None:
        for body in listings(messages):
            sock.sendall(b"+OK\r\n" + body + b".\r\n")

    return tell


def told_forever(first: bytes, more: bytes) -> Callable[[socket.socket], None]:
    def tell(sock: socket.socket) -> None:
        sock.sendall(first)
        while True:
            sock.sendall(more)

    return tell


# -- clients --------------------------------------------------------------------------


ACCOUNT = Account(
    name=AccountName("alice"),
    server=Server("127.0.0.1", 0, TlsPolicy(TlsMode.NONE), SERVED),
    login=Login("alice", InlineSecret(Secret("x"))),
    destination=Destination(ArchiveFormat.MAILDIR, Path("/srv/mail/alice")),
    schedule=Every(300.0),
)


@contextmanager
def logged_in(port: int) -> Iterator[Session]:
    server = Server("127.0.0.1", port, TlsPolicy(TlsMode.NONE), SERVED)
    with open_session(server, TlsContexts(), Deadline(SERVED)) as session:
        session.login("alice", Secret("x"), Mechanism.USER)
        yield session


def select_all(port: int, messages: int, known: int) -> str:
    """
    List *messages* messages, of which *known* are archived, and decide what to do.
    """
    rows = [
        Known(
            row=RowId(n),
            unique_id=UniqueId(unique_id(n)),
            octets=Octets(2000 + n % 50_000),
            archived_at=1.0,
            accounted=True,
            doubtful=False,
            marked=False,
        )
        for n in range(1, known + 1)
    ]
    with logged_in(port) as session:
        plan = select(session.listing().named, rows, {}, ACCOUNT, now=2.0)
    assert messages - known == len(plan.wanted)
    assert not any((plan.seen.vanished, plan.seen.returned))
    now, later = in_one_session(plan.wanted)
    assert min(messages - known, ROUND_MESSAGES) == len(now)
    return f"{len(now)} to retrieve, {later} left for later"


def refuse(port: int, limit: str) -> str:
    """
    List until the limit named ends it.
    """
    with logged_in(port) as session:
        try:
            session.listing()
        except LimitExceeded as error:
            if error.limit == limit:
                return str(error)
            raise
    raise AssertionError("it was taken")


# -- measuring ------------------------------------------------------------------------


class Cost(NamedTuple):
    """
    What a client said, its seconds, those of the processor, and its peak in MB.
    """

    said: str
    seconds: float
    computed: float
    peak: float


def measured(
    result: multiprocessing.Queue[Cost],
    client: Callable[..., str],
    *arguments: object,
) -> None:
    """
    Run *client* in this process, and tell what it cost.
    """
    begun, computed = time.monotonic(), time.process_time()
    said = client(*arguments)
    seconds, computed = time.monotonic() - begun, time.process_time() - computed
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    result.put(Cost(said, seconds, computed, peak))


def run(
    tell: Callable[[socket.socket], None], client: Callable[..., str], *rest: object
) -> Cost:
    """
    Let *client* visit a server that does *tell*.
    """
    forking = multiprocessing.get_context("fork")
    port, result = forking.Queue(), forking.Queue()
    server = forking.Process(target=serve, args=(port, tell))
    server.start()
    visitor = forking.Process(
        target=measured, args=(result, client, port.get(timeout=SERVED), *rest)
    )
    visitor.start()
    visitor.join(SERVED)
    server.kill()
    server.join()
    assert visitor.exitcode == 0, visitor.exitcode
    return result.get(timeout=10)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=MILLION)
    messages = parser.parse_args().messages
    listed = told_listing(messages)
    endless = told_forever(b"+OK\r\n", b"1 abcdefghij\r\n" * 5000)
    line = told_forever(b"+OK ", b"x" * 65_536)
    long_line = told_forever(b"+OK\r\n1 ", b"x" * 65_536)
    cases = (
        (f"{messages} listed", LISTING_MB, listed, select_all, messages, 0),
        (f"{messages} known", None, listed, select_all, messages, messages),
        ("an endless listing", REFUSAL_MB, endless, refuse, "LISTING_OCTETS"),
        ("an endless status line", REFUSAL_MB, line, refuse, "LONGEST_REPLY"),
        (
            "an endless line in a listing",
            REFUSAL_MB,
            long_line,
            refuse,
            "LISTING_OCTETS",
        ),
    )
    failed = False
    for name, most, tell, client, *rest in cases:
        cost = run(tell, client, *rest)
        over = most is not None and cost.peak > most
        failed |= over
        took = f"{cost.seconds:7.2f} s {cost.computed:7.2f} s"
        print(f"{name:30} {took} {cost.peak:6.0f} MB  {cost.said}{' OVER' * over}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
