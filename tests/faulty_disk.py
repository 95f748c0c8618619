"""
A real disk on which system calls fail where a test says so.

Rules of this file:

- It is a `Disk` (popfetchd/archive/disk.py): each call is counted, then fails or is
  passed on to the machine's own disk. Nothing is patched.
"""

from __future__ import annotations

import os

from collections import Counter
from pathlib import Path

from popfetchd.archive.disk import RealDisk


DESCRIPTORS = Path("/proc/self/fd")


def open_descriptors():
    """
    Return how many descriptors this process has open.
    """
    return len(list(DESCRIPTORS.iterdir()))


def path_of(fd):
    """
    Return the path that an open descriptor stands for.
    """
    return (DESCRIPTORS / str(fd)).readlink()


class FaultyDisk:
    """
    *faults* maps (call, which one of its kind, from 0) to an errno, or to a function
    that gets the real call and its arguments and does something else.

    *calls* is what was called, in order, each with which one of its kind it was.
    """

    def __init__(self, faults=None):
        self.faults = dict(faults or {})
        self.calls = []
        self._counts = Counter()
        self._real = RealDisk()

    def __getattr__(self, name):
        real = getattr(self._real, name)

        def call(*arguments):
            this = (name, self._counts[name])
            self._counts[name] += 1
            self.calls.append(this)
            fault = self.faults.get(this)
            if isinstance(fault, int):
                raise OSError(fault, os.strerror(fault))
            return fault(real, *arguments) if fault else real(*arguments)

        return call


class AlwaysFaultyDisk(FaultyDisk):
    """
    One on which each call named in *faults* always fails in its way.
    """

    def __init__(self, **faults):
        super().__init__()
        self.faults = Always(faults)


class Always(dict):
    """
    Finds a fault by the name of the call, whichever one of its kind it is.
    """

    def get(self, this, default=None):
        return super().get(this[0], default)
