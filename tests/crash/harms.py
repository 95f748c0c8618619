"""
What can be done to a visit: killed, or failed, at one of its system calls.

Rules of this file:

- A harm is a value: which calls it can strike, and what becomes of the one it does.
- Calls are counted among those that the harm can strike, about the archive, the ledger
  or the server; those that read from a server in one go count as one.
- At each DELE the archive is looked at: the message must be whole in it by then (P1).
"""

from __future__ import annotations

import errno
import re

from collections import Counter
from dataclasses import dataclass

from tests.crash.calls import NUMBERS, Call
from tests.crash.scenes import Case, Faults
from tests.crash.visits import KILL, PASS


RECEIVES = {"read", "recvfrom"}

TELLS_ONLY = {"newfstatat", "fstat", "statfs", "fstatfs", "fcntl", "getdents64"}
"""Calls that change nothing and are many: a kill at one hits what the next hits."""

ALLOCATES = {
    "open",
    "openat",
    "write",
    "writev",
    "pwrite64",
    "sendfile",
    "copy_file_range",
    "fallocate",
    "mkdir",
    "mkdirat",
    "link",
    "linkat",
    "rename",
    "renameat",
    "renameat2",
    "fsync",
    "fdatasync",
    "sync_file_range",
    "syncfs",
    "close",
}
"""Calls that say so when a disk or a quota is full; the last five, when that was found
out late (delayed allocation, NFS). Not ftruncate, which allocates nothing."""

OPENS = {"open", "openat"}


@dataclass(frozen=True, slots=True)
class Harm:
    """
    The calls called *names* are struck with *verdict*: one, or *lasting*, all from it on.
    """

    name: str
    verdict: int
    names: frozenset[str]
    on_disk_only: bool = False
    lasting: bool = False

    def strikes(self, call: Call) -> bool:
        """
        Tell whether *call* is one that can be struck.
        """
        if call.name not in self.names:
            return False
        if self.on_disk_only and call.path.startswith("socket:"):
            return False
        if call.name == "fcntl" and "/ledger.db" in call.path:
            return False  # SQLite's locks: one it cannot let go, it awaits 30 seconds
        return call.creates or not (self.on_disk_only and call.name in OPENS)


def _disk(name: str, number: int, *, lasting: bool = False) -> Harm:
    return Harm(name, number, frozenset(ALLOCATES), on_disk_only=True, lasting=lasting)


HARMS = {
    harm.name: harm
    for harm in (
        Harm("kill", KILL, frozenset(NUMBERS) - TELLS_ONLY),
        Harm("EIO", errno.EIO, frozenset(NUMBERS)),
        _disk("ENOSPC", errno.ENOSPC),
        _disk("ENOSPC for good", errno.ENOSPC, lasting=True),
        _disk("EDQUOT", errno.EDQUOT),
    )
}
"""All that is done at system calls, by name."""


class Counted:
    """
    Numbers a visit's calls for each harm, from 1, and lets them all pass.
    """

    def __init__(self, case: Case) -> None:
        self._case = case
        self._last = ""
        self.numbers: Counter[str] = Counter()

    def __call__(self, call: Call) -> int:
        """
        Count *call*.
        """
        if self._case.matters(call) and not self._goes_on(call):
            self.numbers.update(h.name for h in HARMS.values() if h.strikes(call))
        return PASS

    def _goes_on(self, call: Call) -> bool:
        # The next part of what a server sends; how it is cut, the network decides.
        is_part = call.name in RECEIVES and call.path.startswith("socket:")
        last, self._last = self._last, call.path if is_part else ""
        return is_part and call.path == last


class Struck(Counted):
    """
    Strikes with *harm* at its call number *at*, and watches over each DELE.
    """

    def __init__(self, case: Case, harm: Harm, at: int, faults: Faults) -> None:
        super().__init__(case)
        self._harm = harm
        self._at = at
        self._faults = faults
        self._listed: list[bytes] = []
        self.hit: Call | None = None

    def __call__(self, call: Call) -> int:
        """
        Return what becomes of *call*.
        """
        if call.name == "connect":
            self._listed = self._case.waiting()
        before = self.numbers[self._harm.name]
        super().__call__(call)
        number = self.numbers[self._harm.name]
        if number > before and (number == self._at or self._again(number)):
            self.hit = self.hit or call
            return self._harm.verdict
        self._watch(call.sent)
        return PASS

    def _again(self, number: int) -> bool:
        return self._harm.lasting and number > self._at

    def _watch(self, octets: bytes) -> None:
        unproved(self._case, self._listed, octets, self._faults)


def unproved(case: Case, listed: list[bytes], octets: bytes, faults: Faults) -> None:
    """
    Count the DELE in *octets* for messages of *listed* that are not in the archive.
    """
    numbers = [int(n) for n in re.findall(rb"(?mi)^DELE (\d+)\r$", octets)]
    if not numbers:
        return
    marked = Counter(listed[number - 1] for number in numbers)
    archived, _ = case.archived()
    faults.add("unproved", (marked - archived).total(), "DELE before it was archived")
