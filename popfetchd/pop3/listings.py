"""
What LIST and UIDL say, as mappings from message-number to octets and to unique-id.

Rules of this file:

- A line is "number, blanks, rest", whatever else stands there; what is none is passed by.
- Servers count from 1 and write "number, one space, value". That is split at once, and
  taken only if it is the same octets when it is put together again. All else goes line
  by line through one regular expression, linear in time. Both read the same.
- A maildrop may hold a million messages, and many sessions run side by side: a listing is
  kept in columns. A dict of numbers and values would take twice as much.
- A number that a server claims is only a claim. It is bounded here, and believed nowhere.
"""

from __future__ import annotations

import re

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence, Sized, ValuesView
from itertools import groupby, islice
from operator import lt
from typing import Any, TypeVar, cast

from popfetchd.errors import LimitExceeded
from popfetchd.values import MessageNumber, Octets, UniqueId


LONGEST_UNIQUE_ID = 4096
"""
Octets of a unique-id. RFC 1939 §7 says 70; servers were seen to send a Message-ID, which
may be far longer. Beyond this the message counts as listed without one.
"""

MOST_MESSAGES = 2_000_000
"""
Lines of a listing: twice what the largest maildrop is known to hold. A million cost 90 MB
of columns (benchmarks/limits.py); two million, whose ids are shorter, as LISTING_OCTETS
bounds them, 160 MB.
"""

PORTION = 1024**2
"""Octets split at once: of what they are split into, only the columns are kept."""

LONGEST_SIZE = 18
"""Digits of octets that are read: what 64 bits hold."""

TOO_LONG = ""
"""Stands for a unique-id that is; an empty one there is not."""

_NUMBER = rb"^[ \t]*0*([1-9][0-9]{0,8})"
_SCAN_LINE = re.compile(
    _NUMBER + rb"(?:[ \t]+([0-9]{1,%d})|(?=[ \t\r\n]))" % LONGEST_SIZE, re.MULTILINE
)
_UNIQUE_ID_LINE = re.compile(_NUMBER + rb"[ \t]+([^ \t\r\n][^\r\n]*)", re.MULTILINE)

_Value = TypeVar("_Value")


class _ByNumber(Mapping[MessageNumber, _Value]):
    """
    Two columns: message-numbers, ascending, each once, and what each of them has.
    """

    def __init__(self, numbers: Sequence[int], column: Sequence[_Value]) -> None:
        self._numbers = cast("Sequence[MessageNumber]", numbers)
        self._column = column

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[MessageNumber]:
        return iter(self._numbers)

    def __getitem__(self, number: MessageNumber) -> _Value:
        numbers = self._numbers
        at = number - 1  # most listings have no gap
        if not (0 <= at < len(numbers) and numbers[at] == number):
            at = bisect_left(numbers, number)
            if at == len(numbers) or numbers[at] != number:
                raise KeyError(number)
        return self._column[at]

    def values(self) -> ValuesView[_Value]:
        """
        Return the second column: to go through it takes a tenth of what asking takes.
        """
        return _Column(self, self._column)


class _Column(ValuesView[_Value]):
    """
    The values of *mapping*, which *column* holds.
    """

    def __init__(
        self, mapping: Mapping[MessageNumber, _Value], column: Sequence[_Value]
    ) -> None:
        super().__init__(mapping)
        self._values = column

    def __iter__(self) -> Iterator[_Value]:
        return iter(self._values)


class ScanListing(_ByNumber[Octets]):
    """
    The octets claimed for each number.
    """


class UniqueIdListing(_ByNumber[UniqueId]):
    """
    The unique-id of each number.
    """


def parse_scan_listing(body: bytes) -> ScanListing:
    """
    Read the lines of a +OK to LIST (RFC 1939 §5): the octets claimed for each number.

    A line with a number and no size claims 0 octets; one without a number is no message;
    of two for one number the latter counts. Raises LimitExceeded.
    """
    _count(body)
    numbers, sizes = _plain_sizes(body) or _any_sizes(body)
    return ScanListing(numbers, cast("Sequence[Octets]", sizes))


