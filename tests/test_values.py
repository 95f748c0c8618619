"""
Listings, secrets and reports: what these values say of themselves.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle

from pathlib import Path

import pytest

from popfetchd.errors import Interrupted
from popfetchd.values import (
    Account,
    AccountName,
    ArchiveFormat,
    Destination,
    DropListing,
    Every,
    InlineSecret,
    Listed,
    Listing,
    Login,
    Messages,
    Outcome,
    PollReport,
    Secret,
    Server,
    SessionId,
    TlsPolicy,
)


CANARY = "hunter2-canary"


# -- listings -------------------------------------------------------------------------


def listing(octets, unique_ids):
    """
    Return the listing of one session.
    """
    return Listing(SessionId("s"), octets, unique_ids)


def test_a_listing_knows_the_numbers_of_both():
    """
    A number may stand in one of the two listings only; each counts once, in order.
    """
    found = listing({3: 30, 1: 10}, {10: "j", 3: "c", 2: "b"})
    assert (1, 2, 3, 10) == found.numbers
    assert DropListing(4, 40) == found.drop


def test_an_empty_listing_is_an_empty_maildrop():
    """
    Nothing listed is nothing there.
    """
    found = listing({}, {})
    assert () == found.numbers
    assert DropListing(0, 0) == found.drop
    assert {} == found.repeated


def test_a_listing_counts_the_unique_ids_that_repeat():
    """
    A unique-id that stands twice says so in each of its messages.
    """
    found = listing({1: 10, 2: 20, 3: 30}, {1: "a", 2: "a", 3: "b"})
    assert {"a": 2} == found.repeated
    assert Listed("s", 1, "a", 10, times=2) == found.listed(1)
    assert Listed("s", 3, "b", 30, times=1) == found.listed(3)


def test_what_is_not_listed_is_not_made_up():
    """
    Without UIDL a message has no unique-id, without LIST no octets.
    """
    found = listing({1: 10}, {2: "b"})
    assert Listed("s", 1, None, 10) == found.listed(1)
    assert Listed("s", 2, "b", None) == found.listed(2)


def test_some_messages_of_a_listing():
    """
    Messages keep an order of their own, in slices too, and without some of them.
    """
    found = Messages(listing({1: 10, 2: 20, 3: 30}, {}), [3, 1, 2])
    assert [30, 10, 20] == [listed.octets for listed in found]
    assert (3, 2) == (found[0].number, found[-1].number)
    assert [1, 2] == found[1:].numbers
    assert [3, 2] == found.without({1}).numbers
    assert 3 == len(found)


# -- secrets --------------------------------------------------------------------------


def account():
    """
    Return an account whose secret is the canary.
    """
    return Account(
        AccountName("alice"),
        Server("pop.example.net", 995, TlsPolicy(), 60.0),
        Login("alice", InlineSecret(Secret(CANARY))),
        Destination(ArchiveFormat.MAILDIR, Path("/srv/mail")),
        Every(300.0),
    )


@pytest.mark.parametrize(
    "show",
    [
        repr,
        str,
        ascii,
        format,
        "{}".format,
        "{!r}".format,
        "%s".__mod__,
        lambda it: json.dumps(it, default=str),
    ],
)
@pytest.mark.parametrize(
    "holder", [Secret(CANARY), InlineSecret(Secret(CANARY)), account()]
)
def test_a_secret_does_not_show(show, holder):
    """
    However it, or what holds it, is turned into text, the secret is not in it.
    """
    shown = show(holder)
    assert CANARY not in shown
    assert "Secret(" in shown


def test_a_secret_has_no_format_of_its_own():
    """
    A format that would cut or pad it is refused.
    """
    with pytest.raises(TypeError) as refusal:
        format(Secret(CANARY), ">40")
    assert CANARY not in str(refusal.value)


@pytest.mark.parametrize(
    "leak", [pickle.dumps, copy.copy, copy.deepcopy, vars, iter, len, bytes]
)
def test_a_secret_does_not_leave_by_another_door(leak):
    """
    It is not pickled, copied, or looked into.
    """
    with pytest.raises(TypeError) as refusal:
        leak(Secret(CANARY))
    assert CANARY not in str(refusal.value)


def test_an_account_is_not_pickled_with_its_secret():
    """
    What holds a secret is as little to be pickled, nor turned into plain fields.
    """
    with pytest.raises(TypeError, match="a secret is not to be pickled"):
        pickle.dumps(account())
    with pytest.raises(TypeError, match="a secret is not to be pickled"):
        dataclasses.asdict(account())


def test_a_secret_is_revealed_on_request_only():
    """
    `reveal` gives it, to whoever asks in so many words; a comparison does not.
    """
    assert CANARY == Secret(CANARY).reveal()
    assert Secret(CANARY) != CANARY
    assert Secret(CANARY) != Secret(CANARY)


# -- reports --------------------------------------------------------------------------

FAILED = Interrupted()
ONE = ("message '1': refused",)


@pytest.mark.parametrize(
    ("failure", "failed_messages", "archived", "removed", "outcome"),
    [
        (None, (), 0, 0, Outcome.SUCCESS),
        (None, (), 5, 5, Outcome.SUCCESS),
        (None, ONE, 0, 0, Outcome.PARTIAL),
        (None, ONE, 5, 0, Outcome.PARTIAL),
        (FAILED, (), 0, 0, Outcome.FAILURE),
        (FAILED, (), 5, 0, Outcome.PARTIAL),
        (FAILED, (), 0, 5, Outcome.PARTIAL),
        (FAILED, ONE, 0, 0, Outcome.FAILURE),
        (FAILED, ONE, 5, 0, Outcome.PARTIAL),
    ],
)
def test_how_a_visit_ended(failure, failed_messages, archived, removed, outcome):
    """
    All well is a success; something done and something left is partial; else a failure.
    """
    report = PollReport(
        AccountName("alice"),
        10.0,
        12.5,
        failure,
        archived=archived,
        removed=removed,
        failed_messages=failed_messages,
    )
    assert outcome == report.outcome
    assert 2.5 == report.duration
