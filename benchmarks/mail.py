"""
The messages of the benchmarks, and what must arrive of them.

Rules of this file:

- A message is made by its number and the seed alone, and no two bodies are equal.
- Lines end with LF, as a maildir stores them; the server makes CRLF of it.
- Who delivered is judged by bodies: programs add header fields of their own.
"""

from __future__ import annotations

import base64
import hashlib
import random

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path


SEED = 6

LINE = 76
"""Octets of a line of base64, as mail programs break it; its LF comes on top."""

SHORTEST = 1_000
"""Octets of the smallest body of `mixed`."""

SPREAD = 1.6
"""Of the logarithm of sizes in `mixed`: half are below 20 kB, the largest are of
megabytes, as in a person's mailbox."""


def header(number: int) -> bytes:
    """
    Return the header of message *number*, with the empty line after it.
    """
    at = "{:02d}:{:02d}:{:02d}".format(*clock(number))
    return (
        f"Received: from a.example.org by mx.example.net with ESMTPS id {number:06d};\n"
        f"\tMon, 23 Nov 2026 {at} +0000\n"
        f"Message-ID: <{number:06d}@example.org>\n"
        f"Date: Mon, 23 Nov 2026 {at} +0000\n"
        f"From: Bob <bob@example.org>\nTo: alice@example.net\n"
        f"Subject: number {number:06d}\n\n"
    ).encode()


def clock(number: int) -> tuple[int, int, int]:
    """
    Return hour, minute and second, one second later for each *number*.
    """
    return number // 3600 % 24, number // 60 % 60, number % 60


def letter(number: int, octets: int) -> bytes:
    """
    Return message *number*, its body of about *octets* octets of base64.
    """
    noise = random.Random(f"{SEED} {number}").randbytes(octets * 3 * LINE // 4 // 77)
    text = base64.b64encode(noise)
    lines = (text[at : at + LINE] + b"\n" for at in range(0, len(text), LINE))
    return header(number) + b"".join(lines)


def equal(count: int, octets: int, first: int = 0) -> Iterator[bytes]:
    """
    Yield *count* messages of one size, numbered from *first*.
    """
    return (letter(number, octets) for number in range(first, first + count))


def mixed(count: int, octets: int) -> Iterator[bytes]:
    """
    Yield *count* messages of log-normal sizes, about *octets* octets together.
    """
    chance = random.Random(SEED)
    sizes = [chance.lognormvariate(0, SPREAD) for _ in range(count)]
    share = (octets - SHORTEST * count) / sum(sizes)
    for number, size in enumerate(sizes):
        yield letter(number, SHORTEST + int(size * share))


Bodies = Counter[bytes]
"""How often each body is there, by its digest."""


def body(message: bytes) -> bytes:
    """
    Return the digest of a message's body, whatever the ends of its lines and the last.
    """
    _, _, text = message.replace(b"\r\n", b"\n").partition(b"\n\n")
    return hashlib.sha256(text.rstrip(b"\n")).digest()


def bodies(messages: Iterable[bytes]) -> Bodies:
    """
    Count *messages* by their bodies.
    """
    return Counter(map(body, messages))


def archived(maildir: Path) -> Bodies:
    """
    Count by their bodies what a program has delivered into *maildir*.
    """
    files = (path for name in ("new", "cur") for path in (maildir / name).glob("*"))
    return bodies(path.read_bytes() for path in files)
