"""
How a server differs: each quirk from the facts that show it, and none from a good one.
"""

from __future__ import annotations

import pytest

from hypothesis import given
from hypothesis import strategies as st

from popfetchd.errors import CommandRefused
from popfetchd.look.quirks import LONGEST_UNIQUE_ID, Seen, quirks
from popfetchd.pop3.replies import Capabilities
from popfetchd.pop3.session import Occasion
from popfetchd.values import DropListing, Listing, SessionId, TlsMode


NOW = 1_700_000_000.0

GOOD = b"PIPELINING\nTOP\nUIDL\nUSER\nSASL PLAIN\n"

REFUSED = CommandRefused("TOP", "no")

UNSET = object()


def seen(
    *,
    first=GOOD,
    stls=UNSET,
    login=GOOD,
    mode=TlsMode.IMPLICIT,
    octets=UNSET,
    ids=UNSET,
    stat=UNSET,
    top=b"Subject: x\r\n",
    refused=None,
):
    """
    Return what was seen of a server with two messages, good but for what is given.
    """
    octets = {1: 10, 2: 20} if octets is UNSET else octets
    ids = {1: "a", 2: "b"} if ids is UNSET else ids
    listing = Listing(SessionId("s"), octets, ids)
    answers = {Occasion.GREETING: first, Occasion.STLS: stls, Occasion.LOGIN: login}
    announced = {
        when: None if said is None else Capabilities.parse(said)
        for when, said in answers.items()
        if said is not UNSET
    }
    stat = listing.drop if stat is UNSET else stat
    return Seen(mode, announced, stat, listing, top, refused)


def named(facts):
    """
    Return the quirks' names.
    """
    return [quirk.name for quirk in quirks(facts, NOW)]


def test_a_good_server_has_none():
    """
    In clear, over TLS, or after STLS, which takes itself out of the capabilities.
    """
    assert [] == named(seen())
    assert [] == named(seen(first=GOOD + b"STLS\n", stls=GOOD, mode=TlsMode.STLS))
    assert [] == named(seen(first=GOOD + b"IMPLEMENTATION x\n"))
    assert [] == named(seen(octets={}, ids={}, top=None))


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("no-capa-before-login", {"first": None}),
        ("no-capa-after-login", {"login": None}),
        ("stls-unused", {"first": GOOD + b"STLS\n", "mode": TlsMode.NONE}),
        ("capa-differs", {"login": GOOD + b"X-MORE\n"}),
        ("capa-differs", {"first": GOOD + b"X-LESS\n"}),
        ("capa-differs", {"first": b"STLS\n", "stls": GOOD + b"X-LESS\n"}),
        ("no-pipelining", {"first": GOOD[11:], "login": GOOD[11:]}),
        ("uidl-not-announced", {"login": GOOD.replace(b"UIDL", b"SASL")}),
        ("top-not-announced", {"login": GOOD.replace(b"TOP", b"SASL")}),
        ("no-uidl", {"ids": {}}),
        ("no-list", {"octets": {}, "stat": DropListing(2, 30)}),
        ("no-top", {"top": REFUSED}),
        ("unique-ids-are-numbers", {"ids": {1: "1", 2: "2"}}),
        ("unique-ids-repeat", {"ids": {1: "a", 2: "a"}}),
        ("unique-ids-long", {"ids": {1: "a" * (LONGEST_UNIQUE_ID + 1), 2: "b"}}),
        ("unique-ids-strange", {"ids": {1: "a b", 2: "b"}}),
        ("unique-ids-missing", {"ids": {1: "a"}}),
        ("stat-counts-otherwise", {"stat": DropListing(3, 30)}),
        ("stat-measures-otherwise", {"stat": DropListing(2, 31)}),
        ("gaps", {"octets": {1: 10, 3: 20}, "ids": {1: "a", 3: "b"}}),
        ("quit-refused", {"refused": CommandRefused("QUIT", "no")}),
    ],
)
def test_each_quirk_is_seen(name, facts):
    """
    By what shows it, whatever else is seen with it.
    """
    assert name in named(seen(**facts))


@pytest.mark.parametrize(
    ("terms", "told"),
    [
        (b"LOGIN-DELAY 900", "900 s have to pass between two logins"),
        (b"EXPIRE 0", "messages may go once they were retrieved"),
        (b"EXPIRE 60", "messages are removed after 60 days"),
    ],
)
def test_the_servers_terms_are_told(terms, told):
    """
    RFC 2449 sections 6.5 and 6.7, with the figure that counts.
    """
    said = GOOD + terms + b"\n"
    (quirk,) = quirks(seen(first=said, login=said), NOW)
    assert told in quirk.text


@pytest.mark.parametrize("terms", [b"LOGIN-DELAY 0", b"EXPIRE NEVER", b"EXPIRE soon"])
def test_terms_that_bind_nobody_are_not(terms):
    """
    No delay, no expiry, nonsense.
    """
    said = GOOD + terms + b"\n"
    assert [] == named(seen(first=said, login=said))


def test_a_server_without_capa_is_told_once():
    """
    What follows from it is told too: nothing is announced.
    """
    found = named(seen(first=None, login=None))
    assert ["no-capa", "no-pipelining", "uidl-not-announced", "top-not-announced"] == (
        found
    )


def test_before_the_login_little_can_be_told():
    """
    Where the look ended there, nothing is said of what comes behind.
    """
    facts = Seen(TlsMode.IMPLICIT, {Occasion.GREETING: Capabilities()})
    assert [] == named(facts)


@pytest.mark.parametrize(
    ("date", "told"),
    [
        (b"Tue, 14 Nov 2023 22:13:20 +0000", False),
        (b"Tue, 14 Nov 2023 22:23:00 +0000", False),
        (b"Tue, 14 Nov 2023 22:24:00 +0000", True),
        (b"Tue, 14 Nov 2023 12:00:00 +0000", False),
        (b"yesterday", False),
    ],
)
def test_a_clock_that_is_ahead_is_told(date, told):
    """
    A message from the future, ten minutes away or more.
    """
    facts = seen(top=b"Received: by x; " + date + b"\r\nSubject: x\r\n")
    assert (["clock"] if told else []) == named(facts)


@given(
    first=st.none() | st.binary(max_size=60),
    login=st.none() | st.binary(max_size=60),
    ids=st.dictionaries(st.integers(1, 5), st.text(max_size=80), max_size=3),
    octets=st.dictionaries(st.integers(1, 5), st.integers(0, 9), max_size=3),
    top=st.binary(max_size=60) | st.just(REFUSED),
)
def test_whatever_a_server_says_each_quirk_is_printable(first, login, ids, octets, top):
    """
    Invariant: no facts raise, and no quirk's text can write to a terminal.
    """
    facts = seen(first=first, login=login, ids=ids, octets=octets, top=top)
    for quirk in quirks(facts, NOW):
        assert quirk.text.isprintable()
