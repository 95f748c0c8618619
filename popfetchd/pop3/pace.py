"""
How slowly a server may send: a little at a time must not hold a session for long.

Rules of this file:

- Silence is the business of each step's timeout, and the whole of the visit's deadline.
  Between the two stands who sends an octet just in time, again and again (slow loris).
- What counts is one reply with its body, from its first octets on: how long a server
  thinks before it answers is the timeout's business.
- Only waiting counts. A client that is busy, with a slow disk, makes no server slow.
"""

from __future__ import annotations

import time

from collections.abc import Callable

from popfetchd.errors import TooSlow


LEAST_PACE = 100
"""Octets a second: a tenth of what a modem of 1995 gave (9,600 bit/s)."""

GRACE = 60.0
"""Seconds of waiting within one reply before its pace is looked at: a line that hangs for
a minute and recovers is a bad line, and no attack."""


class Pace:
    """
    Watches one reply after another. *clock* tells seconds, and never goes back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._waited = 0.0
        self._octets = 0

    def begin(self) -> None:
        """
        Take notice that a reply is over, or a challenge: what comes is another.
        """
        self._waited = 0.0
        self._octets = 0

    def received(self, octets: int, seconds: float, step: str) -> None:
        """
        Take notice of *octets* that were waited for during *seconds*.

        Raises TooSlow.
        """
        if self._octets:  # before the first it was silence
            self._waited += seconds
        self._octets += octets
        if self._waited > GRACE + self._octets / LEAST_PACE:
            raise TooSlow(step, self._waited, LEAST_PACE)
