"""
The instants at which a connection can be cut, told from a dialogue that was recorded.

Rules of this file:

- An instant is a number of octets that have passed in one direction. It is named for
  what it stands in: inside a reply line, inside its CRLF, inside a body, inside the
  terminator; inside a command, or before it.
- What is named is what RFC 1939 knows; the octets in between are one class each.
"""

from __future__ import annotations

import re

from collections.abc import Iterator
from dataclasses import dataclass


MULTI_LINE = {"CAPA", "UIDL", "LIST", "RETR", "TOP"}
"""Commands with a multi-line answer, as a visit sends them (RFC 1939, RFC 2449)."""

UP, DOWN = "up", "down"


@dataclass(frozen=True, slots=True)
class Cut:
    """
    A connection ends when *octets* have passed in the direction *way*.
    """

    way: str
    octets: int
    where: str


def commands(up: bytes) -> list[str]:
    """
    Return the commands that a client has sent, without their arguments.
    """
    return [line.split()[0].decode().upper() for line in up.splitlines()]


def cuts(up: bytes, down: bytes) -> Iterator[Cut]:
    """
    Yield an instant of each class, for each command and each answer of a dialogue.
    """
    yield from _in_commands(up)
    yield from _in_answers(commands(up), down)


def encrypted(up: bytes, down: bytes, parts: int) -> Iterator[Cut]:
    """
    Yield *parts* instants of each direction, of which nothing is known but their place.
    """
    for way, octets in ((UP, up), (DOWN, down)):
        for part in range(parts):
            yield Cut(way, len(octets) * part // parts, "inside TLS")


def _in_commands(up: bytes) -> Iterator[Cut]:
    start = 0
    for line in up.splitlines(keepends=True):
        verb = line.split()[0].decode().upper()
        yield Cut(UP, start, f"before {verb}")
        yield Cut(UP, start + 2, f"in {verb}")
        yield Cut(UP, start + len(line) - 2, f"in {verb}")
        yield Cut(UP, start + len(line) - 1, f"in the CRLF of {verb}")
        start += len(line)
    yield Cut(UP, start, "after the last command")


def _in_answers(verbs: list[str], down: bytes) -> Iterator[Cut]:
    start = 0
    for verb in ["greeting", *verbs]:
        end = down.find(b"\r\n", start) + 2
        if end < 2:  # the dialogue ended here
            return
        yield Cut(DOWN, start, f"before the answer to {verb}")
        yield from _in_line(start, end, f"answer to {verb}")
        if verb in MULTI_LINE and down.startswith(b"+OK", start):
            start, end = end, down.index(b"\r\n.\r\n", end - 2) + 5
            yield from _in_body(down, start, end, verb)
        start = end
    yield Cut(DOWN, start, "after the last answer")


def _in_line(start: int, end: int, what: str) -> Iterator[Cut]:
    yield Cut(DOWN, start + 1, f"in the {what}")
    yield Cut(DOWN, (start + end) // 2, f"in the {what}")
    yield Cut(DOWN, end - 2, f"in the {what}")
    yield Cut(DOWN, end - 1, f"in the CRLF of the {what}")


def _in_body(down: bytes, start: int, end: int, verb: str) -> Iterator[Cut]:
    yield Cut(DOWN, start, f"before the body of {verb}")
    yield Cut(DOWN, (start + end) // 2, f"in the body of {verb}")
    stuffed = re.compile(rb"\r\n\.\.").search(down, start, end)
    if stuffed:
        yield Cut(DOWN, stuffed.start() + 3, f"between the stuffed dots of {verb}")
    if end - start > 3:
        yield Cut(DOWN, end - 4, f"in the last CRLF of {verb}")
        yield Cut(DOWN, end - 3, f"before the terminator of {verb}")
    yield Cut(DOWN, end - 2, f"in the terminator of {verb}")
    yield Cut(DOWN, end - 1, f"in the terminator of {verb}")
