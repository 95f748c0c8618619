"""
Views of the status page: read from a query, written into one, and what they show.
"""

from __future__ import annotations

import pytest

from hypothesis import given
from hypothesis import strategies as st

from popfetchd.metrics import Condition
from popfetchd.values import NEVER, AccountState
from popfetchd.web import listing
from popfetchd.web.listing import ROWS, Sort, View


NOW = 1_800_000_000.0
ACCOUNTS = {
    "dora": AccountState(last_poll=NOW, next_poll=NOW + 9, archived=5),
    "bob": AccountState(last_poll=NOW - 9, next_poll=NOW + 1, reason="auth", waiting=4),
    "alice": AccountState(last_poll=NOW - 5, next_poll=NEVER, archived=9, waiting=4),
    "carol": AccountState(last_poll=NOW - 1, next_poll=NOW + 5, quarantined=1),
    "eve": AccountState(),
}

VIEWS = st.builds(
    View,
    st.text(st.characters(exclude_categories=["C", "Z"]), max_size=20),
    st.none() | st.sampled_from(Condition),
    st.sampled_from(Sort),
    st.booleans(),
    st.integers(1, 999_999_999),
)


def shown(view, accounts=ACCOUNTS):
    return [name for name, _ in listing.listing(accounts, view, NOW).rows]


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("", ["bob", "carol", "alice", "dora", "eve"]),
        ("-state", ["alice", "dora", "eve", "carol", "bob"]),
        ("name", ["alice", "bob", "carol", "dora", "eve"]),
        ("-name", ["eve", "dora", "carol", "bob", "alice"]),
        ("last", ["eve", "bob", "alice", "carol", "dora"]),
        ("next", ["bob", "carol", "dora", "alice", "eve"]),
        ("-archived", ["alice", "dora", "bob", "carol", "eve"]),
        ("-waiting", ["alice", "bob", "carol", "dora", "eve"]),
        ("-quarantined", ["carol", "alice", "bob", "dora", "eve"]),
    ],
)
def test_accounts_stand_in_the_order_asked_for(order, expected):
    """
    By each column, both ways; equal ones by name. First of all what needs a person.
    """
    assert expected == shown(listing.read(f"sort={order}"))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("q=o", ["bob", "carol", "dora"]),
        ("q=OB", ["bob"]),
        ("q=o&state=ok", ["carol", "dora"]),
        ("state=failing", ["bob"]),
        ("state=pending", ["eve"]),
        ("q=nobody", []),
    ],
)
def test_accounts_are_found_by_name_and_state(query, expected):
    """
    A part of the name is enough, in capitals too; both have to fit.
    """
    assert expected == shown(listing.read(f"{query}&sort=name"))


@pytest.mark.parametrize(
    "query",
    [
        *(
            "",
            "page=0",
            "page=-1",
            "page=x",
            "page=%00",
            "page=9999999999",
            "page=\u0663",
        ),
        *("sort=", "sort=x", "sort=--state", "state=", "state=x", "q=", "q=+", "x=y"),
        *("&&==&", "%", "page"),
    ],
)
def test_what_is_not_known_is_as_if_it_were_not_said(query):
    """
    A mistaken query is no error: it gives the first view.
    """
    assert View() == listing.read(query)
    assert "/" == View().address


@given(VIEWS)
def test_a_view_is_what_its_address_says(view):
    """
    Invariant: the address of a view leads back to that view.
    """
    address = view.address
    assert "/" == address[0]
    assert view == listing.read(address.removeprefix("/").removeprefix("?"))


@given(st.text())
def test_any_query_is_a_view(query):
    """
    Invariant: whatever a query says, there is a page for it.
    """
    listing.listing(ACCOUNTS, listing.read(query), NOW)


def test_pages_hold_all_accounts_once():
    """
    One after the other they are the whole listing; beyond the last is the last.
    """
    accounts = {f"a{n:03}": AccountState() for n in range(2 * ROWS + 1)}
    pages = [shown(View(page=n), accounts) for n in (1, 2, 3)]
    assert [ROWS, ROWS, 1] == [len(page) for page in pages]
    assert list(accounts) == [name for page in pages for name in page]
    last = listing.listing(accounts, View(page=99), NOW)
    assert (3, 3, 201, 201) == (last.view.page, last.pages, last.first, last.found)


def test_nothing_is_one_page():
    """
    An empty listing has a page too.
    """
    empty = listing.listing({}, View(page=4), NOW)
    assert (1, 1, ()) == (empty.view.page, empty.pages, empty.rows)


def test_a_heading_sorts_and_then_turns():
    """
    Numbers with the largest first, names from a; each again is the other way round.
    """
    by = View(page=7).by(Sort.ARCHIVED)
    assert ("-archived", 1) == (by.order, by.page)
    assert "archived" == by.by(Sort.ARCHIVED).order
    assert "name" == by.by(Sort.NAME).order


def test_another_state_begins_at_its_first_page():
    """
    What was chosen besides stays.
    """
    view = View("x", None, Sort.NAME, page=7).of(Condition.OK)
    assert View("x", Condition.OK, Sort.NAME) == view


def test_a_long_search_is_cut():
    """
    No name is longer than LONGEST_SEARCH.
    """
    assert listing.LONGEST_SEARCH == len(listing.read("q=" + "x" * 1000).text)
