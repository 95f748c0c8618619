r"""
Where a multi-line response ends, and which octets are the message (RFC 1939 §3).

Rules of this file:

- Octets are looked at in chunks, never line by line: `find` for the terminator and
  `replace` for the byte-stuffing ("dot-stuffing") do all the work. A chunk without a dot,
  as most of an attachment is, has neither, and to look for one octet costs next to nothing.
- The message is exact: the line end before the terminating dot belongs to it, bodies
  have lines of any length, NUL and bare CR or LF are octets like others.
- What follows the terminator is never touched: it is the next response, or an attack.
- The line end is the one that ended the status line. A server that ends that in a bare
  LF is taken at its word for this response; otherwise only CRLF.CRLF is an end, so that
  no message can end itself early with LF.LF.
- A line that begins with a single dot comes from a server that does not stuff. RFC 1939
  would have us strip the dot; it is kept, since stripping it would lose an octet (P1).
"""

from __future__ import annotations

from popfetchd.errors import LimitExceeded


CRLF = b"\r\n"


class MultilineReader:
    """
    Reads one multi-line response out of a buffer that its owner keeps.

    It begins at the line end of the status line: so an empty message, whose first line
    is the terminator, needs no rule of its own.
    """

    def __init__(self, line_end: bytes = CRLF) -> None:
        self._line_end = line_end
        self._terminator = line_end + b"." + line_end
        self._stuffed = line_end + b".."
        self._plain = line_end + b"."
        self._foreign = len(line_end)
        self.ended = False

    def read(self, buffer: bytes, at: int) -> tuple[bytes, int]:
        """
        Return octets of the message, and where in *buffer* to go on.

        *buffer* from *at* must begin with what the last call left there. No octets and
        not `ended` means: more is needed.
        """
        dotted = buffer.find(b".", at) >= 0
        stop = buffer.find(self._terminator, at) if dotted else -1
        if stop < 0:
            stop = behind = len(buffer) - self._undecided(buffer, at)
        else:
            self.ended = True
            behind = stop + len(self._terminator)
            stop += len(self._line_end)
        chunk = buffer[at:stop]
        if dotted:
            chunk = chunk.replace(self._stuffed, self._plain)
        return self._own(chunk), behind

    def _undecided(self, buffer: bytes, at: int) -> int:
        """
        Count the last octets that may turn out to begin the terminator, or a stuffing.
        """
        longest = len(self._terminator) - 1
        if buffer.find(self._terminator[:1], max(at, len(buffer) - longest)) < 0:
            return 0  # as nearly always
        for length in range(longest, 0, -1):
            if buffer.endswith(self._terminator[:length], at):
                return length
        return 0

    def _own(self, chunk: bytes) -> bytes:
        """
        Take away the status line's end, which comes with the first octets.
        """
        if not chunk or not self._foreign:
            return chunk
        foreign, self._foreign = self._foreign, 0
        return chunk[foreign:]


class Collector:
    """
    Gathers a listing whole, up to *allowed* octets; *limit* names the constant.
    """

    def __init__(self, limit: str, allowed: int) -> None:
        self._limit = limit
        self._allowed = allowed
        self._octets = bytearray()  # not a list: a chunk may be one octet

    def add(self, chunk: bytes) -> None:
        """
        Keep *chunk*. Raises LimitExceeded when there is no room for it.
        """
        if len(self._octets) + len(chunk) > self._allowed:
            raise LimitExceeded(self._limit, self._allowed)
        self._octets += chunk

    def octets(self) -> bytes:
        """
        Return all that was kept.
        """
        return bytes(self._octets)
