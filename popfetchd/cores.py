"""
Which of the machine's cores a thread runs on.

Rules of this file:

- Python's threads take turns: one at a time runs, whatever cores there are. A turn that
  goes to another core has to wake it, which takes longer than most of what a visit does in
  its turn. So visits share one core (docs/adr/0017-one-core.md).
- What needs no interpreter, the digests of large mail, runs on any (`anywhere`).
- Where the system lets nobody choose, nothing happens.
"""

from __future__ import annotations

import os

from collections.abc import Iterator
from contextlib import contextmanager, suppress


def _allowed() -> set[int]:
    with suppress(AttributeError, OSError):  # not Linux; or forbidden
        return os.sched_getaffinity(0)
    return set()


ALLOWED = _allowed()
"""The cores that this process may use, as it was started."""


@contextmanager
def shared() -> Iterator[None]:
    """
    Let this thread, and those that are started in the block, share one core.

    Which one depends on the process, so that several do not meet.
    """
    before = _allowed()
    cores = sorted(before)
    _run_on({cores[os.getpid() % len(cores)]} if cores else set())
    try:
        yield
    finally:
        _run_on(before)


def anywhere() -> None:
    """
    Let this thread run on each core again.
    """
    _run_on(ALLOWED)


def _run_on(cores: set[int]) -> None:
    with suppress(AttributeError, OSError):
        os.sched_setaffinity(0, cores)
