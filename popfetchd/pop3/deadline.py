"""
How long a step may take, and how long a whole visit.

Rules of this file:

- Every wait is bounded twice: by the server's `timeout` for one step, and by the visit's
  deadline for all of them (CVE-2011-1947: a client hung in STLS for a week).
- A step is a word of the caller's, "RETR" or "greeting"; the error tells it.
"""

from __future__ import annotations

import time

from collections.abc import Callable

from popfetchd.errors import TimedOut


class Deadline:
    """
    The instant at which a whole visit has to be over.

    *seconds* count from now, by *clock*, which must never go back.
    """

    def __init__(
        self, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.seconds = seconds
        self._clock = clock
        self._end = clock() + seconds

    def remaining(self) -> float:
        """
        Return the seconds that are left, negative once it has passed.
        """
        return self._end - self._clock()


class Limit:
    """
    What one step may take: its own timeout, or what is left of the visit.
    """

    def __init__(self, timeout: float, deadline: Deadline) -> None:
        self._timeout = timeout
        self._deadline = deadline

    def seconds(self, step: str) -> float:
        """
        Return the seconds for *step*. Raises TimedOut when none are left.
        """
        left = min(self._timeout, self._deadline.remaining())
        if left <= 0:
            raise self.passed(step)
        return left

    def passed(self, step: str) -> TimedOut:
        """
        Return the error that *step*, or the visit in this step, took too long.
        """
        if self._deadline.remaining() <= 0:
            return TimedOut(f"the visit, at {step}", self._deadline.seconds)
        return TimedOut(step, self._timeout)
