"""
The mbox format, in its reversible variant mboxrd: octets in, octets out.

    From ada@example.org Tue Nov 14 22:13:20 2023      the From_ line
    Subject: hello

    >From here on a line that began with "From " has one ">" more.
                                                       one empty line
    From …

Rules of this file:

- No I/O; nothing is held but a few octets and one header. Whatever the chunks in which
  a message comes, the result is the same.
- Each line that is `From ` behind any number of ">" gets one more of them, and loses it
  again when it is read: no octet of a message is altered for good.
- What strangers wrote never shapes a From_ line: the sender is a word of printable ASCII
  or MAILER-DAEMON, the date is made from a number.
- A mail reader that writes the file anew changes some header fields and the empty lines
  at a message's end. `Bare` digests a message without them, so that it is found again.
"""

from __future__ import annotations

import hashlib
import re
import time

from collections.abc import Iterable, Iterator

from popfetchd.archive.form import EMPTY_LINE_FIRST, HEADER_KEPT
from popfetchd.values import ContentDigest


NOBODY = b"MAILER-DAEMON"
"""The sender where there is none, or none that could stand there (as mail servers do)."""

SENDER = re.compile(
    rb"^return-path:[ \t]*<([!-;=?-~]{1,256})>[ \t]*\r?$", re.IGNORECASE | re.MULTILINE
)
"""The envelope sender (RFC 5321 section 4.4) as one word: no blank, no "<" or ">"."""

RETURN_PATH = re.compile(rb"^return-path:", re.IGNORECASE | re.MULTILINE)

LONGEST_FROM_LINE = 1000
"""Octets of a From_ line (RFC 5322 section 2.1.1 for any line); a longer one is none."""

FROM_LINE = re.compile(rb"\nFrom [^\n]{0,%d}\n" % (LONGEST_FROM_LINE - 7))
"""What separates two messages: the end of a line, and a From_ line."""

TO_QUOTE = re.compile(rb"(\n>*)From ")

TO_UNQUOTE = re.compile(rb"(\n>*)>From ")

UNDECIDED = re.compile(rb"\n>*?(>?(?:F(?:r(?:om?)?)?)?)\Z")
"""The end of a chunk that may be a quoted From_ line; its group 1 is held back."""

LONGEST_HEADER = 1024 * 1024
"""Octets of a header in which readers' fields are looked for; far above any real one."""

READERS_FIELDS = re.compile(
    rb"^(?:status|x-status|x-uid|x-keywords|x-imap[a-z]*|content-length|lines):.*\n"
    rb"(?:[ \t].*\n)*",
    re.IGNORECASE | re.MULTILINE,
)
"""Fields that mutt, Dovecot, Python and others write, with their folded lines."""


def from_line(header: bytes, arrived_at: float) -> bytes:
    """
    Return the From_ line of the message with *header*, arrived then (since 1970, UTC).
    """
    date = time.asctime(time.gmtime(arrived_at)).encode()
    return b"From %s %s\n" % (_sender(header[:HEADER_KEPT]), date)


def _sender(header: bytes) -> bytes:
    # The topmost is the last server's; one below it may be anybody's.
    end = EMPTY_LINE_FIRST.search(header)
    header = header if end is None else header[: end.start()]
    first = RETURN_PATH.search(header)
    found = SENDER.match(header, first.start()) if first else None
    return found[1] if found else NOBODY


