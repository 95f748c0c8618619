"""
The stored form of a message, and the digest of its header: octets in, octets out.

Rules of this file:

- No I/O; nothing is held but a few octets; no work per line. Whatever the chunks in
  which a message comes, the result is the same.
- LF: each CRLF became LF; only where the message holds no other CR and no other LF.
  EXACT: unchanged. Either can be undone (`restored`), so nothing is lost by storing:
  LF is undone at once and compared, which is the proof, and faster than to count pairs.
- The *header* of a message is what stands before its first empty line, without the line
  end that closes its last line. So RETR and TOP 0 give the same digest, whether or not
  the server sends the empty line after the header, or ends a last line that had no end.
"""

from __future__ import annotations

import hashlib
import re

from collections.abc import Iterable, Iterator
from pathlib import Path

from popfetchd.values import HeaderDigest, StoredForm


HEADER_KEPT = 64 * 1024
"""Octets of a header that are kept to be read: the topmost Received is far above that."""

READ_OCTETS = 256 * 1024
"""Read at a time when a stored message is restored."""

EMPTY_LINE_FIRST = re.compile(rb"\A\r?\n|\r?\n\r?\n")
"""The end of a line, and an empty one. A server that sends bare LF is understood too. A
message without a header opens with the empty line."""

LF_AND_EMPTY_LINE = re.compile(rb"\n\r?\n")
"""The same without the CR of the line's end: as it begins with one octet that must be, it
is found fifteen times as fast."""

LAST_LINE_END = re.compile(rb"\r?\n\Z")

HELD_BACK = 3
"""Octets that may be the start of an empty line whose end has not come: CR LF CR."""


class ToLf:
    """
    Turns CRLF into LF as long as that can be undone. *lines* counts the LFs it gave.
    """

    def __init__(self) -> None:
        self.lines = 0
        self.held = b""
        """A CR at the end of a chunk: the next one tells what it is."""

    def convert(self, chunk: bytes) -> bytes | None:
        """
        Return *chunk* (and what was held before it) with LF for CRLF.

        None when it holds a bare CR or LF: then nothing has changed, and what was
        returned so far can be turned back.
        """
        octets = self.held + chunk
        held = octets[-1:] if octets.endswith(b"\r") else b""
        body = octets[: len(octets) - len(held)]
        lines = body.replace(b"\r", b"")  # ten times as fast as to replace CRLF by LF
        if widened(lines) != body:
            return None
        self.lines += len(body) - len(lines)
        self.held = held
        return lines


def widened(lines: bytes) -> bytes:
    """
    Return *lines* with CRLF for each LF: what was stored as LF, as it was sent.
    """
    return lines.replace(b"\n", b"\r\n")


def restored(chunks: Iterable[bytes], form: StoredForm) -> Iterator[bytes]:
    """
    Return what the server sent, from the pieces of a stored message.
    """
    if form is StoredForm.EXACT:
        return iter(chunks)
    return map(widened, chunks)


def restore(path: Path, form: StoredForm) -> Iterator[bytes]:
    """
    Return, in pieces, the octets the server sent, from the file at *path*.

    OSError when the file cannot be read.
    """
    with path.open("rb") as stored:
        yield from restored(iter(lambda: stored.read(READ_OCTETS), b""), form)


class Header:
    """
    Digests a message's header as its octets come, and keeps the start of it.
    """

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._tail = b""
        self._ended = False
        self._begun = False
        self._kept = bytearray()

    def feed(self, chunk: bytes) -> None:
        """
        Take the next octets of the message.
        """
        if self._ended or not chunk:
            return
        octets = self._tail + chunk
        end = self._end(octets)
        if end is not None:
            self._take(octets[:end])
            self._tail, self._ended = b"", True
        elif len(octets) > HELD_BACK:
            self._take(octets[:-HELD_BACK])
            self._tail, self._begun = octets[-HELD_BACK:], True
        else:
            self._tail = octets

    def _end(self, octets: bytes) -> int | None:
        if not self._begun and octets.startswith((b"\n", b"\r\n")):
            return 0
        found = LF_AND_EMPTY_LINE.search(octets)
        if found is None:
            return None
        return found.start() - octets.endswith(b"\r", 0, found.start())

    def finish(self) -> HeaderDigest:
        """
        Return the digest, once the message is complete.
        """
        self._take(LAST_LINE_END.sub(b"", self._tail))
        self._tail, self._ended = b"", True
        return HeaderDigest(self._digest.digest())

    @property
    def kept(self) -> bytes:
        """
        The header's first HEADER_KEPT octets.
        """
        return bytes(self._kept)

    def _take(self, octets: bytes) -> None:
        self._digest.update(octets)
        room = HEADER_KEPT - len(self._kept)
        if room > 0:
            self._kept += octets[:room]


def header_digest(octets: bytes) -> HeaderDigest:
    """
    Return the digest of the header in *octets*: of a message, or the answer to TOP 0.
    """
    header = Header()
    header.feed(octets)
    return header.finish()
