"""
Letters that break careless programs, for the tests against Dovecot and others.

Rules of this file:

- A letter is made by its number and the seed alone, and no two are equal.
- `Letter.stored` is what is written into Dovecot's maildir; `Letter.served` is what
  Dovecot sends for it, byte-stuffing removed: an LF without CR gains one, and a last
  line without end gains CRLF (src/pop3/pop3-commands.c; tests/live proves it).
- Dovecot 2.3 forgets to stuff a dot that is a message's very first octet. One such dot
  survives, for we keep a dot that stands alone before a line; of two, one is lost; and
  a line that is nothing else ends the response at once (`UNSERVABLE`).
- The kinds take turns, so any few dozens hold each at least once.
"""

from __future__ import annotations

import random
import re

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field


LARGE = 20_000_000
"""Octets of the one large letter: more than any buffer on the way."""

LONG_LINE = 100_000
"""Octets of a long line: fifty times what poplib takes."""


@dataclass(frozen=True, slots=True)
class Letter:
    """
    One message. *kind* names what is difficult about it.
    """

    kind: str
    stored: bytes = field(repr=False)

    @property
    def served(self) -> bytes:
        """
        What a client receives from Dovecot, byte-stuffing removed.
        """
        return served(self.stored)

    @property
    def listed(self) -> int:
        """
        The octets that Dovecot lists: for some kinds not those that it sends.
        """
        return len(counted(self.stored))


def counted(stored: bytes) -> bytes:
    """
    Return a file's octets with CRLF line ends, as Dovecot counts them for LIST.
    """
    return re.sub(rb"(?<!\r)\n", b"\r\n", stored)


def served(stored: bytes) -> bytes:
    """
    Return what Dovecot makes of a file's octets on the wire.
    """
    lines = counted(stored)
    kept = lines[1:] if lines.startswith(b"..") else lines
    return kept if kept.endswith(b"\n") else kept + b"\r\n"


def letters(count: int, seed: int = 1, large: int | None = None) -> Iterator[Letter]:
    """
    Yield *count* letters; with *large*, the last has a body of so many octets.
    """
    small = count if large is None else count - 1
    for number in range(small):
        yield letter(number, seed)
    if large is not None:
        yield Letter("large", header(small, seed) + b"\n" + large_body(large, seed))


def letter(number: int, seed: int = 1) -> Letter:
    """
    Return letter *number* (from 0) of the endless row that *seed* names.
    """
    kind, make = list(KINDS.items())[number % len(KINDS)]
    chance = random.Random(f"{seed} {number}")
    return Letter(kind, make(header(number, seed), chance))


def header(number: int, seed: int) -> bytes:
    """
    Return a header in LF form, without its empty line; different for each letter.
    """
    minutes = number % 60, number // 60 % 24, 1 + number // 1440 % 28
    date = "{2:02d} Nov 2025 {1:02d}:{0:02d}:00 +0000".format(*minutes)
    return (
        f"Received: from a.example.net by mx.example.com with ESMTPS id {number};\n"
        f"\t{date}\n"
        f"Date: {date}\n"
        f"From: Someone <someone@example.net>\n"
        f"To: tests@example.com\n"
        f"Subject: letter {number} of {seed}\n"
        f"Message-ID: <{number}.{seed}@example.net>\n"
    ).encode()


