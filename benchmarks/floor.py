"""
The floor: a pipelining POP3 client that throws away all that it is sent.

    python -m benchmarks.floor FILE.json

It keeps no promise at all: one write carries the credentials, another every RETR, DELE
and the QUIT, and what comes is counted and dropped. Nothing that archives can be faster
in the same language; what is above it is the price of keeping the mail.
"""

from __future__ import annotations

import json
import select
import socket
import ssl
import sys

from concurrent.futures import ThreadPoolExecutor
from typing import Any


CHUNK = 1 << 18
PATIENCE = 300.0
PORTION = 16_000
"""Octets of commands written at once: one TLS record."""


class Line:
    """
    A TLS connection whose commands go out while replies come in.
    """

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        connection = socket.create_connection(("127.0.0.1", port), PATIENCE)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._tls = context.wrap_socket(connection, server_hostname="127.0.0.1")
        self._tls.setblocking(False)
        self._lines = b""

    def line(self) -> bytes:
        """
        Return the next line of the server's.
        """
        while b"\n" not in self._lines:
            self._lines += self._read() or b""
        line, _, self._lines = self._lines.partition(b"\n")
        return line

    def say(self, octets: bytes) -> None:
        """
        Send a few commands.
        """
        self._tls.send(octets)

    def drain(self, octets: bytes) -> int:
        """
        Send *octets* and read to the end; return how many octets came.
        """
        rest, came = memoryview(octets), 0
        while True:
            if rest:
                rest = rest[self._write(rest[:PORTION]) :]
            read = self._read(wait=not rest)
            if read == b"":
                return came
            came += len(read or b"")

    def _write(self, octets: memoryview) -> int:
        try:
            return self._tls.send(octets)
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            return 0

    def _read(self, wait: bool = True) -> bytes | None:
        try:
            return self._tls.recv(CHUNK)
        except ssl.SSLWantReadError:
            select.select([self._tls], [], [], PATIENCE if wait else 0)
            return None


def fetch(port: int, user: str, password: str, keep: bool, ca: str) -> int:
    """
    Retrieve all messages of a maildrop; return how many octets came.
    """
    line = Line(port, ssl.create_default_context(cafile=ca))
    line.line()
    line.say(f"USER {user}\r\nPASS {password}\r\nSTAT\r\n".encode())
    line.line()
    line.line()
    count = int(line.line().split()[1])
    per_message = "RETR {0}\r\n" if keep else "RETR {0}\r\nDELE {0}\r\n"
    commands = "".join(per_message.format(n) for n in range(1, count + 1))
    return line.drain(f"{commands}QUIT\r\n".encode())


def main() -> None:
    with open(sys.argv[1], encoding="utf-8") as file:  # noqa: PTH123 -- pathlib costs
        job: dict[str, Any] = json.load(file)
    with ThreadPoolExecutor(job["together"]) as pool:
        found = pool.map(lambda account: fetch(**account), job["accounts"])
        print(sum(found))


if __name__ == "__main__":
    main()
