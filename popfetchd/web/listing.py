"""
Which accounts one view of the status page shows, and in which order.

Rules of this file:

- The view stands in the query of the address, all of it: a link is a view, and no script
  is needed. What a query says that we do not know is as if it were not said.
- What needs a person comes first where nobody asks for another order; equal ones stand
  in the order of their names.
- Pure: from the states of all accounts to the rows of one page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from operator import itemgetter
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlencode

from popfetchd.metrics import Condition
from popfetchd.report import standing
from popfetchd.values import NEVER, AccountName, AccountState


ROWS = 100
"""Accounts on one page: some screens, and 60 kB."""

LONGEST_SEARCH = 64
"""Characters that are looked for; no account's name is longer."""

LONGEST_NUMBER = 9
"""Digits of a page's number."""

Item = tuple[AccountName, AccountState]


class Sort(StrEnum):
    """
    A column to sort by.
    """

    NAME = "name"
    STATE = "state"
    LAST = "last"
    NEXT = "next"
    ARCHIVED = "archived"
    WAITING = "waiting"
    QUARANTINED = "quarantined"


LARGEST_FIRST = frozenset({Sort.LAST, Sort.ARCHIVED, Sort.WAITING, Sort.QUARANTINED})
"""What one wants to see at the top of these, when first sorting by them."""


@dataclass(frozen=True, slots=True)
class View:
    """
    What the reader wants to see. *text*: in an account's name; *page* counts from 1.
    """

    text: str = ""
    condition: Condition | None = None
    sort: Sort = Sort.STATE
    descending: bool = False
    page: int = 1

    def by(self, sort: Sort) -> View:
        """
        Return the view that the heading of a column leads to: the other way round where
        it is sorted by that already.
        """
        same = sort is self.sort
        descending = not self.descending if same else sort in LARGEST_FIRST
        return replace(self, sort=sort, descending=descending, page=1)

    def of(self, condition: Condition | None) -> View:
        """
        Return the view of accounts in this state, or of all.
        """
        return replace(self, condition=condition, page=1)

    def at(self, page: int) -> View:
        """
        Return another page of this view.
        """
        return replace(self, page=page)

    @property
    def order(self) -> str:
        """
        The column as a query names it; "" for the order nobody asked for.
        """
        word = f"-{self.sort}" if self.descending else str(self.sort)
        return "" if word == Sort.STATE else word

    @property
    def address(self) -> str:
        """
        The address of this view, with only what differs from the first one.
        """
        page = str(self.page) if self.page > 1 else ""
        pairs = {
            "q": self.text,
            "state": self.condition or "",
            "sort": self.order,
            "page": page,
        }
        query = urlencode({key: value for key, value in pairs.items() if value})
        return f"/?{query}" if query else "/"


def read(query: str) -> View:
    """
    Return the view that the *query* of an address asks for.
    """
    said = {key: values[-1].strip() for key, values in parse_qs(query).items()}
    order, page = said.get("sort", ""), said.get("page", "")
    sort = _named(Sort, order.removeprefix("-"))
    number = page.isascii() and page.isdigit() and len(page) <= LONGEST_NUMBER
    return View(
        text=said.get("q", "")[:LONGEST_SEARCH],
        condition=_named(Condition, said.get("state", "")),
        sort=sort or Sort.STATE,
        descending=sort is not None and order.startswith("-"),
        page=max(1, int(page)) if number else 1,
    )


Word = TypeVar("Word", bound=StrEnum)


def _named(choices: type[Word], word: str) -> Word | None:
    return next((choice for choice in choices if choice == word), None)


@dataclass(frozen=True, slots=True)
class Listing:
    """
    One page of a view: *rows*, of *found* accounts that fit it. *view*'s page exists.
    """

    view: View
    rows: tuple[Item, ...]
    found: int

    @property
    def pages(self) -> int:
        """
        How many pages there are; one at least.
        """
        return _pages(self.found)

    @property
    def first(self) -> int:
        """
        The number of the first row among those found, from 1.
        """
        return (self.view.page - 1) * ROWS + 1


def _pages(found: int) -> int:
    return max(1, -(-found // ROWS))


def listing(
    accounts: Mapping[AccountName, AccountState], view: View, now: float
) -> Listing:
    """
    Return the page of *accounts* that *view* asks for; the last, if it asks for more.

    *now* is in seconds since 1970.
    """
    fitting = sorted(_fitting(accounts.items(), view), key=itemgetter(0))
    fitting.sort(key=_key(view.sort, now), reverse=view.descending)
    view = view.at(min(view.page, _pages(len(fitting))))
    start = (view.page - 1) * ROWS
    return Listing(view, tuple(fitting[start : start + ROWS]), len(fitting))


def _fitting(items: Iterable[Item], view: View) -> Iterable[Item]:
    text = view.text.lower()  # names have no upper case
    for name, state in items:
        fits = view.condition is None or view.condition is Condition.of(state)
        if fits and text in name:
            yield name, state


def _key(sort: Sort, now: float) -> Callable[[Item], Any]:
    keys: dict[Sort, Callable[[Item], Any]] = {
        Sort.NAME: lambda item: item[0],
        Sort.STATE: lambda item: calm(item[1], now),
        Sort.LAST: lambda item: item[1].last_poll,
        Sort.NEXT: lambda item: item[1].next_poll or NEVER,
        Sort.ARCHIVED: lambda item: item[1].archived,
        Sort.WAITING: lambda item: item[1].waiting,
        Sort.QUARANTINED: lambda item: item[1].quarantined,
    }
    return keys[sort]


def calm(state: AccountState, now: float) -> int:
    """
    Return how little an account needs a person: 0 fails, 1 has something to look at.
    """
    if state.reason:
        return 0
    return 1 if any(True for _ in standing(state, now)) else 2
