"""
Fate: what befalls a visit, and when.

Rules of this file:

- A *moment* is the name of something that is about to happen ("link", "commit",
  "QUIT") or has just happened ("link done"). The disk, the ledger and the line to the
  server each tell fate their moments; no clock and no chance is in it.
- A deed is done at the nth of its moments. What ends the process is raised here; what
  fails one call is returned to it; what another program does, is done by it.
- After the end nothing happens any more: whatever the dying process still tries, in
  its `finally` clauses as well, meets the same end. Clean-up cannot help.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from enum import Enum


class Deed(Enum):
    """
    What may happen. Its value is how a story tells it.
    """

    KILL = "the process is killed"
    CUT = "the power is cut"
    EIO = "the call fails, EIO"
    ENOSPC = "the call fails, ENOSPC"
    LIE = "the device says yes and writes nothing"
    LEDGER_FAILS = "the ledger fails"
    LEDGER_LIES = "the ledger fails, and its commit comes to light after a crash"
    UNHEARD = "the line drops before the server has heard it"
    UNANSWERED = "the line drops before the server has answered"
    HALF_ANSWERED = "the line drops within the answer"
    REFUSED = "the server says -ERR"
    READER_TAKES = "a mail reader moves new/ to cur/"
    READER_FLAGS = "a mail reader flags all in cur/"
    READER_REFILES = "a mail reader moves all to another folder"
    READER_DELETES = "a mail reader deletes what was published"
    CLEANER = "a cleaner empties tmp/"
    NAMESAKE = "somebody else's file appears in new/ under the name of a spooled one"

    def __repr__(self) -> str:
        return str(self)


ENDS = frozenset({Deed.KILL, Deed.CUT})
"""After these the process is gone."""

FAILURES = frozenset({Deed.EIO, Deed.ENOSPC})
"""What a system call may fail with."""

LEDGER = frozenset({Deed.LEDGER_FAILS, Deed.LEDGER_LIES})

DROPS = frozenset({Deed.UNHEARD, Deed.UNANSWERED, Deed.HALF_ANSWERED})

READER = frozenset(
    {
        Deed.READER_TAKES,
        Deed.READER_FLAGS,
        Deed.READER_REFILES,
        Deed.READER_DELETES,
    }
)

OTHERS = READER | {Deed.CLEANER, Deed.NAMESAKE}
"""What other programs do: the visit is not told."""


class Brief:
    """
    Shows itself as the Python that makes it, without what is as by default.
    """

    def __repr__(self) -> str:
        told = (
            f"{field.name}={getattr(self, field.name)!r}"
            for field in fields(self)
            if getattr(self, field.name) != field.default
        )
        return f"{type(self).__name__}({', '.join(told)})"


@dataclass(frozen=True, repr=False)
class Befall(Brief):
    """
    *deed* is done at the *nth* (from 0) *moment* of its name in one visit.
    """

    deed: Deed
    moment: str
    nth: int = 0


class Ended(BaseException):
    """
    The process is gone. No `except Exception` on the way takes it.
    """


class Fate:
    """
    Brings about *befalls*; what other programs do, *act* does.
    """

    def __init__(
        self, befalls: Iterable[Befall], act: Callable[[Deed], None] = lambda _: None
    ) -> None:
        self._due: dict[tuple[str, int], list[Deed]] = {}
        for befall in befalls:
            self._due.setdefault((befall.moment, befall.nth), []).append(befall.deed)
        self._act = act
        self._met: Counter[str] = Counter()
        self.done: Counter[Deed] = Counter()
        self.end: Deed | None = None

    def meet(self, moment: str) -> Deed | None:
        """
        Let happen what is due; return what the call at this *moment* has to suffer.

        Raises Ended when the process is gone, or goes now.
        """
        self._end_if(self.end)
        this = (moment, self._met[moment])
        self._met[moment] += 1
        suffered = None
        for deed in self._due.get(this, ()):
            self.done[deed] += 1
            self._end_if(deed)
            if deed in OTHERS:
                self._act(deed)
            else:
                suffered = deed
        return suffered

    def _end_if(self, deed: Deed | None) -> None:
        if deed in ENDS:
            self.end = deed
            raise Ended(deed)
