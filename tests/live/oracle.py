"""
What a server really sends, found out in the rawest way there is.

Rules of this file:

- It shares no line with popfetchd: its mistakes are not ours.
- It reads until CRLF "." CRLF and takes one dot off each line that begins with two
  (RFC 1939 §3; no server that stuffs ever sends one alone). It knows nothing else of
  POP3 and forgives nothing.
"""

from __future__ import annotations

import socket
import ssl

from pathlib import Path


PATIENCE = 30.0
"""Seconds that any one read may take."""


class Raw:
    """
    A POP3S session without any cleverness.
    """

    def __init__(self, host: str, port: int, ca_file: Path) -> None:
        context = ssl.create_default_context(cafile=ca_file)
        plain = socket.create_connection((host, port), PATIENCE)
        self.socket = context.wrap_socket(plain, server_hostname=host)
        self._rest = b""
        self.reply()

    def command(self, line: str) -> bytes:
        """
        Send one command and return its reply line, which must be +OK.
        """
        self.socket.sendall(line.encode() + b"\r\n")
        return self.reply()

    def reply(self) -> bytes:
        """
        Return the next reply line, without its CRLF.
        """
        reply = self._until(b"\r\n")[:-2]
        assert reply.startswith(b"+OK"), reply
        return reply

    def body(self) -> bytes:
        """
        Return the rest of a multi-line response, byte-stuffing removed.
        """
        # The reply's own CRLF is put back before it: an empty body is ".\r\n" alone.
        self._rest = b"\r\n" + self._rest
        whole = self._until(b"\r\n.\r\n")[2:-3]
        lines = whole.split(b"\r\n")
        return b"\r\n".join(line[1:] if line[:2] == b".." else line for line in lines)

    def _until(self, end: bytes) -> bytes:
        chunks, seen = [self._rest], self._rest
        while end not in seen:
            chunk = self.socket.recv(65536)
            assert chunk, "the server hung up"
            chunks.append(chunk)
            seen = seen[-len(end) :] + chunk
        found, _, self._rest = b"".join(chunks).partition(end)
        return found + end


def fetch_raw(
    port: int, user: str, password: str, ca_file: Path, host: str = "127.0.0.1"
) -> list[bytes]:
    """
    Return every message of a maildrop as the server sends it; remove nothing.
    """
    raw = Raw(host, port, ca_file)
    try:
        raw.command(f"USER {user}")
        raw.command(f"PASS {password}")
        count = int(raw.command("STAT").split()[1])
        messages = []
        for number in range(1, count + 1):
            raw.command(f"RETR {number}")
            messages.append(raw.body())
        raw.command("QUIT")
        return messages
    finally:
        raw.socket.close()