def parse_unique_id_listing(body: bytes) -> UniqueIdListing:
    """
    Read the lines of a +OK to UIDL (RFC 1939 §7): the unique-id of each number.

    A number with no unique-id, with one longer than LONGEST_UNIQUE_ID (never cut: two
    might become equal) or with two of them is left out. Raises LimitExceeded.
    """
    _count(body)
    numbers, ids = _plain_ids(body) or _any_ids(body)
    return UniqueIdListing(numbers, cast("list[UniqueId]", ids))


# -- as servers write -----------------------------------------------------------------


def _plain_sizes(body: bytes) -> tuple[Sequence[int], array[int]] | None:
    sizes = array("Q")
    for words in _split(body):
        if not "".join(words).isdecimal() or max(map(len, words)) > LONGEST_SIZE:
            return None
        sizes.extend(map(int, words))
    return (range(1, len(sizes) + 1), sizes) if _is_whole(sizes, body) else None


def _plain_ids(body: bytes) -> tuple[Sequence[int], list[str]] | None:
    ids: list[str] = []
    for words in _split(body):
        if max(map(len, words)) > LONGEST_UNIQUE_ID:
            return None
        ids += words
    return (range(1, len(ids) + 1), ids) if _is_whole(ids, body) else None


def _split(body: bytes) -> Iterator[list[str]]:
    """
    Yield the values of *body*, whose numbers count from 1, a portion after the other.

    Ends before a portion that is not all "number, one space, value, CRLF".
    """
    at, number = 0, 1
    while end := body.rfind(b"\n", at, at + PORTION) + 1:
        lines = body[at:end].decode("latin-1")
        words: list[Any] = lines.split()
        values: list[str] = words[1::2]
        if len(words) != 2 * len(values):
            return
        words[::2] = range(number, number + len(values))
        if "%d %s\r\n" * len(values) % (*words,) != lines:
            return
        yield values
        at, number = end, number + len(values)


def _is_whole(values: Sized, body: bytes) -> bool:
    """
    Tell whether *values* are those of all lines of *body*.
    """
    return len(values) == body.count(b"\n") and body[-2:] in {b"", b"\r\n"}


# -- whatever else they write ---------------------------------------------------------


def _any_sizes(body: bytes) -> tuple[array[int], array[int]]:
    numbers, sizes = array("I"), array("Q")
    for found in _SCAN_LINE.finditer(body):
        numbers.append(int(found[1]))
        sizes.append(int(found[2] or 0))
    if not _ascends(numbers):
        last = [places[-1] for places in _places(numbers)]
        numbers, sizes = _chosen(numbers, last), _chosen(sizes, last)
    return numbers, sizes


def _any_ids(body: bytes) -> tuple[array[int], list[str]]:
    numbers, ids = array("I"), list[str]()
    for found in _UNIQUE_ID_LINE.finditer(body):
        unique_id = found[2].rstrip(b" \t")
        fits = len(unique_id) <= LONGEST_UNIQUE_ID
        numbers.append(int(found[1]))
        ids.append(unique_id.decode("latin-1") if fits else TOO_LONG)
    if TOO_LONG in ids or not _ascends(numbers):
        alone = (places[0] for places in _places(numbers) if len(places) == 1)
        fit = [at for at in alone if ids[at] != TOO_LONG]
        numbers, ids = _chosen(numbers, fit), [ids[at] for at in fit]
    return numbers, ids


def parse_unique_id(text: str, number: MessageNumber) -> UniqueId | None:
    """
    Read the text of a +OK to UIDL with *number* (RFC 1939 §7); None where it has none.
    """
    found = parse_unique_id_listing(text.encode("latin-1"))
    return found.get(number)


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