def large_body(octets: int, seed: int) -> bytes:
    """
    Return *octets* octets of lines, some of them beginning with dots.
    """
    chance = random.Random(f"large {seed}")
    some = b"".join(
        b"." * chance.randrange(3) + b"x" * chance.randrange(900) + b"\n"
        for _ in range(2000)
    )
    return (some * (octets // len(some) + 1))[: octets - 1] + b"\n"


def words(chance: random.Random, lines: int = 3) -> bytes:
    """
    Return lines of lower-case nonsense.
    """
    return b"".join(
        bytes(chance.choices(b"abcdefghij klmno pqrstuvw xyz", k=40)) + b"\n"
        for _ in range(lines)
    )


Kind = Callable[[bytes, random.Random], bytes]
"""Takes a header in LF form; returns the whole letter as it is to be stored."""


def body(octets: bytes) -> Kind:
    """
    A kind whose body begins with *octets*, followed by some ordinary lines.
    """
    return lambda head, chance: head + b"\n" + octets + words(chance)


def crlf(kind: Kind) -> Kind:
    """
    The same kind, stored with CRLF instead of LF.
    """
    return lambda head, chance: kind(head, chance).replace(b"\n", b"\r\n")


KINDS: dict[str, Kind] = {
    "plain": body(b""),
    "dot lines": body(b".one\n..two\n...three\n"),
    "dot and blank": body(b". \n .\n. .\n.\t\n"),
    "lone dot": body(b"before\n.\nafter\n"),
    "only lone dots": body(b".\n.\n.\n"),
    "two dots alone": body(b"..\n..\n"),
    "ends with a lone dot": lambda head, _: head + b"\nlast\n.\n",
    "ends with a lone dot, no newline": lambda head, _: head + b"\nlast\n.",
    "begins with a dot": lambda head, chance: b".X: y\n" + head + b"\n" + words(chance),
    "begins with two dots": lambda head, _: b"..X: y\n" + head + b"\nx\n",
    "From_ line": body(b"\nFrom nobody Mon Nov 24 00:00:00 2025\nFrom here on\n"),
    "quoted From_ line": body(b">From one\n>>From two\n\n>From three\n"),
    "begins with From_": lambda head, _: b"From x Mon Nov 24\n" + head + b"\nx\n",
    "8-bit": body(bytes(range(0x80, 0x100)) + b"\n"),
    "every octet": body(bytes(o for o in range(256) if o not in b"\r\n") + b"\n"),
    "UTF-8 header": lambda head, _: "Subject: Grüße, 会議\n".encode() + head + b"\nx\n",
    "long line": lambda head, _: head + b"\n" + b"x" * LONG_LINE + b"\nend\n",
    "long dots": lambda head, _: head + b"\n" + b"." * LONG_LINE + b"\nend\n",
    "long header": lambda head, _: head + b"X: " + b"y" * LONG_LINE + b"\n\nend\n",
    "long last line": lambda head, _: head + b"\n" + b"x" * LONG_LINE,
    "no final newline": lambda head, chance: head + b"\n" + words(chance) + b"end",
    "header only": lambda head, _: head + b"\n",
    "header without empty line": lambda head, _: head,
    "header without newline": lambda head, _: head.rstrip(b"\n"),
    "no header": lambda head, chance: b"\n" + head + words(chance),
    "one line": lambda head, _: head.splitlines()[-1],
    "bare CR": body(b"one\rtwo\r\rthree\n"),
    "bare CR before dot": body(b"\r.\n.\r.\n\r\r.\n"),
    "ends with a bare CR": lambda head, _: head + b"\nend\r",
    "bare CR ends the header": lambda head, _: head + b"X: y\r\r\n\nbody\n",
    "CRLF": crlf(body(b".\n..\nFrom x\n")),
    "CRLF, no final newline": crlf(lambda head, _: head + b"\nend"),
    "CRLF, header only": crlf(lambda head, _: head + b"\n"),
    "CRLF mixed with LF": body(b"one\r\n.\ntwo\n.\r\n\r\n.\n\nthree\r\n"),
    "CR CRLF": body(b"one\r\r\ntwo\r\r\n.\r\r\n"),
    "NUL": body(b"a\0b\n\0\n.\0\n\0.\n"),
    "empty lines": body(b"\n" * 50),
    "controls": body(b"\x1b[31m\x07\x08\x7f\x0b\x0c\n"),
    "terminator spelt out": body(b"\n.\n\r\n.\r\n+OK\r\n-ERR\nQUIT\n"),
    "many lines": lambda head, chance: head + b"\n" + words(chance, 400),
}
"""What is difficult, each under its name."""

UNSERVABLE = Letter("begins with a lone dot", b".\n+OK\nSubject: x\n\nbody\n")
"""Dovecot 2.3 sends it as an empty message and the rest of it as nonsense."""

EMPTY = Letter("empty", b"")
"""No octet at all. Not among `KINDS`, where no two are equal."""
