"""
What LIST and UIDL say, as mappings from message-number to octets and to unique-id.

Rules of this file:

- A line is "number, blanks, rest", whatever else stands there; what is none is passed by.
- One regular expression goes over the whole, each linear in time.
- A maildrop may hold a million messages, and many sessions run side by side: a listing is
  kept in columns of plain numbers, and unique-ids stay where they came, in the body. A
  dict would take five times as much.
- A number that a server claims is only a claim. It is bounded here, and believed nowhere.
"""

from __future__ import annotations

import re

from abc import abstractmethod
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, islice
from operator import lt
from typing import TypeVar

from popfetchd.errors import LimitExceeded
from popfetchd.values import MessageNumber, Octets, UniqueId


LONGEST_UNIQUE_ID = 4096
"""
Octets of a unique-id. RFC 1939 §7 says 70; servers were seen to send a Message-ID, which
may be far longer. Beyond this the message counts as listed without one.
"""

MOST_MESSAGES = 2_000_000
"""
Lines of a listing: twice what the largest maildrop is known to hold, and 24 MB of columns
(benchmarks/limits.py).
"""

_NUMBER = rb"^[ \t]*0*([1-9][0-9]{0,8})"
_SCAN_LINE = re.compile(
    _NUMBER + rb"(?:[ \t]+([0-9]{1,18})|(?=[ \t\r\n]))", re.MULTILINE
)
_UNIQUE_ID_LINE = re.compile(_NUMBER + rb"[ \t]+([^ \t\r\n][^\r\n]*)", re.MULTILINE)

_Value = TypeVar("_Value")


class _ByNumber(Mapping[MessageNumber, _Value]):
    """
    Columns whose first is message-numbers, ascending, each once.
    """

    def __init__(self, numbers: array[int]) -> None:
        self._numbers = numbers

    @abstractmethod
    def _value(self, at: int) -> _Value:
        """
        Return what stands in row *at*.
        """

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[MessageNumber]:
        return map(MessageNumber, self._numbers)

    def __getitem__(self, number: MessageNumber) -> _Value:
        numbers = self._numbers
        at = number - 1  # most listings have no gap
        if not (0 <= at < len(numbers) and numbers[at] == number):
            at = bisect_left(numbers, number)
            if at == len(numbers) or numbers[at] != number:
                raise KeyError(number)
        return self._value(at)


class ScanListing(_ByNumber[Octets]):
    """
    The octets claimed for each number.
    """

    def __init__(self, numbers: array[int], sizes: array[int]) -> None:
        super().__init__(numbers)
        self._sizes = sizes

    def _value(self, at: int) -> Octets:
        return Octets(self._sizes[at])


class UniqueIdListing(_ByNumber[UniqueId]):
    """
    The unique-id of each number: where it begins and ends in *body*.
    """

    def __init__(
        self, numbers: array[int], begins: array[int], ends: array[int], body: bytes
    ) -> None:
        super().__init__(numbers)
        self._begins, self._ends, self._body = begins, ends, body

    def _value(self, at: int) -> UniqueId:
        octets = self._body[self._begins[at] : self._ends[at]]
        return UniqueId(octets.decode("latin-1"))


def parse_scan_listing(body: bytes) -> ScanListing:
    """
    Read the lines of a +OK to LIST (RFC 1939 §5): the octets claimed for each number.

    A line with a number and no size claims 0 octets; one without a number is no message;
    of two for one number the latter counts. Raises LimitExceeded.
    """
    _count(body)
    numbers, sizes = array("I"), array("Q")
    for found in _SCAN_LINE.finditer(body):
        numbers.append(int(found[1]))
        sizes.append(int(found[2] or 0))
    if not _ascends(numbers):
        last = [places[-1] for places in _places(numbers)]
        numbers, sizes = _chosen(numbers, last), _chosen(sizes, last)
    return ScanListing(numbers, sizes)


def parse_unique_id_listing(body: bytes) -> UniqueIdListing:
    """
    Read the lines of a +OK to UIDL (RFC 1939 §7): the unique-id of each number.

    A number with no unique-id, with one longer than LONGEST_UNIQUE_ID (never cut: two
    might become equal) or with two of them is left out. Raises LimitExceeded.
    """
    _count(body)
    numbers, begins, ends = array("I"), array("I"), array("I")
    longest = 0
    for found in _UNIQUE_ID_LINE.finditer(body):
        length = len(found[2].rstrip(b" \t"))
        longest = max(longest, length)
        begin = found.start(2)
        numbers.append(int(found[1]))
        begins.append(begin)
        ends.append(begin + length)
    if longest > LONGEST_UNIQUE_ID or not _ascends(numbers):
        alone = (places[0] for places in _places(numbers) if len(places) == 1)
        fit = [at for at in alone if ends[at] - begins[at] <= LONGEST_UNIQUE_ID]
        numbers = _chosen(numbers, fit)
        begins, ends = _chosen(begins, fit), _chosen(ends, fit)
    return UniqueIdListing(numbers, begins, ends, body)


def _count(body: bytes) -> None:
    if body.count(b"\n") > MOST_MESSAGES:
        raise LimitExceeded("MOST_MESSAGES", MOST_MESSAGES)


def _ascends(numbers: array[int]) -> bool:
    return all(map(lt, numbers, islice(numbers, 1, None)))


def _places(numbers: array[int]) -> Iterator[list[int]]:
    """
    Yield, for each number ascending, the rows that bear it.
    """
    order = sorted(range(len(numbers)), key=numbers.__getitem__)
    return (list(rows) for _, rows in groupby(order, key=numbers.__getitem__))


def _chosen(column: array[int], rows: Sequence[int]) -> array[int]:
    return array(column.typecode, (column[row] for row in rows))
