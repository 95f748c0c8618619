"""
What is fetched: the kinds of maildrop that an operator has, each with its own trouble.

Rules of this file: a profile is data. How it is measured is told in benchmarks/runs.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum, auto

from benchmarks.mail import equal, mixed


class Way(Enum):
    """
    What happens to the messages on the server.
    """

    KEEP = "keep"
    DELETE = "delete"


class Poll(Enum):
    """
    What a visit finds: new messages; nothing new, one old one gone; nothing changed.
    """

    FIRST = auto()
    CHANGED = auto()
    SAME = auto()


@dataclass(frozen=True, slots=True)
class Profile:
    """
    One kind of maildrop: *letters* in each of *accounts*, *together* visited at once,
    *round_trip* seconds away. *peers* are those that it is not too slow for (none: all).
    Archives are in memory, where the programs are compared, or *on_disk*, where fsync is.
    """

    name: str
    says: str
    letters: Callable[[], Iterator[bytes]]
    accounts: int = 1
    together: int = 1
    round_trip: float = 0.0
    ways: tuple[Way, ...] = (Way.KEEP, Way.DELETE)
    poll: Poll = Poll.FIRST
    peers: tuple[str, ...] = ()
    on_disk: bool = False


KEEP = (Way.KEEP,)

SMALL = 2_000
"""Octets of a small message's body."""

TINY = 300
"""Octets of a body where the number of messages is what matters."""

MANY = 100_000

QUICK = ("popfetchd", "mpop", "floor", "poplib")
"""Who retrieves 100,000 messages within minutes."""

FLEET = 500
AT_ONCE = 64
"""What popfetchd's `limits: {sessions: …}` is by default."""

PROFILES = {
    each.name: each
    for each in (
        Profile(
            "tiny",
            "20 messages of 2 kB: does it all work?",
            lambda: equal(20, SMALL),
            peers=("popfetchd", "mpop", "poplib", "floor"),
        ),
        Profile(
            "small",
            "2,000 messages of 2 kB",
            lambda: equal(2000, SMALL),
        ),
        Profile(
            "disk",
            "2,000 messages of 2 kB, the archive on a disk",
            lambda: equal(2000, SMALL),
            on_disk=True,
        ),
        Profile(
            "mixed",
            "1,000 messages of 1 kB to some MB, 71 MB in all",
            lambda: mixed(1000, 71_000_000),
        ),
        Profile("large", "10 messages of 30 MB", lambda: equal(10, 30_000_000)),
        Profile(
            "one", "one message of 200 MB", lambda: equal(1, 200_000_000), ways=KEEP
        ),
        Profile(
            "delay",
            "500 messages of 2 kB, the server 50 ms away",
            lambda: equal(500, SMALL),
            round_trip=0.05,
            ways=KEEP,
        ),
        Profile(
            "first",
            "100,000 messages of 300 octets, none seen before",
            lambda: equal(MANY, TINY),
            ways=KEEP,
            peers=QUICK,
        ),
        Profile(
            "steady",
            "100,000 messages, all seen; one has gone since the last visit",
            lambda: equal(MANY, TINY),
            ways=KEEP,
            poll=Poll.CHANGED,
        ),
        Profile(
            "unchanged",
            "100,000 messages, all seen; nothing has changed since the last visit",
            lambda: equal(MANY, TINY),
            ways=KEEP,
            poll=Poll.SAME,
        ),
        Profile(
            "fleet",
            "500 accounts with 5 new messages of 2 kB each, 64 at once, the server 20 ms"
            " away",
            lambda: equal(5, SMALL),
            accounts=FLEET,
            together=AT_ONCE,
            round_trip=0.02,
        ),
        Profile(
            "idle",
            "500 accounts with 5 messages each, all seen, 64 at once, the server 20 ms"
            " away",
            lambda: equal(5, SMALL),
            accounts=FLEET,
            together=AT_ONCE,
            round_trip=0.02,
            ways=KEEP,
            poll=Poll.SAME,
        ),
    )
}
