"""
A story: what befalls one maildrop, its archive and its visitor, told beforehand.

Rules of this file:

- A story is a value, and prints as the Python that makes it. The same story is the same
  run, but for the names of files.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from tests.crash.model_fate import Befall, Brief
from tests.crash.model_server import Ids


class Mail(Enum):
    """
    What kind of letter comes.
    """

    PLAIN = "plain"
    EXACT = "with a bare LF, so that it is stored as it is"
    TWIN = "a second copy of the one before, delivered with it"

    def __repr__(self) -> str:
        return str(self)


class Theirs(Enum):
    """
    What other programs write into an mbox between two visits.
    """

    DELIVERY = "an agent delivers a message of its own"
    FLAGS = "a reader flags all, and writes the whole file anew"

    def __repr__(self) -> str:
        return str(self)


@dataclass(frozen=True, repr=False)
class Plan(Brief):
    """
    One visit: what comes before it, and what befalls it.

    *theirs* is for an mbox alone. *survivors*: bit n tells whether the nth thing that was not fsynced survives a cut.
    """

    mail: tuple[Mail, ...] = ()
    ids: Ids = Ids.KEPT
    lie: int = 0
    theirs: tuple[Theirs, ...] = ()
    befalls: tuple[Befall, ...] = ()
    cut_after: bool = False
    survivors: int = 0


@dataclass(frozen=True, repr=False)
class Story(Brief):
    """
    Some visits, in a world that stays as it is.

    *lacks*: what the server has not. *lazy*: the keeper's work waits until it must be
    done. *batch*, *round*: letters in one; *many*: so many
    are synced together. *alike*: all letters are equally long.
    """

    plans: tuple[Plan, ...] = ()
    delete_after: float | None = None
    links: bool = True
    deaf: bool = False
    lacks: tuple[str, ...] = ()
    lazy: bool = False
    batch: int = 100
    many: int = 8
    round: int = 5000
    alike: bool = False


def survivors(bits: int) -> Callable[[], bool]:
    """
    Return what tells, each time it is asked, whether the next thing survives.
    """

    def survives() -> bool:
        nonlocal bits
        bits, bit = divmod(bits, 2)
        return bool(bit)

    return survives


def letter(number: int, *, exact: bool = False, alike: bool = False) -> bytes:
    """
    Return the octets of letter *number*, with a header that names it.
    """
    length = 0 if alike else 10 * number
    strange = b"one\ntwo" if exact else b"one two"
    return b"\r\n".join(
        (
            b"Message-ID: <%03d@example.net>" % number,
            b"Received: by mx; Mon, 6 Nov 2023 10:00:00 +0000",
            b"Date: Mon, 6 Nov 2023 10:00:00 +0000",
            b"From: a@example.net",
            b"",
            b".body of %03d" % number,
            b"x" * length,
            strange,
            b"",
        )
    )


def stored(octets: bytes) -> bytes:
    """
    Return the stored form of a letter.
    """
    lines = octets.replace(b"\r\n", b"\n")
    return octets if octets.count(b"\n") > octets.count(b"\r\n") else lines