def entry(line: bytes, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """
    Return, in pieces, what stands in an mbox for the stored message in *chunks*.

    *line* is its From_ line. A last line without an end is given one.
    """
    yield line
    quoting, last = Requoting(TO_QUOTE, rb"\1>From "), b"\n"
    for chunk in chunks:
        last = chunk[-1:] or last
        yield quoting.feed(chunk)
    yield quoting.end() + (b"\n" if last == b"\n" else b"\n\n")


class Requoting:
    """
    Gives each quoted From_ line one ">" more, or one less.
    """

    def __init__(self, pattern: re.Pattern[bytes], replacement: bytes) -> None:
        self._pattern = pattern
        self._replacement = replacement
        self._before = b"\n"
        """A line's end, if what comes next begins a line (or stands behind its ">")."""
        self._held = b""

    def feed(self, chunk: bytes) -> bytes:
        """
        Take the next octets; return those that are decided.
        """
        octets = self._before + self._held + chunk
        undecided = UNDECIDED.search(octets, max(0, octets.rfind(b"\n")))
        held = undecided[1] if undecided else b""
        skip, self._before = len(self._before), b"\n" if undecided else b""
        self._held = held
        return self._requoted(octets[: len(octets) - len(held)])[skip:]

    def end(self) -> bytes:
        """
        Return what was held back, once the message is complete.
        """
        held, self._held = self._held, b""
        return held

    def _requoted(self, octets: bytes) -> bytes:
        if b"From " not in octets:  # nearly always, and much faster
            return octets
        return self._pattern.sub(self._replacement, octets)


def unquoting() -> Requoting:
    """
    Return what takes one ">" off each quoted From_ line.
    """
    return Requoting(TO_UNQUOTE, rb"\1From ")


class Content:
    """
    Digests the message within one entry, from its octets behind the From_ line.
    """

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._unquoting = unquoting()
        self._end = b""

    def feed(self, octets: bytes) -> None:
        """
        Take the next octets of the entry.
        """
        body = self._end + self._unquoting.feed(octets)
        self._digest.update(body[:-2])
        self._end = body[-2:]

    def is_of(self, content: ContentDigest) -> bool:
        """
        Tell whether it is the stored form of digest *content*.

        Without the empty line, and without the line end that a message without one got.
        """
        end = self._end + self._unquoting.end()
        if end[-1:] != b"\n":
            return False
        whole = self._digest.copy()
        whole.update(end[:-1])
        return content == whole.digest() or (
            end == b"\n\n" and content == self._digest.digest()
        )


class Bare:
    """
    Digests a message (its stored form) without what mail readers change.
    """

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._to_the_end = self._digest.copy()
        """Without the line ends that were last."""
        self._header: bytes | None = b""

    def feed(self, octets: bytes) -> None:
        """
        Take the next octets of the message.
        """
        if self._header is None:
            self._take(octets)
            return
        self._header += octets
        end = EMPTY_LINE_FIRST.search(self._header)
        if end is not None:
            self._leave_header(end.end())
        elif len(self._header) > LONGEST_HEADER:
            self._leave_header(0)

    def digest(self) -> ContentDigest:
        """
        Return the digest, once the message is complete.
        """
        if self._header is not None:
            self._leave_header(len(self._header))
        return ContentDigest(self._to_the_end.digest())

    def _leave_header(self, end: int) -> None:
        octets, self._header = self._header or b"", None
        header = octets[:end].replace(b"\r\n", b"\n")  # as some readers make it
        self._take(READERS_FIELDS.sub(b"", header) + octets[end:])

    def _take(self, octets: bytes) -> None:
        # Line ends count only once something stands behind them.
        solid = octets.rstrip(b"\r\n")
        if solid:
            self._digest.update(solid)
            self._to_the_end = self._digest.copy()
        self._digest.update(octets[len(solid) :])


def bare_digests(chunks: Iterable[bytes]) -> Iterator[ContentDigest]:
    """
    Return the `Bare` digest of each message in the mbox that *chunks* are.
    """
    letter: Letter | None = None
    rest = b"\n"  # its first octet only tells what stands before the others
    for chunk in chunks:
        rest += chunk
        at = 0
        while found := FROM_LINE.search(rest, at):
            if letter is not None:
                letter.feed(rest[at + 1 : found.start() + 1])
                yield letter.digest()
            letter, at = Letter(), found.end() - 1
        decided = max(at, len(rest) - 1 - LONGEST_FROM_LINE)
        if letter is not None:
            letter.feed(rest[at + 1 : decided + 1])
        rest = rest[decided:]
    if letter is not None:
        letter.feed(rest[1:])
        yield letter.digest()


def beginnings(chunks: Iterable[bytes]) -> Iterator[int]:
    """
    Return where each From_ line begins in the mbox that *chunks* are.
    """
    rest, before = b"\n", -1  # its first octet stands where the file has none
    for chunk in chunks:
        rest += chunk
        at = 0
        while found := FROM_LINE.search(rest, at):
            yield before + found.start() + 1
            at = found.end() - 1
        decided = max(at, len(rest) - 1 - LONGEST_FROM_LINE)
        rest, before = rest[decided:], before + decided


def stored(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """
    Return the stored message in an entry, from its octets behind the From_ line.

    The empty line at its end is not the message's; a line end that it got is taken for
    its own.
    """
    quoting, held = unquoting(), b""
    for chunk in chunks:
        held += quoting.feed(chunk)
        yield held[:-2]
        held = held[-2:]
    held += quoting.end()
    yield held[:-1] if held in {b"\n", b"\n\n"} else held


class Letter:
    """
    Digests, `Bare`, the message in an entry, from its octets behind the From_ line.
    """

    def __init__(self) -> None:
        self._unquoting = unquoting()
        self._bare = Bare()

    def feed(self, octets: bytes) -> None:
        """
        Take the next octets of the entry.
        """
        self._bare.feed(self._unquoting.feed(octets))

    def digest(self) -> ContentDigest:
        """
        Return the digest, once the entry is complete.
        """
        self._bare.feed(self._unquoting.end())
        return self._bare.digest()
